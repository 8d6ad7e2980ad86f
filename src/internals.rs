//! Internal steps for `benches/protocol.rs`, which times them, and for `fuzz/`, which looks for input
//! that they cannot take. No part of the public API.
#![allow(missing_docs, reason = "for benches and fuzzing only")]

use futures_util::FutureExt;

use crate::config;
use crate::delivery;
use crate::directory::{Directory, Lease};
use crate::gateway::{self, ProxyProtocol};
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use crate::protocol::{EventPacket, Handshake, Question, RtcConfiguration};
use crate::webhooks::Reply;

/// Reads the addresses of an event; returns the length of the receiver's ID.
pub fn receiver_bytes(event: &str) -> Option<usize> {
    let envelope = EventPacket::parse(event).ok()?.payload?.envelope().ok()?;
    Some(envelope.to.len())
}

pub fn is_event_packet(text: &str) -> bool {
    EventPacket::parse(text).is_ok()
}

pub fn is_handshake(query: &str) -> bool {
    Handshake::parse(query, usize::MAX).is_ok()
}

/// Parses a presence query and builds its ack.
pub fn presence_ack(
    content: &str,
    max_ids: usize,
    is_connected: impl Fn(&str) -> bool,
) -> Option<String> {
    Some(Question::parse(content.as_bytes(), max_ids).ok()?.answer(is_connected))
}

pub fn is_rtc_configuration(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|it| RtcConfiguration::from_json(it).is_ok())
}

/// Whether a webhook's reply says yes in this field.
pub fn says_yes(reply: &[u8], field: &str) -> bool {
    Reply::new(reply).says_yes(field).unwrap_or(false)
}

/// Whether these bytes are a batch of messages from another replica.
pub fn is_batch(bytes: &[u8]) -> bool {
    delivery::is_batch(bytes)
}

/// How many variables a `.env` file sets.
pub fn env_variables(text: &str) -> usize {
    config::env_variables(text).0.len()
}

/// Whether a connection begins with a PROXY header, or with none where it needs none.
pub fn has_proxy_header(mut bytes: &[u8]) -> bool {
    let header = gateway::read_header(&mut bytes, ProxyProtocol::Optional);
    header.now_or_never().is_some_and(|header| header.is_ok())
}

/// A directory in memory in which some IDs have an owner.
pub struct HeldIds {
    directory: Directory,
    replica: ReplicaId,
    leases: Vec<Lease>,
    newcomer: NodeId,
}

impl HeldIds {
    pub fn new(count: usize) -> Option<Self> {
        let node = |n| NodeId::parse(&format!("node-{n:08}")).ok();
        let (directory, replica) = (Directory::memory(), ReplicaId::random());
        let mut held = Self { directory, replica, leases: Vec::new(), newcomer: node(count)? };
        for n in 0..count {
            held.leases.push(held.acquire(&node(n)?)?);
        }
        Some(held)
    }

    pub fn acquire_and_release(&self) -> bool {
        self.acquire(&self.newcomer).is_some()
    }

    pub fn look_up(&self) -> bool {
        let middle = self.leases.get(self.leases.len() / 2);
        middle.is_some_and(|lease| self.directory.is_claimed(lease.node(), lease.owner()))
    }

    fn acquire(&self, node: &NodeId) -> Option<Lease> {
        let owner = Owner { replica: self.replica, connection: ConnectionId::next() };
        // In memory nothing waits.
        self.directory.acquire(node, owner).now_or_never()?.ok()
    }
}
