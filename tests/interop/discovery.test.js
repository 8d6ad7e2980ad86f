// Discovery from the outside: Node's own fetch as a client program, and the example page in two browsers.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launchBrowser } from './support/browser.js';
import { suiteBroker } from './support/suite.js';
import { SOON_MS, within } from './support/wait.js';

/** Negotiating takes long where many interfaces are tried. */
const NEGOTIATION_LIMIT_MS = 30_000;

describe('discovery with fetch', () => {
  const broker = suiteBroker({ STORAGE_TYPE: 'memory' });

  async function ask(path, body) {
    const request = body && { method: 'POST', body: JSON.stringify(body) };
    const answer = await within(SOON_MS, fetch(broker.url + path, request), path);
    return { status: answer.status, body: await answer.json() };
  }

  test('two programs exchange everything by a topic with any characters', async () => {
    const topic = 'ä/b c? 🙂 #%';
    const path = `/${encodeURIComponent(topic)}`;
    const info = 'x'.repeat(1024);
    const { body: made } = await ask(`${path}/offer`, { info, offer: 'offer' });
    assert.match(made.code, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const { code } = made;
    const lonely = 'half of 🙂: \ud83d';
    await ask('/answer', { code, side: 'offerer', candidate: lonely });

    assert.deepEqual((await ask('/')).body.topics, [{ topic, count: 1 }]);
    const { sessions } = (await ask(`${path}/sessions`)).body;
    assert.equal(sessions.length, 1);
    const { createdAt, expiresAt, ...rest } = sessions[0];
    assert.deepEqual(rest, { code, info, offer: 'offer', offerCandidates: [lonely], peerId: info });
    assert.equal(expiresAt - createdAt, 300_000);
    assert.ok(Math.abs(createdAt - Date.now()) < 60_000);

    const waiting = ask('/poll', { code, side: 'offerer', wait: 4_000 });
    await ask('/answer', { code, side: 'answerer', answer: 'answer' });
    assert.deepEqual((await waiting).body, { answer: 'answer', answerCandidates: [] });
    assert.deepEqual((await ask(`${path}/sessions`)).body, { sessions: [] });
    assert.deepEqual(await ask('/poll', { code, side: 'nobody' }), {
      status: 400,
      body: { error: 'Invalid or missing parameter: side (must be "offerer" or "answerer")' },
    });
  });

  test('new sessions are events', async () => {
    const stream = await within(SOON_MS, fetch(`${broker.url}/news/events`), 'stream');
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    const { body } = await ask('/news/offer', { info: 'i', offer: 'o' });
    let text = '';
    while (!text.includes(body.code)) {
      const { value } = await within(SOON_MS, reader.read(), 'event');
      text += value;
    }
    assert.match(text, /event: session\ndata: \{/);
    await reader.cancel();
  });
});

describe('the example page', () => {
  const broker = suiteBroker({ STORAGE_TYPE: 'memory', CORS_ORIGINS: '*' });
  let browser;
  before(async () => (browser = await launchBrowser()));
  after(() => browser?.close());

  async function open(topic) {
    const query = new URLSearchParams({ topic, broker: broker.url });
    return browser.openPage(`/discovery/?${query}`);
  }

  /** Waits until an element of a page has a text. */
  async function shows(page, id, text) {
    const showing = page.waitForFunction(
      ([name, part]) => document.getElementById(name).textContent.includes(part),
      [id, text],
      { timeout: NEGOTIATION_LIMIT_MS },
    );
    await showing.catch(async (error) => {
      const state = await page.textContent('body');
      throw new Error([error.message, state, ...page.failures, broker.output].join('\n'), { cause: error });
    });
  }

  async function say(page, text) {
    await page.fill('#text', text);
    await page.click('#say');
  }

  async function talk(one, other) {
    await Promise.all([shows(one, 'state', 'connected'), shows(other, 'state', 'connected')]);
    await say(one, 'hello 🙂');
    await shows(other, 'log', 'they: hello 🙂');
    await say(other, 'hello to you');
    await shows(one, 'log', 'they: hello to you');
    assert.deepEqual([...one.failures, ...other.failures], []);
  }

  test('two browsers meet by topic, one after the other', async () => {
    const alice = await open('a lobby/1');
    await shows(alice, 'state', 'waiting');
    await talk(alice, await open('a lobby/1'));
  });

  test('two browsers meet by topic at the same time', async () => {
    const [alice, bob] = await Promise.all([open('rush'), open('rush')]);
    await talk(alice, bob);
    const list = await broker.http('/rush/sessions', { headers: { Origin: new URL(alice.url()).origin } });
    const left = JSON.parse(list.body).sessions;
    // Also if both made one: the younger is given up.
    assert.deepEqual(left, []);
  });

  test('an offer whose page is gone is passed over', async () => {
    const gone = await open('ghosts');
    await shows(gone, 'state', 'waiting');
    await gone.close();
    const alice = await open('ghosts');
    await shows(alice, 'state', 'waiting');
    await talk(alice, await open('ghosts'));
  });

  test('the channel outlives the broker', async () => {
    const alice = await open('last');
    await shows(alice, 'state', 'waiting');
    const bob = await open('last');
    await talk(alice, bob);
    assert.equal(await broker.stop(), 0, broker.output);
    await say(alice, 'still there?');
    await shows(bob, 'log', 'they: still there?');
    await broker.restart();
  });
});
