// The example webhook server behind the broker, all five hooks set and signed: what an operator who starts from it gets.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { BINARY, Broker } from './support/broker.js';
import { authentication, connectNode, disconnectAll, NODE_QUERY, openSocket } from './support/node.js';
import { nextEvent } from './support/wait.js';

const SERVER_BINARY = process.env.WEBHOOK_SERVER_BIN || join(dirname(BINARY), 'examples', 'webhook-server');
const KEY = Buffer.alloc(32, 7);
const SECRET = `whsec_${KEY.toString('base64')}`;
const TURN_SECRET = 'north';

describe('the example webhook server', () => {
  let server, lines, url, broker;

  before(async () => {
    const env = {
      PORT: '0',
      TOKENS: 'alice=a,bob=b,carol=c',
      PAIRS: 'alice>bob',
      STUN_URLS: 'stun:127.0.0.1:3478',
      TURN_URLS: 'turn:127.0.0.1:3478',
      TURN_SECRET,
      WEBHOOK_SECRET: SECRET,
    };
    server = spawn(SERVER_BINARY, [], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    lines = createInterface(server.stdout);
    const [first] = await nextEvent(lines, 'line');
    url = first.replace('listening on ', '');
    broker = new Broker({
      NODES_AUTHENTICATION_WEBHOOK_URL: `${url}/authentication`,
      AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL: `${url}/authorization`,
      NODES_VALIDITY_CHECK_WEBHOOK_URL: `${url}/validity`,
      NODES_STATUS_CHECK_INTERVAL_MS: '200',
      RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL: `${url}/rtc-configuration`,
      ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL: `${url}/socket-message`,
      WEBHOOK_SECRET: SECRET,
    });
    await broker.start();
  });
  after(async () => {
    disconnectAll();
    if (broker?.started) assert.equal(await broker.stop(), 0, broker.output);
    server?.kill();
  });

  const connect = (id, token) => connectNode(broker, id, { query: { data: JSON.stringify({ token }) } });

  test('a token lets in, another one does not', async () => {
    await connect('carol', 'c');
    await assert.rejects(connect('alice', 'b'), /^Error: authentication failed$/);
  });

  test('the login of the quickstart prints what the page shows', async () => {
    // Node looks for the official client beside the program, and here it is among this suite's packages.
    const program = fileURLToPath(new URL('./node_modules/login.mjs', import.meta.url));
    copyFileSync(fileURLToPath(new URL('../../examples/login.mjs', import.meta.url)), program);
    try {
      const login = (token) => promisify(execFile)(process.execPath, [program, 'alice', token, broker.url]);
      const admitted = await login('a');
      const refused = await login('b').then(assert.fail, (error) => error);
      assert.equal(refused.code, 1);
      const page = readFileSync(new URL('../../doc/guides/quickstart.md', import.meta.url), 'utf8');
      assert.ok(page.includes(`alice north\n${admitted.stdout}`), admitted.stdout);
      assert.ok(page.includes(`alice south\n${refused.stdout}`), refused.stdout);
    } finally {
      rmSync(program);
    }
  });

  test('TURN credentials are signed for the node', async () => {
    const { rtcConfiguration, socket } = await connect('alice', 'a');
    socket.disconnect();
    const turn = rtcConfiguration.iceServers.find((entry) => [entry.urls].flat()[0].startsWith('turn:'));
    assert.match(turn.username, /^\d+:alice$/);
    assert.equal(turn.password, createHmac('sha1', TURN_SECRET).update(turn.username).digest('base64'));
    assert.equal(turn.credential, turn.password);
  });

  test('pairs that are listed communicate, and each message is audited', async () => {
    const [alice, bob] = [await connect('alice', 'a'), await connect('bob', 'b')];
    const audit = nextEvent(lines, 'line');
    assert.equal(await alice.send('SOCKET_MSG_EXCHANGE', { from: 'alice', to: 'bob', content: 'hi' }), 'OK');
    assert.equal(await bob.send('SOCKET_MSG_EXCHANGE', { from: 'bob', to: 'alice' }), 'UNAUTHORIZED');
    assert.equal(await alice.send('CONNECTION_ATTEMPT', { from: 'alice', to: 'bob' }), 'OK');
    assert.equal(await bob.send('CONNECTION_ACCEPTANCE', { from: 'bob', to: 'alice' }), 'OK');
    assert.match((await audit)[0], /alice.*bob/);
  });

  test('a banned node is disconnected and stays out', async () => {
    disconnectAll();
    const carol = openSocket(broker, {
      query: { id: 'carol', ...NODE_QUERY, data: JSON.stringify({ token: 'c' }) },
      reconnection: true,
    });
    const connected = authentication(carol);
    carol.connect();
    await connected;
    const ended = nextEvent(carol, 'disconnect');
    await signed('/ban', { id: 'carol' });

    assert.equal((await ended)[0], 'io server disconnect');
    assert.equal(carol.active, false, 'the client does not come back by itself');
    await assert.rejects(connect('carol', 'c'), /^Error: authentication failed$/);
  });

  async function signed(path, object) {
    const [id, timestamp, body] = ['msg_1', Math.floor(Date.now() / 1000), JSON.stringify(object)];
    const signature = createHmac('sha256', KEY).update(`${id}.${timestamp}.${body}`).digest('base64');
    const answer = await fetch(`${url}${path}`, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': `${timestamp}`,
        'webhook-signature': `v1,${signature}`,
      },
    });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
  }
});
