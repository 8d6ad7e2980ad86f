// The chat in examples/: two of them talk to each other, and the documentation shows its code.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { suiteBroker } from './support/suite.js';
import { nextEvent, SOON_MS, within } from './support/wait.js';

const source = fileURLToPath(new URL('../../examples/chat.mjs', import.meta.url));
// Node looks for the official client beside the program, and here it is among this suite's packages.
const folder = fileURLToPath(new URL('./node_modules/.examples', import.meta.url));

describe('the example', () => {
  const broker = suiteBroker();
  const running = [];
  before(() => {
    mkdirSync(folder, { recursive: true });
    copyFileSync(source, `${folder}/chat.mjs`);
  });
  after(() => {
    for (const child of running) child.kill();
    rmSync(folder, { recursive: true });
  });

  function chat(me, peer) {
    const child = spawn(process.execPath, [`${folder}/chat.mjs`, me, peer, broker.url], { stdio: ['pipe', 'pipe', 'inherit'] });
    running.push(child);
    return { child, lines: createInterface(child.stdout) };
  }

  test('two people talk', async () => {
    const alice = chat('alice', 'bob');
    assert.match((await nextEvent(alice.lines, 'line'))[0], /^connected/);
    const bob = chat('bob', 'alice');
    assert.match((await nextEvent(bob.lines, 'line'))[0], /^connected/);

    const heard = new Promise((resolve) => {
      alice.lines.on('line', (line) => line === 'bob: hello' && resolve());
    });
    bob.child.stdin.write('hello\n');
    await within(SOON_MS, heard, 'the message');
  });

  test('the protocol page shows it whole', () => {
    const page = readFileSync(new URL('../../doc/reference/protocol.md', import.meta.url), 'utf8');
    const code = readFileSync(source, 'utf8').replace(/^(\/\/.*\n)+/, '');
    assert.ok(page.includes(`\`\`\`js\n${code}\`\`\``));
  });
});
