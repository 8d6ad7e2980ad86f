// The walk-through of doc/guides/discovery.md: its commands are run, and answer what it shows.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';

import { suiteBroker } from './support/suite.js';

const LIMIT_MS = 30_000;

/** Codes and times are new in every run. */
function masked(text) {
  return text
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g, 'CODE')
    .replace(/"(createdAt|expiresAt)":\d{13}/g, '"$1":TIME')
    .replace(/"secret":"[\w-]{22}"/g, '"secret":SECRET')
    .replace(/\s/g, '');
}

describe('the walk-through of discovery', () => {
  const broker = suiteBroker({ STORAGE_TYPE: 'memory' });

  test('answers what the page shows', async () => {
    const page = readFileSync(new URL('../../doc/guides/discovery.md', import.meta.url), 'utf8');
    const blocks = (language) => [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, text]) => text);
    const commands = blocks('sh').join('').replace('http://127.0.0.1:8080', broker.url);
    const shown = blocks('json').join('');
    assert.ok(commands.includes(broker.url) && shown.split('\n').length > 8);

    const directory = mkdtempSync(join(tmpdir(), 'crolang-walk-'));
    try {
      const options = { cwd: directory, timeout: LIMIT_MS };
      const { stdout } = await promisify(execFile)('bash', ['-eu', '-c', commands], options);
      assert.equal(masked(stdout), masked(shown));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
