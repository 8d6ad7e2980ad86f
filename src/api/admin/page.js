// The page: signs in, then asks the API again and again.

import { ApiError, change, events, json, text } from './api.js';
import { Scrape } from './metrics.js';
import { makePlots } from './plots.js';
import { showBans, showConfiguration, showEvent, showNodes, showReplicas } from './tables.js';

const SCRAPE_INTERVAL_MS = 2000;
const LIST_INTERVAL_MS = 5000;
const PAGE_SIZE = 50;
const KEY = 'crolang-api-token';

const at = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let token = sessionStorage.getItem(KEY);
/** Ends everything that is running when the operator signs out. */
let session = new AbortController();
let settings = [];
const page = { search: '', cursor: undefined, next: undefined };

function showSignIn(message = '') {
  session.abort();
  token = null;
  sessionStorage.removeItem(KEY);
  at('board').hidden = true;
  at('sign-out').hidden = true;
  at('sign-in').hidden = false;
  at('about').textContent = '';
  say('');
  at('sign-in-error').textContent = message;
  at('token').focus();
}

function say(message, isError = false) {
  at('state').textContent = message;
  at('state').classList.toggle('error', isError);
}

/** Does something at intervals until the operator signs out, and says what went wrong. */
async function repeat(interval, work) {
  const { signal } = session;
  while (!signal.aborted) {
    if (!document.hidden) await attempt(work);
    await pause(interval);
  }
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) return showSignIn('This token is no longer valid.');
    say(error.message, true);
  }
}

let updatePlots;
let before;

async function scrape() {
  const now = new Scrape(await text(token, 'metrics'), Date.now());
  if (before) updatePlots(now, before);
  before = now;
  say('Live');
}

async function list() {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (page.search) query.set('search', page.search);
  if (page.cursor) query.set('cursor', page.cursor);
  const { nodes, next, incomplete } = await json(token, `nodes?${query}`);
  page.next = next;
  at('first-page').disabled = !page.cursor;
  at('next-page').disabled = !next;
  const isBusy = at('nodes-rows').contains(document.activeElement);
  // The button that has the focus stays where it is.
  if (!isBusy) showNodes(at('nodes-rows'), nodes, ask);
  const missing = incomplete.length ? ` ${incomplete.length} replicas did not reply: their nodes are missing.` : '';
  const none = page.search ? 'No connected node has this in its ID.' : 'No node is connected.';
  at('nodes-note').textContent = (nodes.length ? '' : none) + missing;
}

async function bans() {
  const { bans: all, next } = await json(token, 'bans');
  at('bans-table').hidden = all.length === 0;
  at('bans-note').textContent = all.length ? (next ? `The first ${all.length} are shown.` : '') : 'Nobody is banned.';
  if (!at('bans-rows').contains(document.activeElement)) showBans(at('bans-rows'), all, lift);
}

async function lift({ name }) {
  await attempt(async () => {
    await change(token, 'DELETE', `bans/${encodeURIComponent(name)}`);
    at('bans-title').focus();
    await bans();
  });
}

async function status() {
  const { replicas, incomplete } = await json(token, 'status');
  showReplicas(at('replicas-rows'), replicas);
  const [own] = replicas;
  at('about').textContent = `${own.version}, replica ${own.replica.slice(0, 8)}`;
  at('nodes-count').textContent = `${replicas.reduce((sum, { nodes }) => sum + nodes, 0)} connected`;
  at('replicas-note').textContent = incomplete.length ? `No reply from ${incomplete.map((it) => it.slice(0, 8)).join(', ')}.` : '';
}

async function follow() {
  let last;
  const { signal } = session;
  while (!signal.aborted) {
    await attempt(async () => {
      try {
        for await (const { name, id, data } of events(token, last, signal)) {
          last = id ?? last;
          if (name !== 'start') {
            showEvent(at('events-rows'), data);
            at('events-note').textContent = '';
          } else if (data.lost !== 0) {
            at('events-note').textContent = 'Some events were missed.';
          }
        }
      } catch (error) {
        if (!signal.aborted && !(error instanceof TypeError)) throw error;
      }
    });
    await pause(SCRAPE_INTERVAL_MS);
  }
}

function configuration() {
  const shown = showConfiguration(at('configuration-rows'), settings, at('only-set').checked);
  at('configuration-note').textContent = shown ? '' : 'Nothing is set: every variable has its default.';
}

let asked;

/** Asks whether to disconnect a node. */
function ask(node) {
  asked = node;
  at('dialog-node').textContent = node.id;
  at('dialog-error').textContent = '';
  at('reason').value = '';
  at('ban').value = '0';
  at('dialog').showModal();
}

async function disconnect() {
  const [id, reason, seconds] = [asked.id, at('reason').value.trim(), Number(at('ban').value)];
  const because = reason ? `?${new URLSearchParams({ reason })}` : '';
  try {
    // A ban disconnects the node too.
    if (seconds > 0) await change(token, 'POST', 'bans', { node: id, seconds, reason });
    else await change(token, 'DELETE', `nodes/${encodeURIComponent(id)}${because}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    at('dialog-error').textContent = error.message;
    return;
  }
  at('dialog').close();
  at('search-text').focus();
  await attempt(async () => {
    await list();
    await bans();
  });
}

async function signIn(given) {
  at('sign-in-error').textContent = '';
  try {
    settings = await json(given, 'config');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return showSignIn(error.status === 401 ? 'The broker does not know this token.' : error.message);
  }
  token = given;
  sessionStorage.setItem(KEY, token);
  session = new AbortController();
  before = undefined;
  at('token').value = '';
  at('sign-in').hidden = true;
  at('sign-out').hidden = false;
  at('board').hidden = false;
  at('plots').replaceChildren();
  at('events-rows').replaceChildren();
  updatePlots = makePlots(at('plots'));
  configuration();
  repeat(SCRAPE_INTERVAL_MS, scrape);
  repeat(LIST_INTERVAL_MS, async () => {
    await status();
    await list();
    await bans();
  });
  follow();
}

function on(id, event, handle) {
  at(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    handle();
  });
}

on('sign-in', 'submit', () => signIn(at('token').value.trim()));
on('sign-out', 'click', () => showSignIn());
on('search', 'submit', () => {
  [page.search, page.cursor] = [at('search-text').value.trim(), undefined];
  attempt(list);
});
on('first-page', 'click', () => {
  page.cursor = undefined;
  attempt(list);
});
on('next-page', 'click', () => {
  page.cursor = page.next;
  attempt(list);
});
on('disconnect', 'submit', disconnect);
on('cancel', 'click', () => at('dialog').close());
at('only-set').addEventListener('change', configuration);

if (token) signIn(token);
else showSignIn();
