//! Internal steps for `benches/protocol.rs`, which times them. No part of the public API.
#![allow(missing_docs, reason = "for the bench only")]

use futures_util::FutureExt;

use crate::directory::{Directory, Lease};
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use crate::protocol::{EventPacket, Handshake, Question};

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
