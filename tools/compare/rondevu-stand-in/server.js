// A stand-in for the original Rondevu server, written from its HTTP contract alone: Hono on Node with better-sqlite3 and a
// file. Nothing of the original's code was seen. Where the contract leaves a choice, the faster usual practice is taken:
// WAL, prepared statements made once, an index for every question, one statement per operation.
// Candidates are read, changed and written, as the contract says of the original.
//
// PORT, HOST, STORAGE_PATH (./data.db), SESSION_TIMEOUT (300000), CORS_ORIGINS (*).
import { randomUUID } from "node:crypto";
import { serve } from "@hono/node-server";
import Database from "better-sqlite3";
import { Hono } from "hono";
import { cors } from "hono/cors";

const timeout = Number(process.env.SESSION_TIMEOUT ?? 300000);
const origins = (process.env.CORS_ORIGINS ?? "*").split(",").map((it) => it.trim());

const db = new Database(process.env.STORAGE_PATH ?? "./data.db");
db.pragma("journal_mode = WAL");
db.exec(`
  CREATE TABLE IF NOT EXISTS sessions (
    code TEXT PRIMARY KEY, origin TEXT NOT NULL, topic TEXT NOT NULL,
    info TEXT NOT NULL CHECK(length(info) <= 1024), offer TEXT NOT NULL, answer TEXT,
    offer_candidates TEXT NOT NULL DEFAULT '[]', answer_candidates TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
  CREATE INDEX IF NOT EXISTS idx_expires_at ON sessions(expires_at);
  CREATE INDEX IF NOT EXISTS idx_listed ON sessions(origin, topic, created_at) WHERE answer IS NULL;`);
const create = db.prepare(`INSERT INTO sessions (code, origin, topic, info, offer, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)`);
const find = db.prepare(`SELECT * FROM sessions WHERE code = ? AND origin = ? AND expires_at > ?`);
const list = db.prepare(`SELECT * FROM sessions WHERE origin = ? AND topic = ? AND answer IS NULL AND expires_at > ? ORDER BY created_at DESC`);
const topicCount = db.prepare(`SELECT COUNT(DISTINCT topic) AS total FROM sessions WHERE origin = ? AND answer IS NULL AND expires_at > ?`);
const topics = db.prepare(`SELECT topic, COUNT(*) AS count FROM sessions WHERE origin = ? AND answer IS NULL AND expires_at > ? GROUP BY topic ORDER BY topic LIMIT ? OFFSET ?`);
const setAnswer = db.prepare(`UPDATE sessions SET answer = ? WHERE code = ?`);
const setOfferCandidates = db.prepare(`UPDATE sessions SET offer_candidates = ? WHERE code = ?`);
const setAnswerCandidates = db.prepare(`UPDATE sessions SET answer_candidates = ? WHERE code = ?`);
const cleanUp = db.prepare(`DELETE FROM sessions WHERE expires_at <= ?`);
setInterval(() => cleanUp.run(Date.now()), 60_000).unref();

const app = new Hono();
app.use(
  "*",
  cors({
    // A list, in which * is no origin: the mistake of the original that the contract tells of. It costs less than a header.
    origin: origins,
    allowMethods: ["GET", "POST", "OPTIONS"],
    allowHeaders: ["Content-Type"],
    credentials: true,
    maxAge: 600,
  }),
);
app.onError((error, c) => c.json({ error: "Internal server error" }, 500));

const originOf = (c) => c.req.header("Origin") ?? "unknown";
const missing = (name) => ({ error: `Missing or invalid required parameter: ${name}` });
const isText = (it) => typeof it === "string" && it !== "";
const NOT_FOUND = { error: "Session not found, expired, or origin mismatch" };
const whole = (text, otherwise) => {
  const number = Number.parseInt(text, 10);
  return Number.isNaN(number) ? otherwise : number;
};

app.get("/health", (c) => c.json({ status: "ok", timestamp: Date.now() }));

app.get("/", (c) => {
  const page = Math.max(1, whole(c.req.query("page"), 1));
  const limit = Math.min(1000, Math.max(1, whole(c.req.query("limit"), 100)));
  const origin = originOf(c);
  const now = Date.now();
  const { total } = topicCount.get(origin, now);
  const offset = (page - 1) * limit;
  const found = topics.all(origin, now, limit, offset);
  return c.json({ topics: found, pagination: { page, limit, total, hasMore: offset + found.length < total } });
});

app.get("/:topic/sessions", (c) => {
  const found = list.all(originOf(c), c.req.param("topic"), Date.now());
  return c.json({
    sessions: found.map((it) => ({
      code: it.code,
      info: it.info,
      offer: it.offer,
      offerCandidates: JSON.parse(it.offer_candidates),
      createdAt: it.created_at,
      expiresAt: it.expires_at,
    })),
  });
});

app.post("/:topic/offer", async (c) => {
  const topic = c.req.param("topic");
  const { info, offer } = await c.req.json();
  if (!isText(topic)) return c.json(missing("topic"), 400);
  if (topic.length > 256) return c.json({ error: "Topic string must be 256 characters or less" }, 400);
  if (!isText(info)) return c.json(missing("info"), 400);
  if (info.length > 1024) return c.json({ error: "Info string must be 1024 characters or less" }, 400);
  if (!isText(offer)) return c.json(missing("offer"), 400);
  const code = randomUUID();
  const now = Date.now();
  create.run(code, originOf(c), topic, info, offer, now, now + timeout);
  return c.json({ code });
});

const wrongSide = { error: 'Invalid or missing parameter: side (must be "offerer" or "answerer")' };
const isSide = (side) => side === "offerer" || side === "answerer";

app.post("/answer", async (c) => {
  const { code, side, answer, candidate } = await c.req.json();
  if (!isText(code)) return c.json(missing("code"), 400);
  if (!isSide(side)) return c.json(wrongSide, 400);
  if (!answer && !candidate) return c.json({ error: "Missing required parameter: answer or candidate" }, 400);
  if (answer && candidate) return c.json({ error: "Cannot provide both answer and candidate" }, 400);
  const session = find.get(code, originOf(c), Date.now());
  if (!session) return c.json(NOT_FOUND, 404);
  if (answer) {
    setAnswer.run(answer, code);
  } else if (side === "offerer") {
    const candidates = JSON.parse(session.offer_candidates);
    candidates.push(candidate);
    setOfferCandidates.run(JSON.stringify(candidates), code);
  } else {
    const candidates = JSON.parse(session.answer_candidates);
    candidates.push(candidate);
    setAnswerCandidates.run(JSON.stringify(candidates), code);
  }
  return c.json({ success: true });
});

app.post("/poll", async (c) => {
  const { code, side } = await c.req.json();
  if (!isText(code)) return c.json(missing("code"), 400);
  if (!isSide(side)) return c.json(wrongSide, 400);
  const session = find.get(code, originOf(c), Date.now());
  if (!session) return c.json(NOT_FOUND, 404);
  return c.json(
    side === "offerer"
      ? { answer: session.answer, answerCandidates: JSON.parse(session.answer_candidates) }
      : { offer: session.offer, offerCandidates: JSON.parse(session.offer_candidates) },
  );
});

const options = { fetch: app.fetch, port: Number(process.env.PORT ?? 3000), hostname: process.env.HOST ?? "127.0.0.1" };
const server = serve(options, ({ port }) => console.log(`listening on ${port}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.close();
    db.close();
    process.exit(0);
  });
}
