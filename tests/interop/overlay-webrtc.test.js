// WebRTC as a second transport of the overlay: a peer of the npm package peer-relay, as it was published, in a real
// Chromium, and a broker that it knows through another one only. For builds with the cargo feature webrtc.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { Broker } from './support/broker.js';
import { launchBrowser } from './support/browser.js';
import { connectNode, disconnectAll, RELAY_EVENT } from './support/node.js';
import { within } from './support/wait.js';

const LIMIT_MS = 30_000;
const BINARY = process.env.BROKER_WEBRTC_BIN && resolve(process.env.BROKER_WEBRTC_BIN);
const PEERS = { PEER_RELAY_PATH: '/peers', PEER_RELAY_BRIDGE: 'true' };
const peersOf = (broker) => `ws://127.0.0.1:${broker.port}/peers`;

/**
 * No matter who begins: the browser asks the broker, the broker asks the browser, or both ask at the same time. And anyone who
 * ends it: the browser, the broker, or the broker because of what the browser sends.
 */
const CASES = {
  'the browser begins': { dial: 'bootstrap', browserBegins: true, end: 'peer_closed' },
  'the broker begins': { dial: 'any', browserBegins: false, end: 'draining' },
  'both begin': { dial: 'any', browserBegins: true, end: 'malformed' },
};

describe('a browser and a broker', { skip: !BINARY && 'BROKER_WEBRTC_BIN names no build with the feature' }, () => {
  let browser;
  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());

  for (const [title, { dial, browserBegins, end }] of Object.entries(CASES)) {
    test(`talk over a channel of their own: ${title}`, async () => {
      const hub = new Broker(PEERS);
      await hub.start();
      const broker = new Broker({ ...PEERS, PEER_RELAY_BOOTSTRAP: peersOf(hub), PEER_RELAY_WEBRTC: '127.0.0.1', PEER_RELAY_DIAL: dial }, BINARY);
      await broker.start();
      const page = await browser.openPage('/overlay');
      const run = async (what, script, argument) => {
        try {
          return await within(LIMIT_MS, page.evaluate(script, argument), what);
        } catch (error) {
          throw new Error([error.message, ...page.failures, broker.output].join('\n'), { cause: error });
        }
      };
      /** Waits until the browser has so many channels of this kind; their peers. */
      const channels = async (isWebRtc, count) => {
        for (let waited = 0; ; waited += 20) {
          const all = await run('neighbours', () => neighbours());
          const found = all.filter((one) => one.isWebRtc === isWebRtc).map((one) => one.id);
          if (found.length === count) return found;
          assert.ok(waited < LIMIT_MS, `${JSON.stringify(all)}\n${page.failures}\n${broker.output}`);
          await pause(20);
        }
      };
      const own = await run('start', ([bootstrap, begins]) => startPeer(bootstrap, begins), [[peersOf(hub)], browserBegins]);
      const [brokerId] = await channels(true, 1);
      const [hubId] = await channels(false, 1);
      assert.notEqual(brokerId, hubId);

      // Nothing but the channel is left to talk by.
      assert.equal(await hub.stop(), 0, hub.output);
      await channels(false, 0);
      const alice = await connectNode(broker, 'alice');
      const contents = ['hello \u{1F600}', 'x'.repeat(50_000), ...Array.from({ length: 200 }, (_, number) => `${number}`)];
      for (const content of contents) {
        await run('a message to the broker', ([to, data]) => sendTo(to, data), [brokerId, { to: 'alice', message: JSON.stringify({ content }) }]);
        const { event, args } = await alice.next();
        assert.equal(event, RELAY_EVENT);
        const message = JSON.parse(args[0]);
        assert.deepEqual([message.from, message.content], [own, content]);

        const text = JSON.stringify({ from: 'alice', to: own, content });
        assert.equal(await alice.ask(RELAY_EVENT, text), 'OK');
        const { data, from } = await run('a message to the browser', () => nextMessage());
        assert.deepEqual([data, from], [{ from: 'alice', message: text }, brokerId]);
      }

      const metric = async (line) => (await broker.http('/metrics')).body.includes(`${line}\n`);
      assert.ok(await metric('crolang_peer_relay_neighbours 1'));
      // The end of a channel is noticed at once, by either side.
      if (end === 'draining') {
        assert.equal(await broker.stop(), 0, broker.output);
      } else {
        if (end === 'malformed') await run('garbage', (id) => sendGarbageTo(id), brokerId);
        else await run('the end', (id) => disconnectFrom(id), brokerId);
        for (let waited = 0; !(await metric('crolang_peer_relay_neighbours 0')); waited += 20) {
          assert.ok(waited < 5_000, (await broker.http('/metrics')).body);
          await pause(20);
        }
        const ended = (await broker.http('/metrics')).body.includes(`channels_ended_total{reason="${end}"}`);
        assert.ok(ended, (await broker.http('/metrics')).body);
      }
      await channels(true, 0);
      if (end !== 'draining') assert.equal(await broker.stop(), 0, broker.output);
      assert.deepEqual(page.failures, []);
      disconnectAll();
      await page.close();
    });
  }
});
