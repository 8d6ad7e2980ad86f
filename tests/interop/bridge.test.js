// The bridge: a node, which is an official Socket.IO client, and a peer of the npm package peer-relay write to each other.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import PeerRelay from 'peer-relay';

import { connectNode, RELAY_EVENT } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent } from './support/wait.js';

describe('the bridge', () => {
  const broker = suiteBroker({ PEER_RELAY_PATH: '/peers', PEER_RELAY_BRIDGE: 'true' });

  test('a node and a peer talk', async () => {
    const alice = await connectNode(broker, 'alice');
    const peer = new PeerRelay({ bootstrap: [`ws://127.0.0.1:${broker.port}/peers`] });
    try {
      const [neighbour] = await nextEvent(peer, 'peer');
      const own = peer.id.toString('hex');
      // A peer hears of the broker a little sooner than the other way round; what it sends first comes behind its ID.
      peer.send(neighbour, { to: alice.id, message: JSON.stringify({ channel: 'chat', content: 'hello \u{1F600}' }) });
      const { event, args } = await alice.next();
      assert.equal(event, RELAY_EVENT);
      const { versionFrom, ...first } = JSON.parse(args[0]);
      assert.match(versionFrom, /^\d+\.\d+\.\d+/);
      assert.deepEqual(first, { from: own, to: alice.id, channel: 'chat', content: 'hello \u{1F600}', platformFrom: 'PEER_RELAY' });

      const answered = nextEvent(peer, 'message');
      const text = JSON.stringify({ from: alice.id, to: first.from, channel: 'chat', content: 'hi' });
      assert.equal(await alice.ask(RELAY_EVENT, text), 'OK');
      const [data, from] = await answered;
      assert.ok(from.equals(neighbour));
      assert.deepEqual(data, { from: alice.id, message: text });

      // An answer in the form that the documentation shows.
      const { channel, content } = JSON.parse(data.message);
      peer.send(from, { to: data.from, message: JSON.stringify({ channel, content: `you said ${content}` }) });
      assert.equal(JSON.parse((await alice.next()).args[0]).content, 'you said hi');
    } finally {
      peer.destroy(() => {});
    }
  });
});
