// TLS as doc/guides/tls.md says, in the broker or by a real haproxy with the file of examples/tls in front of it, and clients
// that check the certificate.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { connectNode, freshId, RELAY_EVENT } from './support/node.js';
import { suiteBroker } from './support/suite.js';
import { SOON_MS, within } from './support/wait.js';

const CONFIGURATION = fileURLToPath(new URL('../../examples/tls/haproxy.cfg', import.meta.url));

/** A certificate for this machine, and its key, in two files of a folder of their own. */
function makeCertificate() {
  const folder = mkdtempSync(join(tmpdir(), 'crolang-tls-'));
  const keyFile = join(folder, 'broker.pem');
  const certificateFile = join(folder, 'certificate.pem');
  execFileSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    ...['-keyout', keyFile, '-out', certificateFile],
  ], { stdio: 'pipe' });
  return { folder, keyFile, certificateFile, ca: readFileSync(certificateFile, 'utf8') };
}

describe('TLS in the broker', () => {
  const { folder, keyFile, certificateFile, ca } = makeCertificate();
  const broker = suiteBroker({ TLS_CERT_FILE: certificateFile, TLS_KEY_FILE: keyFile });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    test(`nodes connect by wss and reach each other with ${version}`, async () => {
      const options = { url: `https://localhost:${broker.port}`, ca, minVersion: version, maxVersion: version };
      const ids = ['alice', 'bob'].map((name) => freshId(name));
      const [alice, bob] = await Promise.all(ids.map((id) => connectNode(broker, id, options)));
      for (const content of ['hi', 'x'.repeat(900_000)]) {
        const text = JSON.stringify({ from: alice.id, to: bob.id, content });
        assert.equal(await alice.ask(RELAY_EVENT, text), 'OK');
        assert.deepEqual(await bob.next(), { event: RELAY_EVENT, args: [text] });
      }
    });
  }

  test('a certificate that nobody vouches for is not taken', async () => {
    await assert.rejects(connectNode(broker, 'carol', { url: `https://localhost:${broker.port}` }));
  });

  test('plain HTTP is not spoken', async () => {
    await assert.rejects(connectNode(broker, 'dave'));
  });
});

describe('TLS by haproxy', () => {
  const broker = suiteBroker({ STORAGE_TYPE: 'memory' });
  const { folder, keyFile, ca } = makeCertificate();
  let agent;
  let haproxy;
  let output = '';
  let url;

  before(async () => {
    appendFileSync(keyFile, ca);
    agent = new Agent({ ca });

    // The socket is opened here and handed on, so that nobody else can get the port in between.
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address();
    haproxy = spawn('haproxy', ['-db', '-f', CONFIGURATION], {
      // Debian keeps it where not everybody's path leads.
      env: {
        PATH: `${process.env.PATH}:/usr/sbin`,
        BIND: 'fd@3',
        CERTIFICATE: keyFile,
        BROKER: `127.0.0.1:${broker.port}`,
      },
      stdio: ['ignore', 'pipe', 'pipe', listener._handle.fd],
    });
    for (const stream of [haproxy.stdout, haproxy.stderr]) stream.on('data', (text) => (output += text));
    listener.close();
    url = `https://127.0.0.1:${port}`;
    // Until haproxy has started, connections wait in the socket.
    assert.equal((await ask('/health')).status, 200, output);
  });

  after(async () => {
    agent?.destroy();
    if (haproxy?.exitCode === null) {
      haproxy.kill('SIGKILL');
      await once(haproxy, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });

  /** Sends a request; resolves when the answer begins. */
  async function begin(path, body) {
    const outgoing = request(url + path, { agent, method: body ? 'POST' : 'GET' });
    outgoing.end(body && JSON.stringify(body));
    const [response] = await within(SOON_MS, once(outgoing, 'response'), path);
    return response.setEncoding('utf8');
  }

  async function ask(path, body) {
    const response = await begin(path, body);
    const chunks = await within(SOON_MS, response.toArray(), path);
    return { status: response.statusCode, text: chunks.join('') };
  }

  test('nodes connect by wss and reach each other', async () => {
    const [alice, bob] = await Promise.all(['alice', 'bob'].map((id) => connectNode(broker, id, { url, ca })));
    const text = JSON.stringify({ from: alice.id, to: bob.id, content: 'hi' });
    assert.equal(await alice.ask(RELAY_EVENT, text), 'OK');
    assert.deepEqual(await bob.next(), { event: RELAY_EVENT, args: [text] });
  });

  test('a certificate that nobody vouches for is not taken', async () => {
    await assert.rejects(connectNode(broker, 'carol', { url }));
  });

  test('discovery answers, waits and streams', async () => {
    const stream = await begin('/tls/events');
    const offered = await ask('/tls/offer', { info: 'i', offer: 'o' });
    assert.equal(offered.status, 200, offered.text);
    const { code } = JSON.parse(offered.text);
    const event = (async () => {
      let text = '';
      for await (const more of stream) {
        text += more;
        if (text.includes(code)) return;
      }
      throw new Error(`the stream ended: ${text}`);
    })();
    await within(SOON_MS, event, 'event of the session');
    const polled = ask('/poll', { code, side: 'offerer', wait: 4_000 });
    assert.equal((await ask('/answer', { code, side: 'answerer', answer: 'a' })).status, 200);
    assert.deepEqual(JSON.parse((await polled).text), { answer: 'a', answerCandidates: [] });
  });

  test('HTTP/2 is spoken too', async () => {
    const session = connectHttp2(url, { ca });
    const stream = session.request({ ':path': '/' });
    const [headers] = await within(SOON_MS, once(stream, 'response'), 'answer');
    assert.equal(headers[':status'], 200);
    session.destroy();
  });

  test('metrics are for the operator alone', async () => {
    assert.equal((await ask('/metrics')).status, 403);
    assert.equal((await broker.http('/metrics')).status, 200);
  });
});
