//! What the broker uses of `peer_relay`, in builds without it. None of these types has a value, so
//! the compiler drops every path that would need one.
#![allow(dead_code, reason = "the other build uses all of it")]

use std::fmt;
use std::sync::Arc;

use link::{Link, Socket};
use serde::Serialize;
use serde_json::value::RawValue;

/// No peer.
#[derive(Clone)]
pub(crate) enum Peer {}

impl Peer {
    pub(crate) fn id(&self) -> PeerId {
        match *self {}
    }

    pub(crate) fn events(&self) -> Events {
        match *self {}
    }

    pub(crate) fn leave(&self) {
        match *self {}
    }

    pub(crate) fn reserve(&self) -> Option<ChannelPermit> {
        match *self {}
    }

    pub(crate) fn accept<S: Socket>(&self, _link: Link<S>, _permit: ChannelPermit) {
        match *self {}
    }

    pub(crate) fn send_now(&self, _to: PeerId, _data: &impl Serialize) -> Result<(), SendError> {
        match *self {}
    }
}

/// No right to a channel.
pub(crate) enum ChannelPermit {}

/// No ID of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerId {}

impl PeerId {
    /// Returns an error.
    pub(crate) fn parse(_text: &str) -> Result<Self, ()> {
        Err(())
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// No events.
pub(crate) enum Events {}

impl Events {
    pub(crate) async fn next(&mut self) -> Option<PeerEvent> {
        match *self {}
    }
}

/// An event that does not happen.
pub(crate) enum PeerEvent {
    Message { from: PeerId, data: Arc<RawValue> },
    Connected(PeerId),
    Gone(PeerId),
    Lost(u64),
}

/// An error that does not happen.
pub(crate) enum SendError {
    NoJson(serde_json::Error),
    TooLong,
    QueueFull,
    NoNeighbour,
    Ended,
}
