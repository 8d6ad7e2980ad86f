// The way not in. A refusal reaches the official client as `connect_error` with an exact message and is final: it does
// not try again by itself. Hence only what will not change may be refused, and a live holder keeps its ID.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { connectNode, freshId, NODE_QUERY, openSocket } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent } from './support/wait.js';

const missing = (key) => `server side exception: Error: Missing required OnConnectionData value: ${key}`;

describe('refusals', () => {
  const broker = suiteBroker();

  /** Connects with exactly this query and returns the refusal's message; anything else fails. */
  async function refusal({ query, ...options }) {
    const socket = openSocket(broker, { query, reconnection: true, ...options });
    const refused = nextEvent(socket, 'connect_error');
    socket.connect();
    const [error] = await refused;
    assert.equal(socket.active, false, 'the client takes the refusal as final');
    return error.message;
  }

  for (const key of ['id', 'version', 'runtime']) {
    test(`without \`${key}\``, async () => {
      const { [key]: _, ...query } = { id: freshId('alice'), ...NODE_QUERY };

      assert.equal(await refusal({ query }), missing(key));
    });
  }

  test('without anything the ID is named first', async () => {
    assert.equal(await refusal({ query: {} }), missing('id'));
    assert.equal(await refusal({ query: { id: freshId('alice') } }), missing('version'));
  });

  const wrongIds = {
    empty: '',
    'of blanks': '   ',
    'with a blank at its end': 'alice ',
    'with a line break': 'ali\nce',
    'of 257 bytes': 'x'.repeat(257),
  };
  for (const [name, id] of Object.entries(wrongIds)) {
    test(`an ID ${name}`, async () => {
      // Of a node on the JVM, blanks at the ends would be taken for the pluses that it does not encode.
      const query = { id, ...NODE_QUERY, runtime: 'BROWSER' };
      assert.equal(await refusal({ query }), missing('id'));
    });
  }

  test('an ID given twice', async () => {
    // The client's options cannot say this, but it writes the path as it is in front of `?` and the query: the first
    // pair goes there, and the key that the question mark spoils is one that nobody reads.
    const path = `/socket.io/?id=${freshId('alice')}&`;
    const query = { spoiled: '', id: freshId('alice'), ...NODE_QUERY };

    assert.equal(await refusal({ path, addTrailingSlash: false, query }), missing('id'));
  });

  test('an ID that a live node holds; the holder keeps working', async () => {
    const holder = await connectNode(broker, freshId('alice'));
    const bob = await connectNode(broker, freshId('bob'));

    const message = await refusal({ query: { id: holder.id, ...NODE_QUERY } });
    assert.equal(message, 'client already connected');

    assert.ok(holder.socket.connected);
    assert.equal(await bob.send('SOCKET_MSG_EXCHANGE', { to: holder.id, content: 'still there?' }), 'OK');
    assert.equal(JSON.parse((await holder.next()).args[0]).content, 'still there?');
    assert.equal(await holder.send('SOCKET_MSG_EXCHANGE', { to: bob.id, content: 'yes' }), 'OK');
    assert.equal(JSON.parse((await bob.next()).args[0]).content, 'yes');
  });

  test('an ID is free as soon as its holder left', async () => {
    const id = freshId('alice');
    const timesMs = [];
    for (let round = 0; round < 20; round += 1) {
      const holder = await connectNode(broker, id);
      const start = performance.now();
      holder.socket.disconnect();
      const next = await connectNode(broker, id);
      timesMs.push(performance.now() - start);
      const gone = nextEvent(next.socket, 'disconnect');
      next.socket.disconnect();
      await gone;
    }

    // Nobody was refused. The median, because a busy machine may be late once; asking a silent holder takes far longer.
    const median = timesMs.sort((a, b) => a - b)[timesMs.length / 2];
    assert.ok(median < 100, `leaving and coming back took ${median} ms`);
  });
});
