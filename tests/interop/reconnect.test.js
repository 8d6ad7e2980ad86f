// A broker that goes away must not cost a node its place: official clients come back by themselves after a closed
// transport, but not after a refusal or a disconnect packet. Hence an ending broker only closes transports, and a
// broker that is back lets everybody in again.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { authentication, connectNode, freshId } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent } from './support/wait.js';

/** The broker may take its whole shutdown window to close the connections. */
const SHUTDOWN_LIMIT_MS = 15_000;

/** Tries again quickly and for ever; the official nodes do the same, every 2 s. */
const RECONNECTING = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100, randomizationFactor: 0 };

for (const { signal, code } of [
  { signal: 'SIGTERM', code: 0 },
  { signal: 'SIGKILL', code: 'SIGKILL' },
]) {
  describe(`reconnect after ${signal}`, () => {
    const broker = suiteBroker();

    test('the nodes come back by themselves', async () => {
      const alice = await connectNode(broker, freshId('alice'), RECONNECTING);
      const bob = await connectNode(broker, freshId('bob'), RECONNECTING);
      const left = [alice, bob].map(({ socket }) => nextEvent(socket, 'disconnect', SHUTDOWN_LIMIT_MS));
      const back = [alice, bob].map(({ socket }) => nextEvent(socket, 'AUTHENTICATED', 2 * SHUTDOWN_LIMIT_MS));

      assert.equal(await broker.stop(signal), code, broker.output);
      for (const [reason] of await Promise.all(left)) {
        // Which of the two depends on how the client's TCP stack learns of it; it reconnects after both.
        assert.ok(['transport close', 'transport error'].includes(reason), `disconnected by "${reason}"`);
      }

      await broker.restart();
      for (const [text] of await Promise.all(back)) assert.equal(text, alice.authenticationText);
      const message = JSON.stringify({ from: alice.id, to: bob.id, content: 'we are back' });
      assert.equal(await alice.ask('SOCKET_MSG_EXCHANGE', message), 'OK');
      assert.deepEqual(await bob.next(), { event: 'SOCKET_MSG_EXCHANGE', args: [message] });
    });
  });
}

describe('reconnect after the network', () => {
  const broker = suiteBroker();

  test('a node whose transport broke gets its ID again', async () => {
    const alice = await connectNode(broker, freshId('alice'), RECONNECTING);
    const left = nextEvent(alice.socket, 'disconnect');
    const back = authentication(alice.socket);
    // No disconnect packet, only the transport ends.
    alice.socket.io.engine.close();

    const [reason] = await left;
    assert.equal(reason, 'forced close');
    assert.equal(await back, alice.authenticationText);
  });
});
