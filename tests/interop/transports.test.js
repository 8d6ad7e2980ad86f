// WebSocket is the only transport. Clients that begin with HTTP polling fail to connect, as they did with the original,
// and plain requests get a clean 400 rather than half a handshake. The health page lives on the same port.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { connectNode, freshId, NODE_QUERY, openSocket } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent } from './support/wait.js';

/** The head of a WebSocket handshake, for requests that would be upgraded if only the query were right. */
const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

describe('transports', () => {
  const broker = suiteBroker();

  function path(parameters) {
    return `/socket.io/?${new URLSearchParams({ ...parameters, id: freshId('alice'), ...NODE_QUERY })}`;
  }

  for (const transports of [['polling'], ['polling', 'websocket']]) {
    test(`a client with ${transports.join(', then ')} never connects`, async () => {
      const socket = openSocket(broker, {
        query: { id: freshId('alice'), ...NODE_QUERY },
        transports,
        reconnection: true,
        reconnectionAttempts: 2,
        reconnectionDelay: 10,
      });
      const errors = [];
      socket.on('connect_error', (error) => errors.push(error));
      socket.on('connect', () => assert.fail('connected over polling'));
      const gaveUp = nextEvent(socket.io, 'reconnect_failed');
      socket.connect();
      await gaveUp;

      assert.equal(errors.length, 3);
      for (const error of errors) assert.equal(error.type, 'TransportError');
      assert.equal(socket.connected, false);
      await connectNode(broker, freshId('bob'));
    });
  }

  test('a client that tries polling first and then everything else connects over WebSocket', async () => {
    const node = await connectNode(broker, freshId('alice'), {
      transports: ['polling', 'websocket'],
      tryAllTransports: true,
    });

    assert.equal(node.socket.io.engine.transport.name, 'websocket');
  });

  const refused = {
    polling: { parameters: { EIO: '4', transport: 'polling' } },
    'an unknown transport': { parameters: { EIO: '4', transport: 'pigeon' } },
    'an unknown transport, upgraded': { parameters: { EIO: '4', transport: 'pigeon' }, headers: UPGRADE },
    'EIO=3, polling': { parameters: { EIO: '3', transport: 'polling' } },
    'EIO=3, upgraded': { parameters: { EIO: '3', transport: 'websocket' }, headers: UPGRADE },
    'POST, polling': { parameters: { EIO: '4', transport: 'polling' }, method: 'POST' },
    'POST, WebSocket': { parameters: { EIO: '4', transport: 'websocket' }, method: 'POST' },
  };
  for (const [name, { parameters, ...options }] of Object.entries(refused)) {
    test(`400: ${name}`, async () => {
      const { status } = await broker.http(path(parameters), options);

      assert.equal(status, 400);
    });
  }

  test('the same request with everything right is upgraded', async () => {
    const { status } = await broker.http(path({ EIO: '4', transport: 'websocket' }), { headers: UPGRADE });

    assert.equal(status, 101);
  });

  test('GET /health', async () => {
    const earliest = Date.now();
    const { status, headers, body } = await broker.http('/health');

    assert.equal(status, 200);
    assert.match(headers['content-type'], /^application\/json\b/);
    const health = JSON.parse(body);
    assert.deepEqual(Object.keys(health).sort(), ['status', 'timestamp']);
    assert.equal(health.status, 'ok');
    assert.ok(Number.isInteger(health.timestamp), 'milliseconds, a whole number');
    assert.ok(earliest <= health.timestamp && health.timestamp <= Date.now(), `a time between: ${body}`);
  });
});
