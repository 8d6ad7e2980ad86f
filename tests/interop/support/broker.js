// The real broker as a child process: started on a free port, stopped by its own process id.
// It gets a clean environment and an empty working directory, so that neither the variables nor a `.env` file of
// anyone who runs the tests can change what is tested.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { SOON_MS, within } from './wait.js';

const BUILT_HERE = fileURLToPath(new URL('../../../target/debug/crolang-broker', import.meta.url));
/** The broker that is tested. */
export const BINARY = resolve(process.env.BROKER_BIN || BUILT_HERE);

const START_LIMIT_MS = 10_000;
/** The broker itself promises to be gone within 10 s of a SIGTERM. */
const STOP_LIMIT_MS = 15_000;
/** Far above what any file of this suite needs. */
const FILE_LIMIT_MS = 240_000;
/** Enough of the log to explain a failure, little enough to read. */
const LOG_LINES_KEPT = 200;

/** The processes that run and the directories that exist because of this test file. */
const running = new Set();
const directories = new Set();

// Whatever way this process ends, its brokers end with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
// `node --test` sets no limit on a whole file: one that is kept alive by something forgotten ends here.
setTimeout(() => {
  console.error(`this test file did not end within ${FILE_LIMIT_MS} ms`);
  process.exit(1);
}, FILE_LIMIT_MS).unref();

export class Broker {
  #variables;
  #binary;
  #directory;
  #child;
  #exited;
  #log = [];
  /** 0 lets the system choose; once chosen the port stays, so that clients find the broker again after a restart. */
  port = 0;

  /** `variables` come on top of the defaults. */
  constructor(variables = {}, binary = BINARY) {
    this.#variables = variables;
    this.#binary = binary;
    this.#directory = mkdtempSync(join(tmpdir(), 'crolang-interop-'));
    directories.add(this.#directory);
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  get started() {
    return this.port !== 0;
  }

  async start() {
    const child = spawn(this.#binary, [], {
      cwd: this.#directory,
      env: {
        PATH: process.env.PATH,
        HOST: '127.0.0.1',
        LOG_FORMAT: 'json',
        ...this.#variables,
        PORT: String(this.port),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    running.add(child);
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => this.#note(`cannot run ${BINARY}: ${error.message}`));
      child.once('close', (code, signal) => {
        running.delete(child);
        resolve(code ?? signal);
      });
    });

    const listening = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        this.#note(line);
        const port = listeningPort(line);
        if (port !== undefined) resolve(port);
      });
      createInterface({ input: child.stderr }).on('line', (line) => this.#note(line));
    });
    const ended = this.#exited.then((code) => {
      throw new Error(`ended with ${code}`);
    });
    try {
      this.port = await within(START_LIMIT_MS, Promise.race([listening, ended]), 'line "listening"');
    } catch (error) {
      child.kill('SIGKILL');
      throw new Error(`the broker did not start: ${error.message}\n${this.output}`);
    }
  }

  /** Sends `signal` and waits for the end. Returns the exit code, or the signal's name if that ended the process. */
  async stop(signal = 'SIGTERM') {
    this.#child.kill(signal);
    try {
      return await within(STOP_LIMIT_MS, this.#exited, `end after ${signal}`);
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw new Error(`the broker did not stop: ${error.message}\n${this.output}`);
    }
  }

  /** Starts it again on the port that it had. */
  async restart() {
    if (running.has(this.#child)) throw new Error('stop the broker before restarting it');
    await this.start();
  }

  /** One plain HTTP request on a connection of its own, so that nothing stays open behind it. */
  http(path, { method = 'GET', headers = {} } = {}) {
    const answer = new Promise((resolve, reject) => {
      const outgoing = request(`${this.url}${path}`, { method, headers, agent: false });
      outgoing.once('error', reject);
      outgoing.once('upgrade', (response, stream) => {
        stream.destroy();
        resolve({ status: response.statusCode, headers: response.headers, body: '' });
      });
      outgoing.once('response', (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text) => (body += text));
        response.once('error', reject);
        response.once('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
      });
      outgoing.end();
    });
    return within(SOON_MS, answer, `${method} ${path}`);
  }

  get output() {
    return this.#log.join('\n');
  }

  #note(line) {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES_KEPT) this.#log.shift();
  }
}

/** The port that a log line announces, if it is the line that says that the broker listens. */
function listeningPort(line) {
  try {
    const { fields } = JSON.parse(line);
    if (fields.message === 'listening') return Number(/:(\d+)$/.exec(fields.address)[1]);
  } catch {
    // Not JSON, or another line: it is kept for the failure message and means nothing here.
  }
  return undefined;
}
