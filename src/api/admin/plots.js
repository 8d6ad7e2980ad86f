// The plots of the overview: small, all over the same five minutes, each with its numbers in words.

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [150, 40];
/** What is written where there was nothing to measure. */
const NONE = 'none';

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const perSecond = (value) => `${number.format(value)}/s`;
const milliseconds = (value) => `${number.format(value * 1000)} ms`;
const megabytes = (value) => `${number.format(value / 2 ** 20)} MB`;
const percent = (value) => `${number.format(value * 100)} %`;

const isRelayed = ({ event }) => event === 'SOCKET_MSG_EXCHANGE';
const counted = (name, choose) => (now, before) => now.rate(before, `crolang_${name}_total`, choose);
const p99 = (name) => (now, before) => now.quantile(before, `crolang_${name}_seconds`, 0.99);

/** What is plotted: a title, how a value is written, and the lines. */
const PLOTS = [
  ['Nodes', number.format, { nodes: (now) => now.sum('crolang_nodes') }],
  ['Nodes that come and go', perSecond, { connected: counted('admissions'), disconnected: counted('connections_closed') }],
  ['Messages by kind', perSecond, {
    relayed: counted('messages', isRelayed),
    signaling: counted('messages', (labels) => !isRelayed(labels)),
  }],
  ['Messages by ack', perSecond, {
    OK: counted('messages', ({ ack }) => ack === 'OK'),
    'not connected': counted('messages', ({ ack }) => ack === 'NOT_CONNECTED'),
    unauthorized: counted('messages', ({ ack }) => ack === 'UNAUTHORIZED'),
    errors: counted('messages', ({ ack }) => ack === 'ERROR' || ack === 'DISABLED'),
  }],
  ['Latency, 99th percentile', milliseconds, {
    'waiting messages': p99('message_wait'),
    admission: p99('admission'),
    webhooks: p99('webhook_call'),
  }],
  ['Redis round trip, 99th percentile', milliseconds, { 'round trip': p99('redis_round_trip') }],
  ['Refused and rejected', perSecond, { refused: counted('refusals'), rejected: counted('rejections') }],
  ['Webhook calls', perSecond, {
    ok: counted('webhook_calls', ({ outcome }) => outcome === 'ok'),
    failed: counted('webhook_calls', ({ outcome }) => outcome !== 'ok' && outcome !== 'cached'),
  }],
  ['Memory', megabytes, { used: (now) => now.sum('process_resident_memory_bytes') }],
  ['Processor', percent, { used: (now, before) => now.rate(before, 'process_cpu_seconds_total') }],
];

function drawn(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function made(name, text = '') {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

/** One plot in the page. */
class Plot {
  constructor(parent, [title, write, lines]) {
    this.write = write;
    this.lines = Object.entries(lines).map(([name, read], index) => ({ name, read, index, values: [] }));
    const figure = made('figure');
    const caption = made('figcaption');
    this.value = made('strong', '–');
    caption.append(made('span', title), this.value);
    this.title = title;
    this.svg = drawn('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}: no data yet` });
    this.svg.append(drawn('line', { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
    const keys = made('ul');
    for (const line of this.lines) {
      line.drawn = drawn('polyline', { class: `series-${line.index}` });
      this.svg.append(line.drawn);
      const key = made('li');
      const sample = drawn('svg', { viewBox: '0 0 20 8', 'aria-hidden': 'true' });
      sample.append(drawn('polyline', { class: `series-${line.index}`, points: '0,4 20,4' }));
      line.key = made('span', line.name);
      key.append(sample, line.key);
      keys.append(key);
    }
    figure.append(caption, this.svg);
    if (this.lines.length > 1) figure.append(keys);
    parent.append(figure);
  }

  update(now, before) {
    for (const line of this.lines) {
      line.values.push(line.read(now, before));
      if (line.values.length > WIDTH) line.values.shift();
    }
    const known = this.lines.flatMap(({ values }) => values).filter((value) => value !== undefined);
    const most = Math.max(...known, Number.MIN_VALUE);
    const written = this.lines.map((line) => {
      const { name, values } = line;
      const start = WIDTH - values.length;
      const points = values.map((value, at) => (value === undefined ? '' : `${start + at},${(HEIGHT - 1) * (1 - value / most) + 0.5}`));
      line.drawn.setAttribute('points', points.join(' '));
      const last = values.at(-1);
      const words = last === undefined ? NONE : this.write(last);
      line.key.textContent = `${name} ${words}`;
      return [name, words];
    });
    // The first line that has a value gives the number in the corner.
    this.value.textContent = written.find(([, words]) => words !== NONE)?.[1] ?? '–';
    this.svg.setAttribute('aria-label', `${this.title}: ${written.map((words) => words.join(' ')).join(', ')}`);
  }
}

/** Makes all plots. Returns what to call with each scrape and the one before. */
export function makePlots(parent) {
  const plots = PLOTS.map((plot) => new Plot(parent, plot));
  return (now, before) => plots.forEach((plot) => plot.update(now, before));
}
