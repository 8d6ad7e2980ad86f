// Who is there? Nodes ask before they dial. The answer is again a JSON string and keeps the question's order, because
// nodes pair the two lists by position.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';

import { connectNode, connectNodes, freshId } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { SOON_MS } from './support/wait.js';

const EVENT = 'ARE_NODES_CONNECTED_TO_BROKER';
const MAX_IDS = 1000;

describe('presence', () => {
  const broker = suiteBroker();
  let alice;
  let bob;
  before(async () => {
    [alice, bob] = await connectNodes(broker, 'alice', 'bob');
  });

  /** The text of the answer that says this of these IDs. */
  const answer = (...results) => JSON.stringify({ results: results.map(([id, connected]) => ({ id, connected })) });

  test('the order of the question is kept, duplicates too', async () => {
    const ids = ['nobody', bob.id, alice.id, 'nobody', bob.id];
    const expected = answer(['nobody', false], [bob.id, true], [alice.id, true], ['nobody', false], [bob.id, true]);

    assert.equal(await alice.send(EVENT, { ids }), expected);
  });

  test('IDs are trimmed, also in the answer', async () => {
    const ids = [`  ${bob.id}\t\n`, `\u00a0\ufeff${alice.id}\u2028`, ' nobody '];

    assert.equal(await alice.send(EVENT, { ids }), answer([bob.id, true], [alice.id, true], ['nobody', false]));
  });

  test('no question, no answer', async () => {
    assert.equal(await alice.send(EVENT, { ids: [] }), '{"results":[]}');
  });

  test('IDs that need escaping come back as the same strings', async () => {
    const ids = ['"quoted"', 'back\\slash', '🙂', 'a/b', 'in\u2028side'];
    const { results } = JSON.parse(await alice.send(EVENT, { ids }));

    assert.deepEqual(results, ids.map((id) => ({ id, connected: false })));
  });

  test('fields beside `ids` do not matter', async () => {
    assert.equal(await alice.send(EVENT, { from: 'x', ids: [bob.id], more: [1] }), answer([bob.id, true]));
  });

  test('a node is there from AUTHENTICATED until it leaves', async () => {
    const id = freshId('carol');
    assert.equal(await alice.send(EVENT, { ids: [id] }), answer([id, false]));
    const carol = await connectNode(broker, id);
    assert.equal(await alice.send(EVENT, { ids: [id] }), answer([id, true]));

    carol.socket.disconnect();
    const deadline = performance.now() + SOON_MS;
    let text;
    do {
      text = await alice.send(EVENT, { ids: [id] });
    } while (text !== answer([id, false]) && performance.now() < deadline);
    assert.equal(text, answer([id, false]));
  });

  test(`${MAX_IDS} IDs are fine, one more is an ERROR`, async () => {
    const ids = Array.from({ length: MAX_IDS }, (_, index) => `nobody-${index}`);
    ids[MAX_IDS - 1] = bob.id;
    const expected = ids.map((id) => [id, id === bob.id]);

    assert.equal(await alice.send(EVENT, { ids }), answer(...expected));
    assert.equal(await alice.send(EVENT, { ids: [...ids, 'one more'] }), 'ERROR');
  });

  const wrong = {
    'not JSON': ['hello'],
    'not an object': ['null'],
    'no `ids`': ['{}'],
    '`ids` that is no list': [JSON.stringify({ ids: 'alice' })],
    'a blank ID': [JSON.stringify({ ids: ['alice', ' \u00a0'] })],
    'an empty ID': [JSON.stringify({ ids: [''] })],
    'a number as ID': [JSON.stringify({ ids: ['alice', 7] })],
    'null as ID': [JSON.stringify({ ids: [null] })],
    'an object instead of a string': [{ ids: ['alice'] }],
    'no argument': [],
    'two arguments': ['{"ids":[]}', '{"ids":[]}'],
    'a binary argument': [Buffer.from('{"ids":[]}')],
  };
  for (const [name, args] of Object.entries(wrong)) {
    test(`ERROR: ${name}`, async () => {
      assert.equal(await alice.ask(EVENT, ...args), 'ERROR');
    });
  }

  test('a question without an acknowledgement is ignored', async () => {
    alice.socket.emit(EVENT, JSON.stringify({ ids: [bob.id] }));
    alice.socket.emit(EVENT, 'not JSON');
    alice.socket.emit(EVENT);

    assert.equal(await alice.send(EVENT, { ids: [bob.id] }), answer([bob.id, true]));
  });
});
