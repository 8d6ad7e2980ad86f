// Peers of peer-relay networks: those of the npm package, unmodified and in this process, so that whatever brings one
// down fails the test; and those of this project, from crates/peer-relay/examples/echo-peer.rs.

import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

import PeerRelay from 'peer-relay';

import { BINARY } from './broker.js';
import { within } from './wait.js';

const ECHO_PEER = process.env.ECHO_PEER_BIN || join(dirname(BINARY), 'examples', 'echo-peer');

/** While a network forms a message may be lost; so it is sent again, this often. */
const AGAIN_MS = 300;
const DELIVERED_LIMIT_MS = 40_000;

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** What the two kinds have in common: `id` (hexadecimal), `url`, `stop()`. */
export class NpmPeer {
  /** What came and was not looked at yet: `{ from, data }`. */
  #arrived = [];
  #waiting = new Map();

  static async start(bootstrap) {
    const peer = new NpmPeer();
    peer.relay = new PeerRelay({ port: 0, bootstrap });
    peer.id = peer.relay.id.toString('hex');
    peer.relay.on('message', (data, from) => peer.#take(data, from.toString('hex')));
    const server = peer.relay.wsConnector._wss;
    if (!server._server.listening) await within(5_000, new Promise((resolve) => server.once('listening', resolve)), 'listening');
    peer.url = `ws://localhost:${server._server.address().port}`;
    return peer;
  }

  /** Sends until `key` comes back in an answer of one of the two kinds. */
  async ask(to, message, key) {
    const answered = new Promise((resolve) => this.#waiting.set(key, resolve));
    let isAnswered = false;
    const sending = (async () => {
      while (!isAnswered) {
        this.relay.send(Buffer.from(to, 'hex'), message);
        await pause(AGAIN_MS);
      }
    })();
    try {
      return await within(DELIVERED_LIMIT_MS, answered, `an answer of ${to} to ${key}`);
    } finally {
      isAnswered = true;
      await sending;
    }
  }

  #take(data, from) {
    if (data?.echo) this.relay.send(Buffer.from(from, 'hex'), { echoed: data.echo });
    else if (data?.pass) this.relay.send(Buffer.from(data.pass[0], 'hex'), { echo: { for: from, content: data.pass[1] } });
    else if (data?.echoed?.for) this.relay.send(Buffer.from(data.echoed.for, 'hex'), { passed: data.echoed.content });
    else this.#waiting.get(data?.echoed ?? data?.passed)?.(from);
  }

  stop() {
    return new Promise((resolve) => this.relay.destroy(resolve));
  }
}

export class RustPeer {
  static async start(bootstrap) {
    const peer = new RustPeer();
    peer.child = spawn(ECHO_PEER, ['0', ...bootstrap], { stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(peer.child);
    const lines = createInterface(peer.child.stdout);
    const read = new Promise((resolve) => {
      lines.on('line', (line) => {
        if (line.startsWith('ID ')) peer.id = line.slice(3);
        if (line.startsWith('LISTENING ')) resolve((peer.url = `ws://${line.slice(10)}`));
      });
    });
    await within(10_000, read, `start of ${ECHO_PEER}`);
    return peer;
  }

  async stop() {
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGKILL');
    running.delete(this.child);
    await ended;
  }
}

/** Starts peers one after the other, of the kinds in `kinds`; `known(n)` says which of those before it peer n knows. */
export async function network(kinds, known, extra = []) {
  const peers = [];
  for (const [number, Kind] of kinds.entries()) {
    const bootstrap = [...known(number).map((other) => peers[other].url), ...extra];
    peers.push(await Kind.start(bootstrap));
  }
  return peers;
}

/** Every pair exchanges a message, from the first to the second and back; those of this project are asked to do it. */
export async function allPairsDeliver(peers) {
  const asker = peers.find((peer) => peer instanceof NpmPeer);
  const pairs = peers.flatMap((from) => peers.filter((to) => to !== from).map((to) => [from, to]));
  await Promise.all(
    pairs.map(async ([from, to]) => {
      const key = `${from.id}>${to.id}`;
      if (from === asker) await from.ask(to.id, { echo: key }, key);
      else await asker.ask(from.id, { pass: [to.id, key] }, key);
    }),
  );
}

export async function stopAll(peers) {
  await Promise.all(peers.map((peer) => peer.stop()));
}
