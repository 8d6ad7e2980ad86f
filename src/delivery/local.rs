//! The connections of this replica, by the node that they belong to.
//!
//! A connection is *registered* from its admission on and can be sent to only later, when its node
//! has been told that it is authenticated. Rooms of the Socket.IO library are not used: they know
//! nothing of owners.

use std::sync::{Arc, OnceLock, Weak};

use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use super::Outcome;
use crate::link::{CloseReason, LinkHandle, NoRoom, PARCEL_BYTES, STAND_IN_EVENT};
use crate::node::{ConnectionId, NodeId, Owner};
use crate::protocol::JsonString;
use crate::sharded::ShardedMap;

/// The arguments of a stand-in.
const NO_ARGUMENTS: [(); 0] = [];

/// All connections of this replica; a cheap handle.
#[derive(Clone)]
pub struct LocalConnections(Arc<ShardedMap<Registered>>);

/// A connection that owns its node's ID.
struct Registered {
    owner: Owner,
    connection: Connection,
    /// Whether its node has been greeted, so that it can be sent to.
    is_greeted: bool,
}

/// A node's connection, as whoever sends to it sees it; a cheap handle that keeps nothing open.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Set once the transport has one. Weak, because the socket's own event handler holds this.
    socket: Arc<OnceLock<Weak<Socket>>>,
    link: LinkHandle,
}

impl LocalConnections {
    /// Registers a connection that has acquired the ID of `node`.
    pub fn register(&self, node: NodeId, owner: Owner, connection: Connection) {
        let registered = Registered { owner, connection, is_greeted: false };
        self.0.write(node.as_str()).insert(node, registered);
    }

    /// Greets the node and lets its connection be sent to, in one step: nothing can be delivered
    /// before the greeting, and whoever has been greeted can be reached. Returns whether the
    /// connection is still registered and took the greeting.
    pub fn greet(
        &self,
        node: &NodeId,
        connection: ConnectionId,
        event: &str,
        argument: JsonString<'_>,
    ) -> bool {
        match self.0.write(node.as_str()).get_mut(node) {
            Some(registered) if registered.owner.connection == connection => {
                let outcome = registered.connection.send_greeting(event, argument);
                registered.is_greeted = outcome == Outcome::Delivered;
                registered.is_greeted
            }
            _ => false,
        }
    }

    /// Unregisters a connection, unless another one has the ID by now.
    pub fn unregister(&self, node: &NodeId, connection: ConnectionId) {
        let mut shard = self.0.write(node.as_str());
        if shard.get(node).is_some_and(|registered| registered.owner.connection == connection) {
            shard.remove(node);
        }
    }

    /// The link of this connection of `node`, if it is registered, even if it cannot be sent to
    /// yet.
    pub fn link(&self, node: &NodeId, connection: ConnectionId) -> Option<LinkHandle> {
        let shard = self.0.read(node.as_str());
        let registered = shard.get(node)?;
        (registered.owner.connection == connection).then(|| registered.connection.link.clone())
    }

    /// The connection of `node` that can be sent to, and the owner that it is.
    pub fn connection(&self, node: &str) -> Option<(Owner, Connection)> {
        self.greeted(node, |_, registered| (registered.owner, registered.connection.clone()))
    }

    /// As [`LocalConnections::connection`], with the node's ID instead of the connection.
    pub fn node(&self, node: &str) -> Option<(NodeId, Owner)> {
        self.greeted(node, |node, registered| (node.clone(), registered.owner))
    }

    /// Whether `node` can be sent to.
    pub fn is_connected(&self, node: &str) -> bool {
        self.greeted(node, |_, _| ()).is_some()
    }

    /// Whether a connection has the ID of `node`, even if it cannot be sent to yet.
    pub fn is_registered(&self, node: &str) -> bool {
        self.0.read(node).contains_key(node)
    }

    /// Every node that can be sent to, with its connection.
    pub fn connected(&self) -> Vec<(NodeId, ConnectionId)> {
        let connected = |node: &NodeId, registered: &Registered| {
            registered.is_greeted.then(|| (node.clone(), registered.owner.connection))
        };
        self.0.collect(connected).into_iter().flatten().collect()
    }

