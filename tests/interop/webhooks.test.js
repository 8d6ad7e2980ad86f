// The five webhooks with official parts on both sides of the broker: nodes with the official Socket.IO client, and a
// webhook server in Express, written as the published examples for the original broker are, signatures checked by the
// official Standard Webhooks library.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Webhook } from 'standardwebhooks';

import { Broker } from './support/broker.js';
import { HookServer, RTC_CONFIGURATION } from './support/hooks.js';
import { authentication, connectNode, disconnectAll, freshId, NODE_QUERY, openSocket } from './support/node.js';
import { nextEvent, SOON_MS } from './support/wait.js';

const MESSAGE = 'SOCKET_MSG_EXCHANGE';

/** Waits until `condition` holds. */
async function eventually(what, condition) {
  const limit = Date.now() + SOON_MS;
  while (!condition()) {
    if (Date.now() > limit) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A webhook server and a broker that asks it, for the tests of the surrounding `describe`. */
function suite(variables = {}, secret = undefined) {
  const parts = { hooks: new HookServer() };
  before(async () => {
    await parts.hooks.start({ secret });
    parts.broker = new Broker({ ...parts.hooks.variables, ...variables });
    await parts.broker.start();
  });
  after(async () => {
    disconnectAll();
    if (parts.broker?.started) assert.equal(await parts.broker.stop(), 0, `exit code\n${parts.broker.output}`);
    await parts.hooks.stop();
    assert.deepEqual(parts.hooks.failures, []);
  });
  return parts;
}

/** The query of a node that shows a token. */
function query(id, token) {
  return { id, ...NODE_QUERY, data: JSON.stringify({ token, note: 'a+b & grün' }) };
}

/** A node that the webhook server lets in. */
function comeIn({ hooks, broker }, name) {
  const id = freshId(name);
  hooks.passes.set(id, `token of ${id}`);
  return connectNode(broker, id, { query: query(id, `token of ${id}`) });
}

describe('webhooks written for the original', () => {
  const parts = suite();
  const { hooks } = parts;

  test('the right token lets in, with its data as the very text that the node sent', async () => {
    const { id } = await comeIn(parts, 'alice');

    const expected = { id, nodeId: id, data: query(id, `token of ${id}`).data };
    assert.deepEqual(hooks.bodies('/authenticate').at(-1), expected);
  });

  test('a wrong token and none are refused, and the client takes that as final', async () => {
    for (const data of [JSON.stringify({ token: 'wrong' }), undefined]) {
      const id = freshId('alice');
      hooks.passes.set(id, 'right');
      const socket = openSocket(parts.broker, {
        query: { id, ...NODE_QUERY, ...(data && { data }) },
        reconnection: true,
      });
      const refused = nextEvent(socket, 'connect_error');
      socket.connect();
      const [error] = await refused;
      assert.equal(error.message, 'authentication failed');
      assert.equal(socket.active, false);
    }
  });

  test('the wrapped RTC configuration arrives as JavaScript would have written it', async () => {
    const { id, authenticationText } = await comeIn(parts, 'alice');

    // Urls that are one text become a list, which all official nodes can read.
    const iceServers = RTC_CONFIGURATION.iceServers.map((server) => ({ ...server, urls: [server.urls].flat() }));
    assert.equal(authenticationText, JSON.stringify({ ...RTC_CONFIGURATION, iceServers }, null, 2));
    assert.deepEqual(hooks.bodies('/rtc').at(-1), { nodeId: id });
  });

  test('messages pass where they may, and answers to an attempt pass where they may not', async () => {
    const [alice, bob] = [await comeIn(parts, 'alice'), await comeIn(parts, 'bob')];
    hooks.forbidden.add(`${bob.id}>${alice.id}`);
    assert.equal(await alice.send(MESSAGE, { to: bob.id, content: 'hi' }), 'OK');
    assert.equal(await bob.send(MESSAGE, { to: alice.id }), 'UNAUTHORIZED');
    assert.equal(await bob.send('CONNECTION_ACCEPTANCE', { to: alice.id }), 'UNAUTHORIZED');
    assert.equal(await alice.send('CONNECTION_ATTEMPT', { to: bob.id }), 'OK');
    assert.equal(await bob.send('CONNECTION_ACCEPTANCE', { to: alice.id }), 'OK');
    assert.equal((await alice.next()).event, 'CONNECTION_ACCEPTANCE');
    assert.deepEqual(
      [(await bob.next()).event, (await bob.next()).event],
      [MESSAGE, 'CONNECTION_ATTEMPT'],
    );
    assert.deepEqual(
      hooks.bodies('/authorize').slice(-4).map(({ from, to }) => [from, to]),
      [[alice.id, bob.id], [bob.id, alice.id], [bob.id, alice.id], [alice.id, bob.id]],
    );
  });

  test('a server that never answers when it is told of messages delays none', async () => {
    const [alice, bob] = [await comeIn(parts, 'alice'), await comeIn(parts, 'bob')];
    const before = hooks.bodies('/message').length;
    const start = performance.now();
    for (let n = 0; n < 20; n += 1) {
      assert.equal(await alice.send(MESSAGE, { to: bob.id, n }), 'OK');
      assert.equal(JSON.parse((await bob.next()).args[0]).n, n);
    }
    assert.ok(performance.now() - start < 2_000);
    await eventually('all are told', () => hooks.bodies('/message').length >= before + 20);
    for (const body of hooks.bodies('/message').slice(before)) {
      assert.deepEqual(body, { senderId: alice.id, receiverId: bob.id, isReceiverConnected: true });
    }
  });

  test('a node that is no longer valid is disconnected and does not come back by itself', async () => {
    const alice = await comeIn(parts, 'alice');
    const id = freshId('bob');
    hooks.passes.set(id, 'b');
    const socket = openSocket(parts.broker, { query: query(id, 'b'), reconnection: true, reconnectionDelay: 50 });
    const authenticated = authentication(socket);
    socket.connect();
    await authenticated;
    const disconnected = nextEvent(socket, 'disconnect');
    hooks.banned.add(id);

    assert.equal((await disconnected)[0], 'io server disconnect');
    assert.equal(socket.active, false);
    assert.equal(await alice.send(MESSAGE, { to: id }), 'NOT_CONNECTED');
    assert.ok(alice.socket.connected);
  });

  test('while the server is away newcomers retry and nobody is disconnected', async () => {
    const alice = await comeIn(parts, 'alice');
    const id = freshId('bob');
    hooks.passes.set(id, 'b');
    hooks.isUp = false;
    const socket = openSocket(parts.broker, { query: query(id, 'b'), reconnection: true, reconnectionDelay: 50 });
    const authenticated = authentication(socket);
    const failed = nextEvent(socket, 'connect_error');
    socket.connect();
    await failed;
    assert.equal(socket.active, true, 'the client goes on trying');
    assert.equal(await alice.send(MESSAGE, { to: id }), 'ERROR');
    assert.ok(alice.socket.connected);
    hooks.isUp = true;
    await authenticated;
    assert.equal(await alice.send(MESSAGE, { to: id }), 'OK');
  });
});

describe('webhooks that want the data as an object', () => {
  const parts = suite({ AUTHENTICATION_DATA_FORMAT: 'object' });

  test('it is the object that the text stands for', async () => {
    const { id } = await comeIn(parts, 'alice');

    const { data } = parts.hooks.bodies('/authenticate').at(-1);
    assert.deepEqual(data, { token: `token of ${id}`, note: 'a+b & grün' });
  });
});

describe('webhooks that take only what is signed', () => {
  const secret = `whsec_${Buffer.from('0123456789abcdefghijklmnopqrstuv').toString('base64')}`;
  const old = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
  // Both secrets sign while one replaces the other; the server knows only the second.
  const parts = suite({ WEBHOOK_SECRET: `${old} ${secret}` }, secret);

  test('all five hooks are signed as the official library wants it', async () => {
    const [alice, bob] = [await comeIn(parts, 'älice'), await comeIn(parts, 'bob')];
    assert.equal(await alice.send(MESSAGE, { to: bob.id }), 'OK');
    const paths = ['/authenticate', '/authorize', '/validity', '/rtc', '/message'];
    await eventually('all are called', () => paths.every((path) => parts.hooks.bodies(path).length > 0));
    assert.deepEqual(parts.hooks.failures, []);
  });

  test('each call has an ID of its own, and its signature is good for no other body', async () => {
    await comeIn(parts, 'carol');
    const { calls } = parts.hooks;
    assert.equal(new Set(calls.map(({ headers }) => headers['webhook-id'])).size, calls.length);
    const { body, headers } = calls.find(({ path }) => path === '/authenticate');
    const webhook = new Webhook(secret);
    assert.throws(() => webhook.verify(JSON.stringify({ ...body, id: 'eve' }), headers));
    assert.deepEqual(webhook.verify(JSON.stringify(body), headers), body);
  });
});
