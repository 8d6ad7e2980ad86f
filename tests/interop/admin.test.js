// The page for operators in a real Chromium: what it shows and does, by keyboard too, and what axe finds wrong with it.
// Set SCREENSHOTS to a folder to look at it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { launchBrowser } from './support/browser.js';
import { connectNode } from './support/node.js';
import { suiteBroker } from './support/suite.js';

const [TOKEN, READ_TOKEN] = ['0123456789abcdef-write', '0123456789abcdef-read'];
const AXE = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const LIMIT_MS = 20_000;

describe('the page for operators', () => {
  const broker = suiteBroker({ API_TOKEN: TOKEN, API_READ_TOKEN: READ_TOKEN, API_MAX_FAILURES_PER_MINUTE: '100' });
  let browser;
  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());

  /** A page in a context of its own, with what went wrong in it. */
  async function open(options = {}) {
    const page = await browser.openOutside(`${broker.url}/admin/`, options);
    page.setDefaultTimeout(LIMIT_MS);
    return page;
  }

  async function signIn(page, token = TOKEN) {
    await page.getByLabel('API token').fill(token);
    await page.keyboard.press('Enter');
  }

  async function shoot(page, name) {
    if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });
  }

  /** Expects that axe has no findings. It is run outside of the page's policy, which allows no foreign script. */
  async function audit(page) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
  }

  test('asks for a token, and says what is wrong with it', async () => {
    const page = await open();
    await audit(page);
    await signIn(page, 'wrong');
    await page.getByText('The broker does not know this token.').waitFor();
    await shoot(page, 'sign-in');
    assert.deepEqual(page.failures, []);
  });

  test('shows nodes, replicas, events and configuration, in light and dark, on a desk and on a phone', async () => {
    const alice = await connectNode(broker, 'alice');
    await connectNode(broker, '<img src=x onerror=alert(1)>');
    for (const [name, options] of [
      ['light', { colorScheme: 'light', viewport: { width: 1280, height: 900 } }],
      ['dark', { colorScheme: 'dark', viewport: { width: 1280, height: 900 } }],
      ['phone', { colorScheme: 'light', viewport: { width: 360, height: 740 } }],
    ]) {
      const page = await open(options);
      await signIn(page);
      await page.locator('#nodes-rows').getByText('alice').waitFor();
      await page.locator('#nodes-rows').getByText('<img src=x').waitFor();
      await page.locator('#replicas-rows').getByText('(this one)').waitFor();
      await page.locator('#configuration-rows').getByText('API_TOKEN', { exact: true }).waitFor();
      await page.getByRole('img', { name: 'Nodes: nodes 2' }).waitFor();
      await alice.send('SOCKET_MSG_EXCHANGE', { to: 'nobody' });
      await page.getByText('Live').waitFor();
      const carol = await connectNode(broker, 'carol');
      await page.locator('#events-rows').getByText('carol').waitFor();
      carol.socket.disconnect();
      await page.locator('#events-rows').getByText('disconnected').first().waitFor();
      assert.equal(await page.getByText(TOKEN).count(), 0, 'secrets are masked');
      const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(isWide, false, `${name}: the page is wider than the window`);
      await audit(page);
      await shoot(page, name);
      assert.deepEqual(page.failures, [], name);
      await page.context().close();
    }
  });

  test('searches, and disconnects by keyboard alone', async () => {
    const bob = await connectNode(broker, 'bob');
    const page = await open();
    await signIn(page);
    await page.locator('#nodes-rows').getByText('bob').waitFor();
    await page.getByLabel('Part of an ID').focus();
    await page.keyboard.type('nobody at all');
    await page.keyboard.press('Enter');
    await page.getByText('No connected node has this in its ID.').waitFor();
    await page.getByLabel('Part of an ID').fill('bo');
    await page.keyboard.press('Enter');
    const button = page.getByRole('button', { name: 'Disconnect bob' });
    await button.focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.getByLabel('Reason, for the log').focus();
    await audit(page);
    await shoot(page, 'dialog');
    await page.keyboard.type('too loud');
    await page.keyboard.press('Enter');
    await page.locator('#events-rows').getByText('kicked, too loud').waitFor();
    await page.getByText('No connected node has this in its ID.').waitFor();
    assert.equal(bob.socket.connected, false);
    assert.deepEqual(page.failures, []);
  });

  test('bans a node, and lifts the ban', async () => {
    const mallory = await connectNode(broker, 'mallory');
    const page = await open();
    await signIn(page);
    await page.getByText('Nobody is banned.').waitFor();
    await page.getByRole('button', { name: 'Disconnect mallory' }).click();
    await page.getByLabel('And keep it out').selectOption('for an hour');
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    const lift = page.getByRole('button', { name: 'Lift node:mallory' });
    await lift.waitFor();
    assert.equal(mallory.socket.connected, false);
    await assert.rejects(connectNode(broker, 'mallory'), /authentication failed/);
    await audit(page);
    await shoot(page, 'bans');
    await lift.click();
    await page.getByText('Nobody is banned.').waitFor();
    await connectNode(broker, 'mallory');
    assert.deepEqual(page.failures, []);
  });

  test('a token that may only read is told so, and a broker that is gone is named', async () => {
    await connectNode(broker, 'dave');
    const page = await open();
    await signIn(page, READ_TOKEN);
    await page.getByRole('button', { name: 'Disconnect dave' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await page.getByText('this token may only read').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API token').waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await signIn(page);
    await page.getByText('Live').waitFor();
    await broker.stop();
    await page.getByText('The broker cannot be reached.').waitFor();
    await broker.restart();
    await page.getByText('Live').waitFor();
    assert.deepEqual(page.failures, []);
  });

  test('comes with a strict policy', async () => {
    const response = await fetch(`${broker.url}/admin/`);
    assert.match(response.headers.get('content-security-policy'), /default-src 'none'; script-src 'self'; style-src 'self'/);
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
  });
});
