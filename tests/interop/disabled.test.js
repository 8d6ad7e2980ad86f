// The two switches. What is switched off answers DISABLED before anything else is looked at, because nodes tell "not
// allowed here" from "went wrong" by it; the other half goes on as if nothing were.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { connectNodes, RELAY_EVENT, SIGNALING_EVENTS } from './support/node.js';
import { suiteBroker } from './support/suite.js';

/** The tests for a broker started with `variables`: these events are off, those are on. */
function switchedOff({ title, variables, off, on }) {
  describe(title, () => {
    const broker = suiteBroker(variables);

    test('DISABLED whatever the payload, and nothing is relayed', async () => {
      const [alice, bob] = await connectNodes(broker, 'alice', 'bob');
      const payloads = [
        [JSON.stringify({ from: alice.id, to: bob.id })],
        [JSON.stringify({ from: bob.id, to: bob.id })],
        [JSON.stringify({ from: alice.id, to: 'nobody' })],
        [JSON.stringify({})],
        ['not JSON'],
        [{ to: bob.id }],
        [null],
        [],
        ['two', 'arguments'],
        [Buffer.from('binary')],
      ];
      for (const event of off) {
        for (const payload of payloads) assert.equal(await alice.ask(event, ...payload), 'DISABLED', event);
        alice.socket.emit(event, payloads[0][0]);
      }

      const text = JSON.stringify({ from: alice.id, to: bob.id, content: 'the first one' });
      assert.equal(await alice.ask(on[0], text), 'OK');
      assert.deepEqual(await bob.next(), { event: on[0], args: [text] });
    });

    test('the other events work', async () => {
      const [alice, bob] = await connectNodes(broker, 'alice', 'bob');
      for (const event of on) {
        const text = JSON.stringify({ from: alice.id, to: bob.id });
        assert.equal(await alice.ask(event, text), 'OK');
        assert.deepEqual(await bob.next(), { event, args: [text] });
        assert.equal(await alice.ask(event, 'not JSON'), 'ERROR');
        assert.equal(await alice.send(event, { to: 'nobody' }), 'NOT_CONNECTED');
      }
    });
  });
}

switchedOff({
  title: 'P2P_CONNECTION_ENABLED=false',
  variables: { P2P_CONNECTION_ENABLED: 'false' },
  off: SIGNALING_EVENTS,
  on: [RELAY_EVENT],
});

switchedOff({
  title: 'WEBSOCKET_RELAY_ENABLED=False',
  // In another case on purpose: the variable's value may be written in any.
  variables: { WEBSOCKET_RELAY_ENABLED: 'False', P2P_CONNECTION_ENABLED: 'TRUE' },
  off: [RELAY_EVENT],
  on: SIGNALING_EVENTS,
});
