//! A peer of a peer-relay network: messages travel from peer to peer, by Kademlia-like routing.
//!
//! Peers in browsers cannot listen, so a network needs at least one peer that listens and stays
//! up. A program becomes a peer with [`Peer`], which sends and receives JSON, or with
//! [`PeerSocket`], which has the calls of a UDP socket. The wire format is that of the npm package
//! `peer-relay` 0.0.2.
//!
//! # Guide to the code
//!
//! Each module imports only from those before it:
//!
//! 1. `id`, `id_file`, `bucket`: IDs, their distance, and tables of them.
//! 2. `message`, `outcome`: what travels, and what can happen to it.
//! 3. `rotating_map`, `router`: where a message goes next; pure.
//! 4. `known_peers`, `membership`: which peers a peer knows, and what it does about them; pure.
//! 5. `channel`, `webrtc`: one connection to another peer. Neither knows the peer that owns it.
//! 6. `peer`: owns the tables, the channels and their tasks, and does what `membership` decides.
//! 7. `socket`: datagrams over a peer.

mod bucket;
mod channel;
mod id;
mod id_file;
mod known_peers;
mod membership;
mod message;
mod metrics;
mod outcome;
mod peer;
mod rotating_map;
mod router;
mod socket;
#[cfg(feature = "webrtc")]
mod webrtc;

pub use id::{ID_BYTES, InvalidPeerId, PeerId};
pub use id_file::IdFileError;
pub use link::{CloseReason, Link, LinkHandle, LinkLimits, LinkSet, MAX_MESSAGE_BYTES};
pub use message::MAX_DATA_BYTES;
pub use metrics::Metrics;
pub use peer::{
    Admits, ChannelPermit, DialPolicy, DialingNotAllowed, Events, Peer, PeerEvent, PeerSettings,
    SendError,
};
pub use socket::{MAX_DATAGRAM_BYTES, PeerAddr, PeerSocket};

/// Whether a peer understands this frame: what fuzzing looks for faults in. No part of the API.
#[doc(hidden)]
pub fn is_message(frame: &str) -> bool {
    let content = |message: &message::Message| message::Content::parse(&message.data).is_ok();
    message::Message::parse(frame).is_ok_and(|message| content(&message))
        || message::parse_id_frame(frame).is_ok()
}
