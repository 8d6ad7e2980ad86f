// Meets somebody by topic and opens a data channel to them. See index.html.

const wishes = new URLSearchParams(location.search);
const broker = wishes.get("broker") ?? "http://127.0.0.1:8080";
const topic = wishes.get("topic") ?? "lobby";
// Peers in different networks need a STUN server too, and often a TURN server.
const rtc = { iceServers: wishes.has("stun") ? [{ urls: wishes.get("stun") }] : [] };

/** How long somebody who has made a session may take to be reached. */
const ANSWER_LIMIT_MS = 15_000;

const element = (id) => document.getElementById(id);
const show = (line) => (element("log").textContent += `${line}\n`);
const state = (text) => (element("state").textContent = text);

/** Asks the broker; an answer that is no success is an error with its status. */
async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(broker + path, request);
  const reply = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(reply.error), { status: answer.status });
  return reply;
}

const path = `/${encodeURIComponent(topic)}`;
const oldest = (sessions) => sessions.reduce((one, other) => (isOlder(other, one) ? other : one));
const isOlder = (one, other) =>
  one.createdAt < other.createdAt || (one.createdAt === other.createdAt && one.code < other.code);

/** One side of a session: leaves its own candidates there, and takes the other's. */
class Side {
  constructor(name, code, connection) {
    Object.assign(this, { name, code, connection, taken: 0 });
  }

  leave(what) {
    return ask("/answer", { code: this.code, side: this.name, ...what });
  }

  /** From here on every candidate goes to the other side as soon as it is found. */
  trickle() {
    this.connection.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.leave({ candidate: JSON.stringify(candidate) });
    };
  }

  /** What the other side has left, as soon as there is something new. */
  news() {
    return ask("/poll", { code: this.code, side: this.name, wait: 25_000 });
  }

  async take(candidates) {
    for (; this.taken < candidates.length; this.taken += 1) {
      await this.connection.addIceCandidate(JSON.parse(candidates[this.taken]));
    }
  }
}

/** Waits for somebody who answers. Gives up if somebody else was there before: both would wait for ever. */
async function offer() {
  const connection = new RTCPeerConnection(rtc);
  const opened = open(connection.createDataChannel("talk"));
  const description = await connection.createOffer();
  const { code } = await ask(`${path}/offer`, { info: "a browser", offer: JSON.stringify(description) });
  const { sessions } = await ask(`${path}/sessions`);
  if (sessions.length > 0 && oldest(sessions).code !== code) {
    connection.close();
    // A session that is answered is in no list any more.
    await ask("/answer", { code, side: "offerer", answer: "given up" });
    return undefined;
  }
  state("waiting for somebody");
  const side = new Side("offerer", code, connection);
  side.trickle();
  await connection.setLocalDescription(description);
  return exchange(side, opened, async ({ answer, answerCandidates }) => {
    if (answer === null) return;
    if (!connection.remoteDescription) await connection.setRemoteDescription(JSON.parse(answer));
    await side.take(answerCandidates);
  });
}

/** Answers a session that was found. */
async function answer(session) {
  const connection = new RTCPeerConnection(rtc);
  const opened = new Promise((resolve) => {
    connection.ondatachannel = ({ channel }) => resolve(open(channel));
  });
  await connection.setRemoteDescription(JSON.parse(session.offer));
  const description = await connection.createAnswer();
  const side = new Side("answerer", session.code, connection);
  await side.leave({ answer: JSON.stringify(description) });
  side.trickle();
  await connection.setLocalDescription(description);
  // The peer that made the session may have left long ago.
  return exchange(side, opened, ({ offerCandidates }) => side.take(offerCandidates), ANSWER_LIMIT_MS);
}

/** Takes what the other side leaves until the channel is open; undefined if that takes too long. */
async function exchange(side, opened, take, limitMs) {
  const late = limitMs && new Promise((resolve) => setTimeout(resolve, limitMs, "late"));
  const ends = late ? [opened, late] : [opened];
  let end;
  for (const promise of ends) promise.then((value) => (end ??= value));
  while (!end) {
    const news = await Promise.race([side.news(), ...ends]);
    if (!end) await take(news);
  }
  if (end !== "late") return end;
  side.connection.close();
  return undefined;
}

/** The channel, once it is open. What comes over it is shown. */
function open(channel) {
  channel.onmessage = ({ data }) => show(`they: ${data}`);
  return new Promise((resolve) => (channel.onopen = () => resolve(channel)));
}

/** Meets somebody: answers the oldest session, or makes one. */
async function meet() {
  for (;;) {
    try {
      const { sessions } = await ask(`${path}/sessions`);
      const channel = sessions.length > 0 ? await answer(oldest(sessions)) : await offer();
      if (channel) return channel;
    } catch (error) {
      // The session has ended meanwhile: begin anew.
      if (error.status !== 404) throw error;
    }
  }
}

element("topic").textContent = topic;
try {
  const channel = await meet();
  state("connected");
  channel.onclose = () => state("they have left");
  for (const id of ["text", "say"]) element(id).disabled = false;
  element("form").onsubmit = (event) => {
    event.preventDefault();
    channel.send(element("text").value);
    show(`I: ${element("text").value}`);
    element("text").value = "";
  };
} catch (error) {
  state(`failed: ${error.message}`);
}
