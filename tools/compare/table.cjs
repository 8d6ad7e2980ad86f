// A table of the medians of what `discovery` and `overlay` have written:  node table.cjs FILE
const { readFileSync } = require("node:fs");
const rows = readFileSync(process.argv[2], "utf8").trim().split("\n").map((line) => JSON.parse(line));
const keys = [...new Set(rows.map((it) => it.work))];
const servers = [...new Set(rows.map((it) => it.server))];
const median = (numbers) => {
  const sorted = numbers.filter((it) => it != null).sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN;
};
const first = servers[0];
console.log(`| work | server | runs | rate/s | cpu µs | p99 ms | resident MB | ${first}'s cpu ÷ its | rate ÷ ${first}'s | remarks |`);
console.log("|---|---|---|---|---|---|---|---|---|---|");
for (const work of keys) {
  const of = (server) => {
    const told = rows.filter((it) => it.work === work && it.server === server && it.told).map((it) => it.told);
    const latency = (it) => Object.values(it.latency_us)[0]?.p99 / 1000;
    return {
      count: told.length,
      rate: median(told.map((it) => it.per_s)),
      cpu: median(told.map((it) => it.servers_cpu_us_per_unit)),
      each: told[0]?.servers.map((_, place) => median(told.map((it) => it.servers[place]?.cpu_us_per_unit)).toFixed(1)).join(" + "),
      p99: median(told.map(latency)),
      resident: median(told.map((it) => it.servers.reduce((sum, one) => sum + one.resident_kb, 0) / 1024)),
      limit: told.filter((it) => it.load?.was_the_limit).length,
      wrong: told.filter((it) => !it.ok).length,
      waited: median(told.map((it) => it.load?.waited_percent)),
    };
  };
  const base = of(first);
  for (const server of servers) {
    const it = of(server);
    const remarks = [
      it.each?.includes("+") ? it.each : "",
      it.limit ? `load was the limit in ${it.limit}` : "",
      it.wrong ? `${it.wrong} FAILED` : "",
      it.waited > 5 ? `load waited ${it.waited.toFixed(0)} %: not quiet` : "",
    ];
    console.log(
      `| ${work} | ${server} | ${it.count} | ${it.rate.toFixed(0)} | ${it.cpu.toFixed(1)} | ${it.p99.toFixed(2)} | ${it.resident.toFixed(1)} | ` +
        `${(base.cpu / it.cpu).toFixed(1)} | ${(it.rate / base.rate).toFixed(1)} | ${remarks.filter(Boolean).join("; ")} |`,
    );
  }
}
