// What the broker is for: two nodes that cannot see each other meet there and leave with a channel of their own. Two
// pages of a real Chromium, each with the official client, negotiate a WebRTC data channel through the broker.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launchBrowser } from './support/browser.js';
import { suiteBroker } from './support/suite.js';
import { within } from './support/wait.js';

/** Negotiating takes long where many interfaces are tried. */
const NEGOTIATION_LIMIT_MS = 30_000;

describe('webrtc', () => {
  const broker = suiteBroker();
  let browser;
  let alice;
  let bob;
  before(async () => {
    browser = await launchBrowser();
    [alice, bob] = await Promise.all([browser.openPage(), browser.openPage()]);
  });
  after(() => browser?.close());

  /** Runs `script`, which sees the names of browser/peer.js, in the page of a node. */
  async function run(page, what, script, argument) {
    try {
      return await within(NEGOTIATION_LIMIT_MS, page.evaluate(script, argument), what);
    } catch (error) {
      throw new Error([error.message, ...page.failures, broker.output].join('\n'), { cause: error });
    }
  }

  async function talk(from, to, text) {
    const hearing = run(to, `hearing "${text}"`, () => hear());
    await run(from, `saying "${text}"`, (words) => say(words), text);
    assert.equal(await hearing, text);
  }

  test('a browser takes the configuration that comes with AUTHENTICATED', async () => {
    const joinAs = (page, id) => run(page, `${id} joins`, ([url, ownId]) => join(url, ownId), [broker.url, id]);
    const [configuration] = await Promise.all([joinAs(alice, 'alice'), joinAs(bob, 'bob')]);

    assert.ok(configuration.iceServers.length > 0);
    assert.ok(configuration.iceServers.every((server) => server.urls.length > 0));
    assert.equal(configuration.iceTransportPolicy, 'all');
    assert.equal(configuration.bundlePolicy, 'max-bundle');
    assert.equal(configuration.iceCandidatePoolSize, 10);
  });

  test('a data channel opens', async () => {
    await run(alice, 'alice dials', () => dial('bob'));
    const opening = [alice, bob].map((page) => run(page, 'open channel', () => channelOpen));
    await Promise.all(opening);
    // One side's candidates are enough for that, so the other's may still be on their way.
    await Promise.all([alice, bob].map((page) => run(page, 'candidate', () => candidateArrived)));
  });

  test('everything that this took went through the broker, and nothing else did', async () => {
    const [fromAlice, fromBob] = await Promise.all([alice, bob].map((page) => run(page, 'journal', () => journal)));
    const events = (journal, direction) => {
      const entries = journal.filter((entry) => entry.direction === direction);
      return [...new Set(entries.map((entry) => entry.event))].sort();
    };
    const initiator = ['CONNECTION_ATTEMPT', 'ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER'];
    const responder = ['CONNECTION_ACCEPTANCE', 'ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR'];

    assert.deepEqual(events(fromAlice, 'sent'), initiator);
    assert.deepEqual(events(fromBob, 'received'), initiator);
    assert.deepEqual(events(fromBob, 'sent'), responder);
    assert.deepEqual(events(fromAlice, 'received'), responder);
    for (const { envelope } of [...fromAlice, ...fromBob]) {
      // Otherwise the channel could have opened without the exchange of candidates.
      assert.doesNotMatch(envelope.sessionDescription?.sdp ?? '', /^a=candidate:/m);
    }
  });

  test('messages go both ways over the channel', async () => {
    await talk(alice, bob, 'hello Bob 🙂');
    await talk(bob, alice, 'hello Alice');
    await talk(alice, bob, 'x'.repeat(60_000));
  });

  test('the channel outlives the broker', async () => {
    assert.equal(await broker.stop(), 0, broker.output);
    await talk(alice, bob, 'are you there?');
    await talk(bob, alice, 'I am');
    assert.deepEqual([...alice.failures, ...bob.failures], []);
  });
});
