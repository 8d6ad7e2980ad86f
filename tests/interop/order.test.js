// Messages of one sender to one receiver never overtake each other, whatever events they are: an ICE candidate that
// arrives before its offer is lost for the nodes. The burst leaves the client in a few segments, so that the broker
// has every chance to mix it up.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { ALL_EVENTS, connectNodes } from './support/node.js';
import { suiteBroker } from './support/suite.js';

const BURST = 1000;

/** Message `index` of a burst: the events take turns, the sizes differ. */
function message(sender, receiver, index) {
  const event = ALL_EVENTS[(index * 3) % ALL_EVENTS.length];
  const content = 'x'.repeat((index * 37) % 500);
  return { event, text: JSON.stringify({ from: sender.id, to: receiver.id, index, content }) };
}

/** Sends a burst at once and checks that all of it arrived, in order and acknowledged. */
async function burst(sender, receiver) {
  const sent = Array.from({ length: BURST }, (_, index) => message(sender, receiver, index));
  const acks = await Promise.all(sent.map(({ event, text }) => sender.ask(event, text)));
  assert.deepEqual(acks, sent.map(() => 'OK'));
  for (const { event, text } of sent) assert.deepEqual(await receiver.next(), { event, args: [text] });
}

describe('order', () => {
  const broker = suiteBroker();

  test(`${BURST} messages over all events arrive as they were sent`, async () => {
    const [alice, bob] = await connectNodes(broker, 'alice', 'bob');
    await burst(alice, bob);
  });

  test('the same both ways at a time', async () => {
    const [alice, bob] = await connectNodes(broker, 'alice', 'bob');
    await Promise.all([burst(alice, bob), burst(bob, alice)]);
  });

  test('acknowledgements come in the order of the messages, also those that are not OK', async () => {
    const [alice, bob] = await connectNodes(broker, 'alice', 'bob');
    const answers = [];
    const kinds = [
      { text: JSON.stringify({ to: bob.id }), ack: 'OK' },
      { text: JSON.stringify({ to: 'nobody' }), ack: 'NOT_CONNECTED' },
      { text: 'not JSON', ack: 'ERROR' },
    ];
    const asked = Array.from({ length: 300 }, async (_, index) => {
      const { text, ack } = kinds[index % kinds.length];
      assert.equal(await alice.ask(ALL_EVENTS[index % ALL_EVENTS.length], text), ack);
      answers.push(index);
    });
    await Promise.all(asked);

    assert.deepEqual(answers, asked.map((_, index) => index));
  });
});
