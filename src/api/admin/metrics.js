// What Prometheus scrapes (OpenMetrics 1.0), read into numbers.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** One scrape: each series by its name, with its labels and its value. */
export class Scrape {
  constructor(text, at) {
    this.at = at;
    this.series = new Map();
    for (const line of text.split('\n')) {
      const [, name, labels = '', value] = LINE.exec(line) ?? [];
      if (!name) continue;
      const parsed = Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, label]) => [key, label]));
      if (!this.series.has(name)) this.series.set(name, []);
      this.series.get(name).push({ labels: parsed, value: Number(value) });
    }
  }

  /** The sum of the series with this name that are chosen; undefined if there are none. */
  sum(name, choose = () => true) {
    const chosen = (this.series.get(name) ?? []).filter(({ labels }) => choose(labels));
    return chosen.length === 0 ? undefined : chosen.reduce((sum, { value }) => sum + value, 0);
  }

  /** What was added a second since an earlier scrape. A counter that has gone back began anew. */
  rate(before, name, choose) {
    const [now, then] = [this.sum(name, choose) ?? 0, before.sum(name, choose) ?? 0];
    return Math.max(0, now - then) / ((this.at - before.at) / 1000);
  }

  /** A quantile of what a histogram has seen since an earlier scrape; undefined if it has seen nothing. */
  quantile(before, name, share) {
    const bound = (labels) => (labels.le === '+Inf' ? Infinity : Number(labels.le));
    const bounds = [...new Set((this.series.get(`${name}_bucket`) ?? []).map(({ labels }) => bound(labels)))].sort((a, b) => a - b);
    const counts = bounds.map((end) => {
      const choose = (labels) => bound(labels) === end;
      return (this.sum(`${name}_bucket`, choose) ?? 0) - (before.sum(`${name}_bucket`, choose) ?? 0);
    });
    const wanted = counts.at(-1) * share;
    if (!(wanted > 0)) return undefined;
    const at = counts.findIndex((count) => count >= wanted);
    const [start, end] = [at > 0 ? bounds[at - 1] : 0, bounds[at]];
    if (end === Infinity) return start;
    const below = at > 0 ? counts[at - 1] : 0;
    return start + ((end - start) * (wanted - below)) / (counts[at] - below);
  }
}
