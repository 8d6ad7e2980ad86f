// Programs on the JVM against the broker, alone and on two replicas: what the official examples show, on the libraries
// that the official JVM node is made of. `jvm/` has the programs; `mvn compile` builds them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Broker } from './support/broker.js';
import { HookServer } from './support/hooks.js';
import { Redis } from './support/redis.js';
import { within } from './support/wait.js';

const TARGET = fileURLToPath(new URL('jvm/target/', import.meta.url));
const CLASS_PATH = `${TARGET}classes:${TARGET}dependency/*`;
/**
 * The Java client does not act on a WebSocket close frame, which a message that is too large is answered with: it learns
 * of that end from the missing heartbeats.
 */
const HEARTBEATS = { PING_INTERVAL_MS: '2000', PING_TIMEOUT_MS: '2000' };
/** A JVM starts slowly where many tests run. */
const PROGRAM_LIMIT_MS = 60_000;

before(() => assert.ok(existsSync(`${TARGET}dependency`), 'build the programs first: mvn compile, in tests/interop/jvm'));

/** Runs one program; `onLine` sees what it prints. Fails unless it ends well. */
async function run(name, urls, onLine = () => {}) {
  const options = ['-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp', CLASS_PATH];
  const child = spawn('java', [...options, 'interop.Examples', name, ...urls], { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      output.push(line);
      onLine(line);
    });
  }
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  try {
    const code = await within(PROGRAM_LIMIT_MS, ended, `end of ${name}`);
    assert.equal(code, 0, `${name}\n${output.join('\n')}`);
  } finally {
    child.kill('SIGKILL');
  }
}

/** Restarts `broker` when the program says that its nodes are connected. */
async function runAndRestart(urls, broker) {
  let restarted;
  await run('reconnect', urls, (line) => {
    if (line === 'connected') restarted = broker.stop('SIGTERM').then(() => broker.restart());
  });
  await restarted;
}

async function stopAll(...parts) {
  for (const part of parts) await part.stop();
}

const PROGRAMS = ['connect', 'direct', 'refusals', 'presence', 'messages', 'large', 'duplicates', 'plus'];

describe('JVM nodes on one broker', () => {
  const broker = new Broker(HEARTBEATS);
  before(() => broker.start());
  after(() => broker.stop());

  for (const name of PROGRAMS) test(name, () => run(name, [broker.url, broker.url]));

  test('reconnect', () => runAndRestart([broker.url, broker.url], broker));
});

describe('JVM nodes on two replicas', () => {
  const redis = new Redis();
  const variables = { ...HEARTBEATS, REDIS_URL: redis.url };
  const replicas = [new Broker(variables), new Broker(variables)];
  const urls = () => replicas.map(({ url }) => url);
  before(async () => {
    await redis.start();
    for (const replica of replicas) await replica.start();
  });
  after(() => stopAll(...replicas, redis));

  for (const name of PROGRAMS) test(name, () => run(name, urls()));

  test('reconnect', () => runAndRestart(urls(), replicas[0]));
});

describe('JVM nodes where others are supported', () => {
  const broker = new Broker({ ALLOWED_RUNTIMES: 'BROWSER' });
  before(() => broker.start());
  after(() => broker.stop());

  test('platform', () => run('platform', [broker.url, broker.url]));
});

describe('JVM nodes and an authentication webhook', () => {
  const hooks = new HookServer();
  let broker;
  before(async () => {
    await hooks.start();
    hooks.passes.set('alice', 'secret');
    const { NODES_AUTHENTICATION_WEBHOOK_URL } = hooks.variables;
    broker = new Broker({ NODES_AUTHENTICATION_WEBHOOK_URL });
    await broker.start();
  });
  after(() => stopAll(broker, hooks));

  test('authentication', () => run('authentication', [broker.url, broker.url]));
});
