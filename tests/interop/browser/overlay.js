// What browsers had in 2016, when the package's bundle was made, and what the test looks at. Loaded before the bundle.

'use strict';

// The bundle reads statistics of a connection by a callback, which browsers have given up since; it needs none of them.
const getStats = RTCPeerConnection.prototype.getStats;
RTCPeerConnection.prototype.getStats = function (argument) {
  if (typeof argument !== 'function') return getStats.call(this, argument);
  argument({ result: () => [] });
};

let peer;
const received = [];

/** Starts a peer that knows these URLs, and looks for others or not; its ID. */
function startPeer(bootstrap, begins) {
  peer = new PeerRelay({ bootstrap });
  if (!begins) peer._populate = () => {};
  peer.on('message', (data, from) => received.push({ data, from: from.toString('hex') }));
  return peer.id.toString('hex');
}

/** The neighbours, each with the kind of its channel. The package keeps those whose WebRTC channel has ended. */
const neighbours = () =>
  peer.peers
    .toArray()
    .filter((channel) => !channel.destroyed)
    .map((channel) => ({ id: channel.id.toString('hex'), isWebRtc: '_sp' in channel }));

const neighbour = (id) => peer.peers.toArray().find((channel) => channel.id.toString('hex') === id);
const disconnectFrom = (id) => peer.disconnect(neighbour(id).id);
const sendGarbageTo = (id) => neighbour(id)._sp.send('null');
const sendTo = (id, data) => peer.send(neighbour(id).id, data);

/** The next message that has come. */
async function nextMessage() {
  while (received.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  return received.shift();
}
