// A Crolang node for tests: the official Socket.IO client plus what every node does, i.e. waiting for AUTHENTICATED
// and sending JSON strings with an acknowledgement. What arrives is kept in an inbox, so that nothing is lost between
// two waits and a test can also see what should not have come.

import { io } from 'socket.io-client';

import { SOON_MS, within } from './wait.js';

export const SIGNALING_EVENTS = [
  'CONNECTION_ATTEMPT',
  'CONNECTION_ACCEPTANCE',
  'CONNECTION_REFUSAL',
  'INCOMING_CONNECTIONS_NOT_ALLOWED',
  'ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER',
  'ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR',
];
export const RELAY_EVENT = 'SOCKET_MSG_EXCHANGE';
export const ALL_EVENTS = [...SIGNALING_EVENTS, RELAY_EVENT];

/** What an official node sends beside its ID. */
export const NODE_QUERY = { version: '1.2.0', runtime: 'JVM' };

/** Longer than the 3 s that the broker may take to find out whether the holder of an ID is alive. */
const CONNECT_LIMIT_MS = 10_000;

const sockets = new Set();
let idsGiven = 0;

/** An ID that no other test of this file uses: tests must not meet each other's leftovers. */
export function freshId(name) {
  idsGiven += 1;
  return `${name}-${idsGiven}`;
}

/** A socket of the official client, not connected yet. `query` replaces the whole query, `url` the broker's address. */
export function openSocket(broker, { query, url = broker.url, ...options } = {}) {
  const socket = io(url, {
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
    autoConnect: false,
    query,
    ...options,
  });
  sockets.add(socket);
  return socket;
}

/** For `after` hooks: an open socket would keep the test process alive. */
export function disconnectAll() {
  for (const socket of sockets) socket.disconnect();
  sockets.clear();
}

/** Connects a node; resolves at AUTHENTICATED, rejects with the client's error at `connect_error`. */
export async function connectNode(broker, id, { query = {}, ...options } = {}) {
  const socket = openSocket(broker, { query: { id, ...NODE_QUERY, ...query }, ...options });
  const node = new TestNode(id, socket);
  const authenticated = authentication(socket);
  socket.connect();
  node.authenticationText = await authenticated;
  node.rtcConfiguration = JSON.parse(node.authenticationText);
  return node;
}

/** Several nodes with fresh IDs. */
export function connectNodes(broker, ...names) {
  return Promise.all(names.map((name) => connectNode(broker, freshId(name))));
}

/** The argument of the next AUTHENTICATED event. Ask before connecting: the event may come in the same segment. */
export function authentication(socket) {
  const outcome = new Promise((resolve, reject) => {
    socket.once('AUTHENTICATED', resolve);
    // A client that reconnects reports each failed try; only when it gives up is the wait over.
    socket.on('connect_error', (error) => {
      if (!socket.active || !socket.io.reconnection()) reject(error);
    });
  });
  return within(CONNECT_LIMIT_MS, outcome, 'AUTHENTICATED');
}

class TestNode {
  #arrived = [];
  #waiting = [];

  constructor(id, socket) {
    this.id = id;
    this.socket = socket;
    socket.onAny((event, ...args) => {
      if (event === 'AUTHENTICATED') return;
      const taker = this.#waiting.shift();
      if (taker) taker({ event, args });
      else this.#arrived.push({ event, args });
    });
  }

  /** Sends `object` as the protocol wants it, one JSON string, and returns the acknowledgement. */
  send(event, object) {
    return this.ask(event, JSON.stringify(object));
  }

  /** Sends any arguments and returns the acknowledgement, which must be exactly one value. */
  ask(event, ...args) {
    return new Promise((resolve, reject) => {
      this.socket.timeout(SOON_MS).emit(event, ...args, (error, ...answers) => {
        if (error) reject(new Error(`${event} from ${this.id}: no acknowledgement within ${SOON_MS} ms`));
        else if (answers.length !== 1) reject(new Error(`${event}: acknowledged with ${answers.length} values`));
        else resolve(answers[0]);
      });
    });
  }

  /** The oldest message that was not taken yet: `{ event, args }`. */
  next() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return within(SOON_MS, new Promise((resolve) => this.#waiting.push(resolve)), `message for ${this.id}`);
  }
}
