// A headless Chromium with pages that hold a Crolang node, and the small server that the pages come from.
// Nothing leaves the machine: no name but 127.0.0.1 is resolved, and Chromium's own errands are switched off.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { within } from './wait.js';

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
const START_LIMIT_MS = 60_000;

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
  // Two pages on one machine reach each other by plain loopback addresses; mDNS names would need a network.
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--allow-loopback-in-peer-connection',
];

const JAVASCRIPT = 'text/javascript; charset=utf-8';
const local = (path) => fileURLToPath(new URL(path, import.meta.url));
const FILES = {
  '/': [local('../browser/page.html'), 'text/html; charset=utf-8'],
  '/peer.js': [local('../browser/peer.js'), JAVASCRIPT],
  '/overlay': [local('../browser/overlay.html'), 'text/html; charset=utf-8'],
  '/overlay.js': [local('../browser/overlay.js'), JAVASCRIPT],
  '/peer-relay.js': [local('../node_modules/peer-relay/bundle.js'), JAVASCRIPT],
  '/discovery/': [local('../../../examples/discovery/index.html'), 'text/html; charset=utf-8'],
  '/discovery/meet.js': [local('../../../examples/discovery/meet.js'), JAVASCRIPT],
  '/socket.io.min.js': [local('../node_modules/socket.io-client/dist/socket.io.min.js'), JAVASCRIPT],
};

export async function launchBrowser() {
  const launched = chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS, timeout: START_LIMIT_MS });
  const [server, browser] = await Promise.all([serveFiles(), launched]);
  return new Browser(browser, server);
}

class Browser {
  #browser;
  #server;

  constructor(browser, server) {
    this.#browser = browser;
    this.#server = server;
  }

  /** A page; without a path, with a node in it that has not joined the broker yet. Its failures are in `page.failures`. */
  async openPage(path = '/') {
    const page = await this.#browser.newPage();
    page.failures = [];
    page.on('pageerror', (error) => page.failures.push(error.message));
    await page.goto(`http://127.0.0.1:${this.#server.address().port}${path}`);
    return page;
  }

  /** A page of another server, in a context with these options. Its failures are in `page.failures`. */
  async openOutside(url, options) {
    const context = await this.#browser.newContext(options);
    const page = await context.newPage();
    page.failures = [];
    page.on('pageerror', (error) => page.failures.push(error.message));
    await page.goto(url);
    return page;
  }

  async close() {
    await within(START_LIMIT_MS, this.#browser.close(), 'end of Chromium');
    this.#server.closeAllConnections?.();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function serveFiles() {
  const server = createServer(async (request, response) => {
    const file = FILES[request.url.split('?')[0]];
    if (!file) return response.writeHead(404).end();
    const [path, type] = file;
    const content = await readFile(path);
    return response.writeHead(200, { 'Content-Type': type }).end(content);
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  // Chromium may not start; the server alone must not keep the test process waiting.
  server.unref();
  return server;
}
