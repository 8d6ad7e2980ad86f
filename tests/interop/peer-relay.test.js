// Networks of peers of the npm package peer-relay and of this project: every pair delivers, whatever the shape.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import PeerRelay from 'peer-relay';

import { Broker } from './support/broker.js';
import { allPairsDeliver, network, NpmPeer, RustPeer, stopAll } from './support/peers.js';
import { suiteBroker } from './support/suite.js';
import { nextEvent, within } from './support/wait.js';

const SHAPES = {
  star: () => (number) => (number === 0 ? [] : [0]),
  chain: () => (number) => (number === 0 ? [] : [number - 1]),
  ring: (size) => (number) => [...(number === 0 ? [] : [number - 1]), ...(number === size - 1 && size > 2 ? [0] : [])],
  random: () => (number) => (number === 0 ? [] : [(number * 7919) % number]),
};

/** Kinds of peers, taking turns in one way or another. */
const MIXES = {
  'npm first': (number) => (number % 2 ? RustPeer : NpmPeer),
  'this one first': (number) => (number % 2 ? NpmPeer : RustPeer),
};

describe('mixed networks', () => {
  for (const [shape, known] of Object.entries(SHAPES)) {
    for (const [mix, kind] of Object.entries(MIXES)) {
      for (const size of [2, 8]) {
        test(`${shape} of ${size}, ${mix}`, async () => {
          const peers = await network(Array.from({ length: size }, (_, number) => kind(number)), known(size));
          try {
            await allPairsDeliver(peers);
          } finally {
            await stopAll(peers);
          }
        });
      }
    }
  }

  test('a fifth of the peers leaves and others come', async () => {
    let peers = await network(Array.from({ length: 15 }, (_, n) => (n % 3 ? RustPeer : NpmPeer)), SHAPES.random());
    try {
      await allPairsDeliver(peers);
      const gone = [peers[1], peers[2], peers[4]];
      peers = peers.filter((peer) => !gone.includes(peer));
      await stopAll(gone);
      for (const Kind of [NpmPeer, RustPeer]) peers.push(await Kind.start([peers[0].url]));
      await allPairsDeliver(peers);
    } finally {
      await stopAll(peers);
    }
  });
});

describe('the broker as a peer', () => {
  const broker = suiteBroker({ PEER_RELAY_PATH: '/peers' });
  const url = () => `ws://127.0.0.1:${broker.port}/peers`;
  const peers = [];
  after(() => stopAll(peers));

  /** Clients that the broker has for neighbours: a client hears of the broker a little sooner than the other way round. */
  async function clients(count) {
    const started = Array.from({ length: count }, () => new PeerRelay({ bootstrap: [url()] }));
    const isKnown = async () => (await broker.http('/metrics')).body.includes(`crolang_peer_relay_neighbours ${count}\n`);
    for (let waited = 0; !(await isKnown()); waited += 10) {
      assert.ok(waited < 5_000, 'all are neighbours in time');
      await pause(10);
    }
    return started;
  }

  test('peers that cannot listen reach each other through it', async () => {
    const [alice, bob] = await clients(2);
    const texts = Array.from({ length: 200 }, (_, number) => `message ${number} \u{1F600}`);
    const received = [];
    const all = new Promise((resolve) => {
      bob.on('message', (data, from) => {
        assert.ok(from.equals(alice.id));
        if (received.push(data) === texts.length) resolve();
      });
    });
    for (const text of texts) alice.send(bob.id, text);
    await within(5_000, all, 'all messages');
    assert.deepEqual(received, texts);
    for (const peer of [alice, bob]) peer.destroy(() => {});
  });

  test('sixty of them all reach each other', async () => {
    const sixty = await clients(60);
    const missing = new Set();
    for (const [number, client] of sixty.entries()) {
      client.on('message', (data) => missing.delete(`${data}>${number}`));
      for (const other of sixty.keys()) if (other !== number) missing.add(`${other}>${number}`);
    }
    for (const [number, client] of sixty.entries()) {
      for (const [to, other] of sixty.entries()) if (to !== number) client.send(other.id, number);
    }
    for (let waited = 0; missing.size && waited < 10_000; waited += 20) await pause(20);
    assert.equal(missing.size, 0);
    for (const client of sixty) client.destroy(() => {});
  });

  test('brokers are one network with peers of both kinds', async () => {
    const second = new Broker({ PEER_RELAY_PATH: '/peers', PEER_RELAY_BOOTSTRAP: url() });
    await second.start();
    const here = await network([NpmPeer, RustPeer], () => [], [url()]);
    const there = await network([NpmPeer, RustPeer], () => [], [`ws://127.0.0.1:${second.port}/peers`]);
    peers.push(...here, ...there);
    await allPairsDeliver(peers);
    assert.equal(await second.stop(), 0, second.output);
  });
});

describe('datagrams', () => {
  test('come back from a socket of this project', async () => {
    const echo = await RustPeer.start([]);
    const socket = new PeerRelay.Socket({ bootstrap: [echo.url] });
    try {
      await new Promise((resolve) => socket.bind(1234, resolve));
      for (const content of [Buffer.from('ping'), Buffer.alloc(0), Buffer.from(Array.from({ length: 15_000 }, (_, n) => n % 256))]) {
        const answer = nextEvent(socket, 'message');
        socket.send(content, 0, content.length, 7, echo.id);
        const [received, sender] = await answer;
        assert.ok(received.equals(content));
        assert.deepEqual(sender, { address: echo.id, port: 7, family: 'peer-relay' });
      }
    } finally {
      socket.peer.destroy(() => {});
      await echo.stop();
    }
  });
});
