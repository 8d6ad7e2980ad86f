// A webhook server as operators wrote them for the original broker: an Express application with one route per hook.
// It reads `id` where the documentation says `nodeId`, wraps the RTC configuration, and never answers when it is told of
// a message. With a secret it takes only what the official Standard Webhooks library finds to be signed.

import { once } from 'node:events';

import express from 'express';
import { Webhook } from 'standardwebhooks';

/** Keys in an order and values in forms that another program would write differently. */
export const RTC_CONFIGURATION = {
  iceServers: [
    { urls: ['stun:stun.example:3478'] },
    { username: 'grün', urls: 'turn:turn.example:3478?transport=udp', password: 'a/b"c' },
  ],
  iceTransportPolicy: 'all',
  bundlePolicy: 'max-bundle',
  rtcpMuxPolicy: 'require',
  iceCandidatePoolSize: 10,
  custom: { list: [1, 0.5, null, true], nothing: {} },
};

export class HookServer {
  /** Every request that was taken: `{ path, body, headers }`. */
  calls = [];
  /** What was wrong with requests that were not taken. */
  failures = [];
  /** The data with which nodes get in, by their ID. */
  passes = new Map();
  /** Pairs `from>to` that may not communicate. */
  forbidden = new Set();
  /** Nodes that may not stay. */
  banned = new Set();
  /** Whether it is there at all; if not, it answers as a gateway in front of it would. */
  isUp = true;
  #server;
  #sockets = new Set();

  async start({ secret } = {}) {
    const app = express();
    app.use((request, response, next) => (this.isUp ? next() : response.status(502).send('<h1>Bad Gateway</h1>')));
    app.use(express.json({ verify: (request, response, text) => this.#verify(secret, request, text) }));
    app.use((request, response, next) => {
      this.calls.push({ path: request.path, body: request.body, headers: request.headers });
      next();
    });
    app.post('/authenticate', (request, response) => {
      const { id, data } = request.body;
      // Some were written for an object, some for the text that the node sent.
      const { token } = typeof data === 'string' ? JSON.parse(data) : (data ?? {});
      response.json({ authenticated: token !== undefined && this.passes.get(id) === token });
    });
    app.post('/authorize', (request, response) => {
      const { from, to } = request.body;
      response.json({ authorized: !this.forbidden.has(`${from}>${to}`) });
    });
    app.post('/validity', (request, response) => {
      const { connectedNodesIds } = request.body;
      response.json({ invalidNodesIds: connectedNodesIds.filter((id) => this.banned.has(id)) });
    });
    app.post('/rtc', (request, response) => response.json({ rtcConfiguration: RTC_CONFIGURATION }));
    app.post('/message', () => {});
    // Express knows a handler of errors by its four parameters.
    app.use((error, request, response, _next) => {
      this.failures.push(`${request.path}: ${error.message}`);
      response.status(401).json({ error: error.message });
    });
    this.#server = app.listen(0, '127.0.0.1');
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    await once(this.#server, 'listening');
  }

  #verify(secret, request, text) {
    if (secret) new Webhook(secret).verify(text, request.headers);
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** The variables by which a broker asks all five hooks. */
  get variables() {
    return {
      NODES_AUTHENTICATION_WEBHOOK_URL: `${this.url}/authenticate`,
      AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL: `${this.url}/authorize`,
      NODES_VALIDITY_CHECK_WEBHOOK_URL: `${this.url}/validity`,
      NODES_STATUS_CHECK_INTERVAL_MS: '100',
      RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL: `${this.url}/rtc`,
      ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL: `${this.url}/message`,
    };
  }

  /** The bodies that came on one path. */
  bodies(path) {
    return this.calls.filter((call) => call.path === path).map((call) => call.body);
  }

  async stop() {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
