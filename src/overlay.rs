//! A peer of a peer-relay network: messages travel from peer to peer, by Kademlia-like routing.
//!
//! Peers in browsers cannot listen, so a network needs at least one peer that listens and stays
//! up: the broker can be that one. A program can use a [`Peer`] or a [`PeerSocket`] too. The wire
//! is that of the npm package `peer-relay` 0.0.2.
//!
//! From the words to the running peer:
//!
//! - `id`, `bucket`: IDs, their distance, and tables of them.
//! - `message`, `fate`: what travels, and what becomes of it.
//! - `generations`, `router`: which way a message goes; pure.
//! - `acquaintances`, `membership`: whom a peer knows, and what it does about them; pure.
//! - `channel`: one WebSocket to another peer, whichever side opened it.
//! - `peer`: owns the tables, the channels and their tasks.
//! - `webrtc`: channels that are WebRTC data channels, in builds with the feature of that name.
//! - `socket`: datagrams over a peer.

mod acquaintances;
mod bucket;
mod channel;
mod counters;
mod fate;
mod generations;
mod id;
mod membership;
mod message;
mod peer;
mod router;
mod socket;
#[cfg(feature = "webrtc")]
mod webrtc;

pub use id::{ID_BYTES, InvalidPeerId, PeerId};
pub use message::MAX_DATA_BYTES;
pub(crate) use peer::Seat;
pub use peer::{DialPolicy, DialingNotAllowed, Events, Peer, PeerEvent, PeerSettings, SendError};
pub use socket::{MAX_DATAGRAM_BYTES, PeerAddr, PeerSocket};
