//! The connections of this replica, by the node that they belong to.
//!
//! A connection is *held* from its admission on and can be sent to only later, when its node has
//! been told that it is authenticated. Rooms of the Socket.IO library are not used: they know
//! nothing of owners.

use std::sync::Arc;

use super::Delivered;
use crate::node::{ConnectionId, NodeId, Owner};
use crate::protocol::JsonString;
use crate::sharded::ShardedMap;
use link::{CloseReason, LinkHandle, SendError};

/// All connections of this replica; a cheap handle.
#[derive(Clone)]
pub struct LocalConnections(Arc<ShardedMap<Held>>);

/// A connection that owns its node's ID.
struct Held {
    owner: Owner,
    link: LinkHandle,
    receiver: Option<Arc<Receiver>>,
}

/// A connection that can be sent to.
pub struct Receiver {
    link: LinkHandle,
}

impl LocalConnections {
    /// No connections.
    pub fn new() -> Self {
        Self(Arc::new(ShardedMap::new()))
    }

    /// Enters a connection that has acquired the ID of `node`.
    pub fn hold(&self, node: NodeId, owner: Owner, link: LinkHandle) {
        self.0.write(node.as_str()).insert(node.clone(), Held { owner, link, receiver: None });
    }

    /// Greets the node and lets its connection be sent to, in one step: nothing can be delivered
    /// before the greeting, and whoever has been greeted can be reached. Returns whether the
    /// connection is held still and took the greeting.
    pub fn connect(
        &self,
        node: &NodeId,
        connection: ConnectionId,
        receiver: Receiver,
        greeting: impl FnOnce(&Receiver) -> Delivered,
    ) -> bool {
        match self.0.write(node.as_str()).get_mut(node) {
            Some(held) if held.owner.connection == connection => {
                let greeted = greeting(&receiver) == Delivered::Yes;
                held.receiver = greeted.then(|| Arc::new(receiver));
                greeted
            }
            _ => false,
        }
    }

    /// Forgets a connection, unless another one holds the ID by now.
    pub fn forget(&self, node: &NodeId, connection: ConnectionId) {
        let mut shard = self.0.write(node.as_str());
        if shard.get(node).is_some_and(|held| held.owner.connection == connection) {
            let forgotten = shard.remove(node);
            drop(shard);
            // Outside of the lock: this may be the socket's last owner.
            drop(forgotten);
        }
    }

    /// The link of this connection of `node`, if it is held here.
    pub fn link(&self, node: &NodeId, connection: ConnectionId) -> Option<LinkHandle> {
        let shard = self.0.read(node.as_str());
        shard
            .get(node)
            .filter(|held| held.owner.connection == connection)
            .map(|held| held.link.clone())
    }

    /// The connection of `node` that can be sent to, and the owner that it is.
    pub fn receiver(&self, node: &str) -> Option<(Owner, Arc<Receiver>)> {
        let shard = self.0.read(node);
        let held = shard.get(node)?;
        Some((held.owner, held.receiver.clone()?))
    }

    /// As [`LocalConnections::receiver`], if this is still the node's connection.
    pub fn receiver_on(&self, node: &str, connection: ConnectionId) -> Option<Arc<Receiver>> {
        let shard = self.0.read(node);
        let held = shard.get(node).filter(|held| held.owner.connection == connection)?;
        held.receiver.clone()
    }

    /// Who owns the ID of `node`, if the connection can be sent to.
    pub fn owner(&self, node: &str) -> Option<Owner> {
        self.0.read(node).get(node).filter(|held| held.receiver.is_some()).map(|held| held.owner)
    }

    /// As [`LocalConnections::owner`], with the node's ID.
    pub fn node(&self, node: &str) -> Option<(NodeId, Owner)> {
        let shard = self.0.read(node);
        let (node, held) = shard.get_key_value(node)?;
        held.receiver.is_some().then(|| (node.clone(), held.owner))
    }

    /// Every node that can be sent to, with its connection.
    pub fn connected(&self) -> Vec<(NodeId, ConnectionId)> {
        let connected = |node: &NodeId, held: &Held| {
            held.receiver.is_some().then(|| (node.clone(), held.owner.connection))
        };
        self.0.collect(connected).into_iter().flatten().collect()
    }

    /// Tells this connection of `node` to stay away and closes it. Returns whether it was there.
    pub fn dismiss(&self, node: &NodeId, connection: ConnectionId) -> bool {
        let receiver = {
            let shard = self.0.read(node.as_str());
            let held = shard.get(node).filter(|held| held.owner.connection == connection);
            held.and_then(|held| held.receiver.clone())
        };
        receiver.is_some_and(|receiver| {
            receiver.dismiss();
            true
        })
    }

    /// Whether `node` can be sent to.
    pub fn is_connected(&self, node: &str) -> bool {
        self.0.read(node).get(node).is_some_and(|held| held.receiver.is_some())
    }

    /// Whether a connection has the ID of `node`, even if it cannot be sent to yet.
    pub fn is_held(&self, node: &str) -> bool {
        self.0.read(node).contains_key(node)
    }

    /// The links of all held connections.
    pub fn links(&self) -> Vec<LinkHandle> {
        self.0.collect(|_, held| held.link.clone())
    }
}

impl Default for LocalConnections {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// A connection whose frames leave by `link`.
    pub fn new(link: LinkHandle) -> Self {
        Self { link }
    }

    /// Tells the node by Socket.IO's disconnect packet that it is not wanted, and closes the
    /// connection behind that. The official client does not reconnect by itself after it.
    fn dismiss(&self) {
        self.link.send_disconnect();
        self.link.close(CloseReason::Kicked);
    }

    /// Queues an event with one argument.
    pub fn deliver(&self, event: &str, argument: JsonString<'_>) -> Delivered {
        match self.link.send_event(event, argument.as_str()) {
            Ok(()) => Delivered::Yes,
            Err(SendError::QueueFull) => Delivered::QueueFull,
            Err(SendError::Closed) => Delivered::NotConnected,
        }
    }
}
