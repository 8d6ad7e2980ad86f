// The tables of the page. What nodes say about themselves is written as text, never as markup.

const MAX_EVENTS = 200;

const count = new Intl.NumberFormat('en');
const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** How long ago a time was, in its two largest units. */
export function age(since) {
  let seconds = Math.max(0, Math.round((Date.now() - since) / 1000));
  const parts = [];
  for (const [unit, length] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    const amount = Math.floor(seconds / length);
    seconds -= amount * length;
    if (amount > 0) parts.push(`${amount} ${unit}`);
  }
  return parts.slice(0, 2).join(' ') || '0 s';
}

function cell(content, className = '') {
  const element = document.createElement('td');
  if (content instanceof Node) element.append(content);
  else element.textContent = content;
  element.className = className;
  return element;
}

function heading(text, className = '') {
  const element = document.createElement('th');
  element.scope = 'row';
  element.textContent = text;
  element.className = className;
  return element;
}

function row(...cells) {
  const element = document.createElement('tr');
  element.append(...cells);
  return element;
}

function button(action, whom, press) {
  const element = document.createElement('button');
  element.type = 'button';
  element.textContent = action;
  element.setAttribute('aria-label', `${action} ${whom}`);
  element.addEventListener('click', press);
  return element;
}

const short = (replica) => replica.slice(0, 8);

/** Shows a page of nodes; `disconnect` is called with the one whose button is pressed. */
export function showNodes(rows, nodes, disconnect) {
  rows.replaceChildren(...nodes.map((node) => row(
    heading(node.id, 'code'),
    cell(node.address, 'code'),
    cell(`${node.runtime} ${node.version}`),
    cell(age(node.since)),
    cell(count.format(node.messagesIn), 'number'),
    cell(count.format(node.messagesOut), 'number'),
    cell(short(node.replica), 'code'),
    cell(button('Disconnect', node.id, () => disconnect(node))),
  )));
}

/** Shows the bans; `lift` is called with the one whose button is pressed. */
export function showBans(rows, bans, lift) {
  rows.replaceChildren(...bans.map((ban) => row(
    heading(ban.name, 'code'),
    cell(date.format(ban.until)),
    cell(ban.reason, 'wide'),
    cell(button('Lift', ban.name, () => lift(ban))),
  )));
}

function stateOf(replica) {
  const causes = Object.entries(replica.parts)
    .filter(([, part]) => part.status !== 'ready')
    .map(([name, part]) => `${name}: ${part.cause ?? part.status}`);
  return [replica.status, ...causes].join(', ');
}

/** Shows the replicas, the one that answers first. */
export function showReplicas(rows, replicas) {
  rows.replaceChildren(...replicas.map((replica, index) => row(
    heading(short(replica.replica) + (index === 0 ? ' (this one)' : ''), 'code'),
    cell(replica.version),
    cell(date.format(replica.started)),
    cell(count.format(replica.nodes), 'number'),
    cell(stateOf(replica), replica.status === 'ready' ? 'wide' : 'wide error'),
  )));
}

/** Shows the variables, or only those that are set. */
export function showConfiguration(rows, settings, onlySet) {
  const shown = settings.filter(({ origin }) => !onlySet || !['default', 'not set'].includes(origin));
  rows.replaceChildren(...shown.map(({ name, value, origin }) => row(
    heading(name, 'code'),
    cell(String(value ?? ''), 'code wide'),
    cell(origin),
  )));
  return shown.length;
}

function detailsOf({ type, address, runtime, version, reason, note, durationMs, cause, awayMs }) {
  switch (type) {
    case 'connected':
      return `${runtime} ${version} from ${address}`;
    case 'reconnected':
      return `${runtime} ${version} from ${address}, away for ${Math.round(awayMs / 1000)} s`;
    case 'disconnected':
      return [reason, note, `after ${age(Date.now() - durationMs)}`].filter(Boolean).join(', ');
    default:
      return `${cause}, from ${address}`;
  }
}

/** Puts an event on top of those that are shown, the oldest of which gives way. */
export function showEvent(rows, event) {
  rows.prepend(row(
    cell(time.format(event.time)),
    cell(event.type),
    cell(event.nodeId ?? '', 'code'),
    cell(detailsOf(event), 'wide'),
  ));
  while (rows.rows.length > MAX_EVENTS) rows.deleteRow(-1);
}
