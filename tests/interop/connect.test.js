// The way in: what an official client gets when it is accepted. The RTC configuration travels as a JSON string, and
// nodes read it with their own parsers, so that its exact form is part of the contract.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { connectNode, connectNodes, freshId, NODE_QUERY, openSocket } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent } from './support/wait.js';

describe('connect', () => {
  const broker = suiteBroker();

  test('AUTHENTICATED carries one argument, a JSON string indented by 2', async () => {
    const socket = openSocket(broker, { query: { id: freshId('alice'), ...NODE_QUERY } });
    const authenticated = nextEvent(socket, 'AUTHENTICATED');
    socket.connect();
    const args = await authenticated;

    assert.equal(args.length, 1);
    const [text] = args;
    assert.equal(typeof text, 'string');
    assert.equal(text, JSON.stringify(JSON.parse(text), null, 2));
  });

  test('without a webhook the configuration is the documented one', async () => {
    const { rtcConfiguration } = await connectNode(broker, freshId('alice'));

    const hosts = ['stun', 'stun1', 'stun2', 'stun3', 'stun4'];
    const urls = rtcConfiguration.iceServers.flatMap((server) => server.urls);
    assert.deepEqual(urls, hosts.map((host) => `stun:${host}.l.google.com:19302`));
    for (const server of rtcConfiguration.iceServers) {
      assert.ok(Array.isArray(server.urls) && server.urls.length > 0, 'each ICE server has urls');
    }
    assert.equal(rtcConfiguration.iceTransportPolicy, 'all');
    assert.equal(rtcConfiguration.bundlePolicy, 'max-bundle');
    assert.equal(rtcConfiguration.rtcpMuxPolicy, 'require');
    assert.equal(rtcConfiguration.iceCandidatePoolSize, 10);
  });

  test('the handshake offers no other transport and names the usual limits', async () => {
    const socket = openSocket(broker, { query: { id: freshId('alice'), ...NODE_QUERY } });
    socket.connect();
    const [handshake] = await nextEvent(socket.io.engine, 'handshake');

    const { sid, ...rest } = handshake;
    assert.match(sid, /^[\w-]+$/);
    assert.deepEqual(rest, { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 });
  });

  test('`data` in the query does no harm when no webhook reads it', async () => {
    const data = JSON.stringify({ token: 'a+b & c=d', note: 'grün' });
    const node = await connectNode(broker, freshId('alice'), { query: { data } });

    assert.ok(node.socket.connected);
  });

  test('`version`, `runtime` and `data` may be empty', async () => {
    const node = await connectNode(broker, freshId('alice'), { query: { version: '', runtime: '', data: '' } });

    assert.ok(node.socket.connected);
  });

  test('IDs that mean something elsewhere are ordinary IDs', async () => {
    for (const id of ['__proto__', '*', 'a:b', 'socket.io#/#', 'mit Blank', 'a+b', '50%', 'ä🙂', 'x'.repeat(256)]) {
      const node = await connectNode(broker, id);
      const ack = await node.send('SOCKET_MSG_EXCHANGE', { from: id, to: id, content: 'to myself' });

      assert.equal(ack, 'OK', `ID ${id}`);
      assert.equal(JSON.parse((await node.next()).args[0]).content, 'to myself', `ID ${id}`);
    }
  });

  test('many nodes side by side', async () => {
    const nodes = await connectNodes(broker, ...Array.from({ length: 50 }, (_, index) => `node${index}`));

    assert.ok(nodes.every((node) => node.socket.connected));
  });
});
