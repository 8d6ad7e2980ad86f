// A Crolang node in a browser page, reduced to what a data channel needs: it joins the broker, dials or is dialled, and
// trades descriptions and ICE candidates through the broker. The test calls join, dial, say and hear; `journal` tells
// what went through the broker.

'use strict';

const journal = [];

let socket;
let id;
let connection;
let channel;
/** What came over the data channel and who waits for it. */
const heard = [];
const listeners = [];
/** Messages from the broker are handled one after the other: a candidate must find its description in place. */
let work = Promise.resolve();
/** Resolves when the data channel is open, no matter who began. */
let opened;
const channelOpen = new Promise((resolve) => (opened = resolve));
/** Resolves at the first candidate of the other side; the channel may open before it. */
let gotCandidate;
const candidateArrived = new Promise((resolve) => (gotCandidate = resolve));

/** Connects to the broker and prepares the RTCPeerConnection with the configuration that comes with AUTHENTICATED. */
async function join(brokerUrl, ownId) {
  id = ownId;
  socket = io(brokerUrl, {
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
    query: { id, version: '1.2.0', runtime: 'BROWSER' },
  });
  const text = await new Promise((resolve, reject) => {
    socket.once('AUTHENTICATED', resolve);
    socket.once('connect_error', reject);
  });
  const configuration = JSON.parse(text);
  // The protocol says `password` where browsers say `credential`.
  configuration.iceServers = configuration.iceServers.map(({ password, ...server }) =>
    password === undefined ? server : { ...server, credential: password },
  );
  connection = new RTCPeerConnection(configuration);
  connection.ondatachannel = (event) => useChannel(event.channel);
  socket.onAny((event, message) => {
    const envelope = JSON.parse(message);
    journal.push({ direction: 'received', event, envelope });
    work = work.then(() => handle(event, envelope));
  });
  return connection.getConfiguration();
}

/** Begins a connection to the node `to`. */
async function dial(to) {
  useChannel(connection.createDataChannel('crolang'));
  const offer = await connection.createOffer();
  await send('CONNECTION_ATTEMPT', { to, sessionDescription: offer });
  // Only now are candidates gathered: they travel behind the offer and never inside it.
  trickle(to, 'ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER');
  await connection.setLocalDescription(offer);
}

async function handle(event, { from, sessionDescription, candidate }) {
  switch (event) {
    case 'CONNECTION_ATTEMPT': {
      await connection.setRemoteDescription(sessionDescription);
      const answer = await connection.createAnswer();
      await send('CONNECTION_ACCEPTANCE', { to: from, sessionDescription: answer });
      trickle(from, 'ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR');
      await connection.setLocalDescription(answer);
      break;
    }
    case 'CONNECTION_ACCEPTANCE':
      await connection.setRemoteDescription(sessionDescription);
      break;
    case 'ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER':
    case 'ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR':
      await connection.addIceCandidate(candidate);
      gotCandidate();
      break;
    default:
      throw new Error(`unexpected event ${event}`);
  }
}

function trickle(to, event) {
  connection.onicecandidate = ({ candidate }) => {
    // An empty candidate only says that there are no more.
    if (candidate && candidate.candidate) send(event, { to, candidate: candidate.toJSON() });
  };
}

/** Sends through the broker; anything but OK is an error. */
async function send(event, message) {
  const envelope = { platformFrom: 'BROWSER', versionFrom: '1.2.0', from: id, sessionId: 'session', ...message };
  const entry = { direction: 'sent', event, envelope };
  journal.push(entry);
  entry.ack = await socket.timeout(5000).emitWithAck(event, JSON.stringify(envelope));
  if (entry.ack !== 'OK') throw new Error(`${event}: ${entry.ack}`);
}

function useChannel(newChannel) {
  channel = newChannel;
  channel.onopen = () => opened();
  channel.onmessage = ({ data }) => {
    const listener = listeners.shift();
    if (listener) listener(data);
    else heard.push(data);
  };
}

function say(text) {
  channel.send(text);
}

/** The next text that comes over the data channel. */
function hear() {
  return heard.length > 0 ? heard.shift() : new Promise((resolve) => listeners.push(resolve));
}
