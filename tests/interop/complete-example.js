// A walk through the complete example (examples/complete) with official clients, in steps that scripts/complete-example
// asks for between stopping and starting its services: node complete-example.js STEP. HOLD keeps its nodes until a line
// comes on the standard input. scripts/original-example asks for some of them too.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';

import { launchBrowser } from './support/browser.js';
import { ALL_EVENTS, connectNode, disconnectAll, openSocket, NODE_QUERY, RELAY_EVENT } from './support/node.js';
import { within } from './support/wait.js';

const url = process.env.BROKER_URL || 'http://127.0.0.1:8080';
const broker = { url };
const LIMIT_MS = 60_000;

const steps = {
  /** Every event in both directions, by nodes of which at least two are on different brokers. */
  async events() {
    const nodes = await Promise.all(['alice', 'bob', 'carol', 'dave'].map((id) => connectNode(broker, id)));
    for (const from of nodes) {
      for (const to of nodes.filter((node) => node !== from)) {
        for (const event of ALL_EVENTS) {
          const message = { from: from.id, to: to.id, content: `${event} of ${from.id}` };
          assert.equal(await from.send(event, message), 'OK', event);
          const arrived = await to.next();
          assert.deepEqual([arrived.event, JSON.parse(arrived.args[0])], [event, message]);
        }
      }
    }
    const present = await nodes[0].send('ARE_NODES_CONNECTED_TO_BROKER', { ids: ['bob', 'nobody'] });
    const results = [{ id: 'bob', connected: true }, { id: 'nobody', connected: false }];
    assert.equal(present, JSON.stringify({ results }));
    console.log(`ok: ${ALL_EVENTS.length} events between ${nodes.length} nodes, in all directions, and presence`);
  },

  async refusal() {
    await assert.rejects(connectNode(broker, 'mallory'), (error) => {
      console.log(`ok: mallory is refused: ${error.message}`);
      return true;
    });
  },

  /** A node that the original's example finds invalid at its next validity check. */
  async invalid() {
    const { socket } = await connectNode(broker, 'to-be-disconnected');
    const reason = await within(LIMIT_MS, new Promise((resolve) => socket.once('disconnect', resolve)), 'disconnection');
    assert.equal(reason, 'io server disconnect');
    console.log('ok: an invalid node is disconnected');
  },

  /** With the credentials that a node is given, by coturn's own client. */
  async turn() {
    const { rtcConfiguration } = await connectNode(broker, 'turn-user');
    const server = rtcConfiguration.iceServers.find(({ username }) => username);
    const credentials = ['-u', server.username, '-w', server.credential ?? server.password];
    const [, host] = /^turn:([^:?]*)/.exec(server.urls.find((it) => it.startsWith('turn:')));
    for (const [name, options] of [
      ['UDP', ['-p', '3478']],
      ['TLS', ['-t', '-S', '-p', '5349']],
    ]) {
      const args = ['-y', '-c', '-n', '5', '-m', '1', ...options, ...credentials, host];
      const output = execFileSync('turnutils_uclient', args, { encoding: 'utf8', timeout: LIMIT_MS, stdio: 'pipe' });
      const [sent, received] = /.*tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n/s.exec(output).slice(1).map(Number);
      // What comes before the other side's permission is there is lost.
      assert.ok(received > 0 && received <= sent, output);
      console.log(`ok: TURN over ${name} relays ${received} of ${sent} packets`);
    }
  },

  /** Two pages whose only way to each other is the TURN server. */
  async webrtc() {
    const browser = await launchBrowser();
    try {
      const pages = await Promise.all([browser.openPage(), browser.openPage()]);
      const run = (page, what, script, argument) => within(LIMIT_MS, page.evaluate(script, argument), what);
      await Promise.all(
        pages.map((page, index) =>
          run(page, 'join', async ([to, id]) => {
            const configuration = await join(to, id);
            connection.setConfiguration({ ...configuration, iceTransportPolicy: 'relay' });
          }, [url, `page-${index}`]),
        ),
      );
      await run(pages[0], 'dial', () => dial('page-1'));
      await Promise.all(pages.map((page) => run(page, 'open channel', () => channelOpen)));
      const hearing = run(pages[1], 'hearing', () => hear());
      await run(pages[0], 'saying', () => say('by relay'));
      assert.equal(await hearing, 'by relay');
      const types = await run(pages[0], 'statistics', async () => {
        const all = await connection.getStats();
        const transport = [...all.values()].find(({ type }) => type === 'transport');
        const pair = all.get(transport.selectedCandidatePairId);
        return [pair.localCandidateId, pair.remoteCandidateId].map((id) => all.get(id).candidateType);
      });
      assert.equal(types[0], 'relay');
      console.log(`ok: a WebRTC channel between two pages, candidates ${types.join(' and ')}`);
    } finally {
      await browser.close();
    }
  },

  /** Nodes that reconnect by themselves, as official nodes do, while a service is stopped or started. */
  async hold() {
    const sockets = Array.from({ length: 20 }, (_, index) =>
      openSocket(broker, {
        query: { id: `holder-${index}`, ...NODE_QUERY },
        reconnection: true,
        reconnectionDelay: 200,
        reconnectionDelayMax: 1000,
      }),
    );
    let lost = 0;
    const authenticated = new Set();
    for (const socket of sockets) {
      socket.on('AUTHENTICATED', () => authenticated.add(socket));
      socket.on('disconnect', () => {
        lost += 1;
        authenticated.delete(socket);
        // The client does not reconnect by itself where the server has disconnected it.
        if (!socket.active) socket.connect();
      });
      socket.on('connect_error', (error) => {
        if (!socket.active) console.log(`FAILED: ${error.message}`);
      });
      socket.connect();
    }
    const all = async () => {
      const until = Date.now() + LIMIT_MS;
      while (authenticated.size < sockets.length) {
        assert.ok(Date.now() < until, `only ${authenticated.size} of ${sockets.length} nodes are connected`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await all();
    console.log('ready');
    for await (const line of createInterface({ input: process.stdin })) {
      await all();
      // The message shows that the IDs lead to the new connections.
      const heard = new Promise((resolve) => sockets[1].once(RELAY_EVENT, resolve));
      const message = JSON.stringify({ from: 'holder-0', to: 'holder-1', content: line });
      const ack = await sockets[0].timeout(LIMIT_MS).emitWithAck(RELAY_EVENT, message);
      assert.equal(ack, 'OK');
      await within(LIMIT_MS, heard, 'the message');
      console.log(`ok: ${line}: all ${sockets.length} nodes are connected, after ${lost} reconnections, and hear each other`);
      lost = 0;
    }
  },
};

const step = steps[process.argv[2]];
assert.ok(step, `a step: ${Object.keys(steps).join(', ')}`);
await step();
disconnectAll();
process.exit(0);
