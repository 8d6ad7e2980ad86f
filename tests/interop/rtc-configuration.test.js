// Which RTC configurations the broker takes, beside what `RTCPeerConnection` of Chromium takes. What the broker takes, a
// browser must take, or its nodes have no configuration at all. What it refuses, a browser refuses too, apart from what
// is listed here with the reason.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { BINARY } from './support/broker.js';
import { launchBrowser } from './support/browser.js';

const CREDENTIALS = { username: 'u', credential: 'p' };
const STUN = { urls: ['stun:a'] };
const server = (urls, more) => ({ iceServers: [{ urls, ...more }] });
const turn = (more) => server(['turn:a'], more);
const policy = (name, values) => values.map((value) => ({ iceServers: [STUN], [name]: value }));

/** Both must say the same. */
const SAME = [
  ...['stun:a', 'STUN:a:1', 'stuns:a:5349', 'stun:1.2.3.4', 'stun:[::1]:3478', 'stun:[::ffff:1.2.3.4]', 'stun:%41', 'stun:a_b', 'stun:a~b!', 'stun:a.', 'stun:-a', 'stun:a:01'],
  ...['stun', 'stun:', 'stun::1', 'stun:a:', 'stun:a:0', 'stun:a:65536', 'stun:a:x', 'stun:a:+1', 'stun://a', 'stun:a/b', 'stun:a#b', 'stun:u@a', 'stun:a b', 'stun:2001:db8::1', 'stun:[::1', 'stun:a?transport=udp', 'http:a', ''],
].map((url) => server([url]));
SAME.push(
  ...['turn:a', 'turns:a:1?transport=tcp', 'turn:[::1]?transport=udp', 'turn:%41', 'turn:?transport=udp', 'turn:a?', 'turn:a?transport=sctp', 'turn:a?x=udp', 'turn:a?transport=udp&x=y', 'turn:a:0?transport=udp', 'turn://a', 'turn:a#b', 'turn:u@a'].map((url) => server([url], CREDENTIALS)),
  server('stun:a'),
  server(['stun:a', 'turn:b'], CREDENTIALS),
  ...[[], [1], null, ['stun:a', null], ['stun:a', 'https://b'], undefined].map((urls) => server(urls)),
  { iceServers: {} },
  ...[{}, { username: 'u' }, { credential: 'p' }, { username: '', credential: 'p' }, { username: 'u', credential: '' }].map(turn),
  ...['x'.repeat(509), 'x'.repeat(510), 'ü'.repeat(254), 'ü'.repeat(255)].map((username) => turn({ username, credential: 'p' })),
  turn({ ...CREDENTIALS, credentialType: 'password' }),
  server(['stun:a'], { username: 'u' }),
  ...policy('iceTransportPolicy', ['all', 'relay', 'public', '']),
  ...policy('bundlePolicy', ['balanced', 'max-compat', 'max-bundle', 'none']),
  ...policy('rtcpMuxPolicy', ['require', 'negotiate', 'Require']),
  ...policy('iceCandidatePoolSize', [0, 10, 255, 256, -1]),
);

/** Browsers take these. The official nodes do not: their parser wants each field's own type, and at least one server. */
const REFUSED_FOR_NODES = [
  { iceServers: [] },
  turn({ username: 1, credential: 'p' }),
  turn({ username: null, credential: 'p' }),
  ...policy('iceCandidatePoolSize', [1.5, '10', null]),
  // Not URLs of RFC 7064 and 7065: nobody says what they mean.
  ...[' stun:a', 'stun:ä', 'stun:%4', 'stun:[a]', 'stun:[::1]1'].map((url) => server([url])),
  server(['turn:a?transport=UDP'], CREDENTIALS),
];

/** The official node on the JVM knows these, browsers do not. */
const TAKEN_FOR_NODES = policy('iceTransportPolicy', ['nohost', 'none']);

describe('RTC configurations', () => {
  const directory = mkdtempSync(join(tmpdir(), 'crolang-rtc-'));
  let browser;
  let page;
  before(async () => {
    browser = await launchBrowser();
    page = await browser.openPage();
  });
  after(async () => {
    rmSync(directory, { recursive: true, force: true });
    await browser?.close();
  });

  function isTakenByBroker(configuration) {
    const file = join(directory, 'rtc.json');
    writeFileSync(file, JSON.stringify(configuration));
    const env = { PATH: process.env.PATH, RTC_CONFIGURATION_FILE: file };
    const { status, stderr } = spawnSync(BINARY, ['--check-config'], { cwd: directory, env, encoding: 'utf8' });
    assert.ok(status === 0 || status === 2, `exit code ${status}: ${stderr}`);
    return status === 0;
  }

  function isTakenByBrowser(configuration) {
    return page.evaluate((json) => {
      try {
        new RTCPeerConnection(JSON.parse(json)).close();
        return true;
      } catch {
        return false;
      }
    }, JSON.stringify(configuration));
  }

  async function verdicts(configurations) {
    const found = [];
    for (const configuration of configurations) {
      const [broker, chromium] = [isTakenByBroker(configuration), await isTakenByBrowser(configuration)];
      found.push({ configuration: JSON.stringify(configuration).slice(0, 120), broker, chromium });
    }
    return found;
  }

  test('the broker and Chromium take the same', async () => {
    const found = await verdicts(SAME);
    assert.deepEqual(found.filter(({ broker, chromium }) => broker !== chromium), []);
    assert.ok(found.some(({ broker }) => broker) && found.some(({ broker }) => !broker));
  });

  test('the exceptions are those that the official nodes need', async () => {
    const refused = await verdicts(REFUSED_FOR_NODES);
    assert.deepEqual(refused.filter(({ broker, chromium }) => broker || !chromium), []);
    const taken = await verdicts(TAKEN_FOR_NODES);
    assert.deepEqual(taken.filter(({ broker, chromium }) => !broker || chromium), []);
  });
});
