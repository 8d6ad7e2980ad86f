// Messages between two nodes: the seven events, the acknowledgements and, above all, that the payload arrives as the
// very text that was sent. Nodes of other languages write JSON in their own ways, and none of it is the broker's business.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';

import { ALL_EVENTS, connectNodes, RELAY_EVENT } from './support/node.js';
import { suiteBroker } from './support/suite.js';

describe('relay', () => {
  const broker = suiteBroker();
  let alice;
  let bob;
  before(async () => {
    [alice, bob] = await connectNodes(broker, 'alice', 'bob');
  });

  /** Alice sends `text`, Bob must get it unchanged and alone. */
  async function arrives(event, text) {
    assert.equal(await alice.ask(event, text), 'OK');
    assert.deepEqual(await bob.next(), { event, args: [text] });
  }

  /** The message is answered with `ack` and reaches nobody: the next thing that Bob gets is what is sent after it. */
  async function isAnswered(ack, event, ...args) {
    assert.equal(await alice.ask(event, ...args), ack);
    await arrives(RELAY_EVENT, JSON.stringify({ to: bob.id, content: 'the next one' }));
  }

  for (const event of ALL_EVENTS) {
    test(`${event} arrives, both ways`, async () => {
      await arrives(event, JSON.stringify({ platformFrom: 'JVM', from: alice.id, to: bob.id, sessionId: 's1' }));
      const back = JSON.stringify({ from: bob.id, to: alice.id, sessionDescription: { type: 'offer', sdp: 'v=0\r\n' } });
      assert.equal(await bob.ask(event, back), 'OK');
      assert.deepEqual(await alice.next(), { event, args: [back] });
    });

    test(`${event} to nobody is NOT_CONNECTED`, async () => {
      assert.equal(await alice.send(event, { from: alice.id, to: 'nobody' }), 'NOT_CONNECTED');
    });
  }

  // Each is the JSON text of the field `content`, as some node might write it.
  const oddContents = {
    'a number with a useless fraction': '1.0',
    'numbers that no double holds': '[1e400, 12345678901234567890.10, -0]',
    'escaped slashes': String.raw`"a\/b"`,
    'escapes of plain letters': String.raw`"\u0061\u00e9"`,
    'lone surrogates, escaped': String.raw`"\ud800 and \udfff"`,
    'lone surrogates, bare': '"\ud800 and \udfff"',
    emoji: '"🙂👩‍🚀"',
    'line and paragraph separators': '"\u2028\u2029"',
    'an escaped NUL and a DEL': String.raw`"\u0000` + '\u007f"',
    'doubled quotes and backslashes': String.raw`"\"\\\\\" \\\""`,
    'what looks like frames': String.raw`"42[\"EV\",\"x\"]]\u001e2"`,
    'a key given twice': '{"a":1,"a":2}',
    'half a megabyte': `"${'0123456789'.repeat(50_000)}"`,
  };
  for (const [name, content] of Object.entries(oddContents)) {
    test(`unchanged: ${name}`, async () => {
      await arrives(RELAY_EVENT, `{"from":"${alice.id}","to":"${bob.id}","content":${content}}`);
    });
  }

  test('unchanged: blanks around and inside the JSON text', async () => {
    await arrives(RELAY_EVENT, ` \t\r\n{ "to" :\t"${bob.id}" ,\n"content" : [ ] } \n\n`);
  });

  test('`to` is trimmed as JavaScript trims', async () => {
    await arrives(RELAY_EVENT, JSON.stringify({ from: alice.id, to: ` \t\n${bob.id} \u00a0\ufeff\u2028` }));
  });

  test('a message without `from` is relayed as it is', async () => {
    await arrives(RELAY_EVENT, JSON.stringify({ to: bob.id, content: 'anonymous' }));
  });

  test('a message to oneself is delivered', async () => {
    const text = JSON.stringify({ from: alice.id, to: alice.id, content: 'note' });
    assert.equal(await alice.ask(RELAY_EVENT, text), 'OK');
    assert.deepEqual(await alice.next(), { event: RELAY_EVENT, args: [text] });
  });

  test('a message without an acknowledgement is relayed', async () => {
    for (const event of ALL_EVENTS) {
      const text = JSON.stringify({ from: alice.id, to: bob.id });
      alice.socket.emit(event, text);
      assert.deepEqual(await bob.next(), { event, args: [text] });
    }
  });

  test('what is wrong is an ERROR and reaches nobody', async () => {
    const good = JSON.stringify({ from: alice.id, to: bob.id });
    const wrong = {
      'not JSON': ['hello'],
      'cut off JSON': [good.slice(0, -1)],
      'something behind the JSON': [`${good}]`],
      'empty text': [''],
      'JSON, but no object': ['null'],
      'an array': [`["${bob.id}"]`],
      'no `to`': [JSON.stringify({ from: alice.id })],
      'a blank `to`': [JSON.stringify({ from: alice.id, to: ' \u00a0\ufeff' })],
      'a `to` that is no string': [JSON.stringify({ from: alice.id, to: 7 })],
      'a forged `from`': [JSON.stringify({ from: bob.id, to: bob.id })],
      'an object instead of a string': [{ from: alice.id, to: bob.id }],
      'a number': [1],
      nothing: [null],
      'no argument': [],
      'two arguments': [good, good],
      'a binary argument': [Buffer.from(good)],
      'a binary argument behind a good one': [good, Buffer.from('x')],
    };
    for (const event of ALL_EVENTS) {
      for (const [name, args] of Object.entries(wrong)) {
        await isAnswered('ERROR', event, ...args).catch((error) => {
          throw new Error(`${event} with ${name}: ${error.message}`, { cause: error });
        });
      }
    }
  });

  test('an unknown event that asks for an acknowledgement gets ERROR', async () => {
    await isAnswered('ERROR', 'NO_SUCH_EVENT', JSON.stringify({ to: bob.id }));
    await isAnswered('ERROR', 'AUTHENTICATED', JSON.stringify({ to: bob.id }));
  });
});
