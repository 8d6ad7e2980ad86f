// A redis-server of a test's own, on a socket in a directory of its own: no port, nothing kept.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { within } from './wait.js';

const START_LIMIT_MS = 10_000;

export class Redis {
  #child;
  #directory = mkdtempSync(join(tmpdir(), 'crolang-interop-redis-'));

  get url() {
    return `unix://${join(this.#directory, 'redis')}`;
  }

  async start() {
    const settings = ['--port', '0', '--save', '', '--unixsocket', join(this.#directory, 'redis')];
    this.#child = spawn('redis-server', settings, { cwd: this.#directory, stdio: ['ignore', 'pipe', 'inherit'] });
    process.on('exit', () => this.#child.kill('SIGKILL'));
    const ready = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        if (line.includes('eady to accept connections')) resolve();
      });
    });
    await within(START_LIMIT_MS, ready, 'start of redis-server');
  }

  async stop() {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