    /// The links of all registered connections.
    pub fn links(&self) -> Vec<LinkHandle> {
        self.0.collect(|_, registered| registered.connection.link.clone())
    }

    fn greeted<T>(&self, node: &str, get: impl FnOnce(&NodeId, &Registered) -> T) -> Option<T> {
        let shard = self.0.read(node);
        let (node, registered) = shard.get_key_value(node)?;
        registered.is_greeted.then(|| get(node, registered))
    }
}

impl Default for LocalConnections {
    fn default() -> Self {
        Self(Arc::new(ShardedMap::new()))
    }
}

impl Connection {
    /// A connection whose packets leave by `link`, once it has a socket.
    pub fn new(link: LinkHandle) -> Self {
        Self { socket: Arc::default(), link }
    }

    /// Lets the connection send through `socket`.
    pub fn attach(&self, socket: &Arc<Socket>) {
        // A second one has no effect: a connection has one socket.
        let _ = self.socket.set(Arc::downgrade(socket));
    }

    /// The link below.
    pub fn link(&self) -> &LinkHandle {
        &self.link
    }

    /// Queues an event with one argument.
    pub fn send_event(&self, event: &str, argument: JsonString<'_>) -> Outcome {
        let is_long = packet_bytes(event, argument) >= PARCEL_BYTES;
        self.send(event, argument, is_long)
    }

    /// Queues an event that is often the longest of a connection: the transport's write buffer
    /// would keep its size.
    fn send_greeting(&self, event: &str, argument: JsonString<'_>) -> Outcome {
        self.send(event, argument, true)
    }

    /// Queues an acknowledgement. Ends the connection if that is not possible: its node would wait
    /// for it for ever.
    pub fn send_ack(&self, ack_id: i64, argument: JsonString<'_>) {
        let digits = ack_id.checked_ilog10().unwrap_or(0) as usize + 1;
        // The packet's text is 43<id>[<argument>].
        self.link.reserve_ack(digits + argument.as_str().len() + "43[]".len());
        let is_queued = self.socket().is_some_and(|socket| {
            let mut unused = Value::Bytes(Default::default());
            let Ok(sender) =
                AckSender::<_>::from_message_parts(&socket, &mut unused, &Some(ack_id));
            sender.send(&argument).is_ok()
        });
        if !is_queued {
            self.link.kill(CloseReason::Overflow);
        }
    }

    /// Disconnects a node that is not wanted: it is told so by Socket.IO's disconnect packet, and
    /// the connection is closed behind that. The official client does not reconnect after it.
    pub fn disconnect(&self, reason: CloseReason) {
        self.link.reserve_disconnect();
        if self.socket().is_none_or(|socket| socket.disconnect().is_err()) {
            self.link.kill(reason);
        }
        self.link.close(reason);
    }

    fn send(&self, event: &str, argument: JsonString<'_>, is_parcel: bool) -> Outcome {
        let packet_bytes = packet_bytes(event, argument);
        match self.link.reserve(packet_bytes) {
            Ok(()) => {}
            Err(NoRoom::Full) => return Outcome::QueueFull,
            Err(NoRoom::Over) => return Outcome::NotHere,
        }
        let is_sent = self.socket().is_some_and(|socket| {
            if !is_parcel {
                return socket.emit(event, &argument).is_ok();
            }
            let parts = ["42[\"", event, "\",", argument.as_str(), "]"];
            let send_stand_in = || socket.emit(STAND_IN_EVENT, &NO_ARGUMENTS).is_ok();
            self.link.send_parcel(&parts, send_stand_in)
        });
        if is_sent {
            return Outcome::Delivered;
        }
        // The queue has more places than the link's limit lets be filled, so this socket is
        // closed: it is the same as if it had left a moment ago.
        self.link.unreserve(packet_bytes);
        Outcome::NotHere
    }

    fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.get().and_then(Weak::upgrade)
    }
}

/// The length of an event's packet, whose text is `42["<event>",<argument>]`.
fn packet_bytes(event: &str, argument: JsonString<'_>) -> usize {
    event.len() + argument.as_str().len() + "42[\"\",]".len()
}
