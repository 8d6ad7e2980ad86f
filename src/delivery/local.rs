//! The connections of this replica, by node ID.
//!
//! A connection is *registered* from its admission on, and becomes routable when its node is
//! greeted. Rooms of the Socket.IO library are not used, because they know no owners.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Connection, Outcome};
use crate::lifecycle::Lifecycle;
use crate::node::{ConnectionId, NodeId, Owner};
use crate::protocol::JsonString;
use crate::sharded::ShardedMap;
use link::{CloseReason, LinkHandle};

/// All connections of this replica; a cheap handle.
#[derive(Clone)]
pub(crate) struct LocalConnections {
    by_node: Arc<ShardedMap<Registered>>,
    /// Told of nodes in the order in which they come and go: under the lock of their entry.
    lifecycle: Lifecycle,
}

/// A connection that owns its node's ID.
struct Registered {
    owner: Owner,
    connection: Connection,
    stage: Stage,
}

/// The state of a registered connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its node has not sent CONNECT yet, and may never.
    Upgraded,
    /// Its node is about to be greeted.
    Connecting,
    /// Its node has been greeted and is routable.
    Greeted,
}

impl LocalConnections {
    /// No connections yet; what happens to their nodes is recorded in `lifecycle`.
    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        Self { by_node: Arc::new(ShardedMap::new()), lifecycle }
    }

    /// Registers a connection that has acquired the ID of `node`.
    pub(crate) fn register(&self, node: NodeId, owner: Owner, connection: Connection) {
        let registered = Registered { owner, connection, stage: Stage::Upgraded };
        let mut shard = self.by_node.write(node.as_str());
        if let Some(replaced) = shard.insert(node.clone(), registered) {
            self.record_end(&node, &replaced, CloseReason::Replaced);
        }
    }

    /// The node has said CONNECT. Returns whether its connection is still registered.
    pub(crate) fn begin_greeting(&self, node: &NodeId, connection: ConnectionId) -> bool {
        match self.by_node.write(node.as_str()).get_mut(node) {
            Some(registered) if registered.owner.connection == connection => {
                registered.stage = registered.stage.max(Stage::Connecting);
                true
            }
            _ => false,
        }
    }

    /// Whether the node on this connection, if it is registered, has said CONNECT.
    pub(crate) fn has_said_connect(&self, node: &NodeId, connection: ConnectionId) -> bool {
        self.by_node.read(node.as_str()).get(node).is_some_and(|registered| {
            registered.owner.connection == connection && registered.stage > Stage::Upgraded
        })
    }

    /// Unregisters a connection whose node has not said CONNECT. Returns its link.
    pub(crate) fn displace(&self, node: &NodeId, connection: ConnectionId) -> Option<LinkHandle> {
        let mut shard = self.by_node.write(node.as_str());
        let is_displaced = shard.get(node).is_some_and(|registered| {
            registered.owner.connection == connection && registered.stage == Stage::Upgraded
        });
        is_displaced.then(|| shard.remove(node)).flatten().map(|it| it.connection.link().clone())
    }

    /// Greets the node and lets its connection be sent to, in one step: nothing can be delivered
    /// before the greeting, and a node that has been greeted can be reached. Returns whether the
    /// connection is still registered and took the greeting.
    pub(crate) fn greet(
        &self,
        node: &NodeId,
        connection: ConnectionId,
        event: &str,
        argument: JsonString<'_>,
    ) -> bool {
        match self.by_node.write(node.as_str()).get_mut(node) {
            Some(registered) if registered.owner.connection == connection => {
                let outcome = registered.connection.notify(event, argument);
                let is_greeted = outcome == Outcome::Delivered;
                if is_greeted {
                    registered.stage = Stage::Greeted;
                    self.lifecycle.connected(|| registered.connection.arrival(node, connection));
                }
                is_greeted
            }
            _ => false,
        }
    }

    /// Unregisters a connection that ended for this reason, unless another one has the ID by now.
    pub(crate) fn unregister(&self, node: &NodeId, connection: ConnectionId, reason: CloseReason) {
        let mut shard = self.by_node.write(node.as_str());
        let is_registered =
            shard.get(node).is_some_and(|registered| registered.owner.connection == connection);
        if is_registered && let Some(ended) = shard.remove(node) {
            self.record_end(node, &ended, reason);
        }
    }

    fn record_end(&self, node: &NodeId, ended: &Registered, reason: CloseReason) {
        if ended.is_greeted() {
            let connection = ended.owner.connection;
            self.lifecycle.disconnected(|| ended.connection.departure(node, connection, reason));
        }
    }

    /// The link of this connection of `node`, if it is registered, even if it cannot be sent to
    /// yet.
    pub(crate) fn link(&self, node: &NodeId, connection: ConnectionId) -> Option<LinkHandle> {
        let shard = self.by_node.read(node.as_str());
        let registered = shard.get(node)?;
        (registered.owner.connection == connection).then(|| registered.connection.link().clone())
    }

    /// The connection of `node` that can be sent to, and the owner that it is.
    pub(crate) fn connection(&self, node: &str) -> Option<(Owner, Connection)> {
        self.greeted(node, |_, registered| (registered.owner, registered.connection.clone()))
    }

    /// As [`LocalConnections::connection`], with the node's ID instead of the connection.
    pub(crate) fn node(&self, node: &str) -> Option<(NodeId, Owner)> {
        self.greeted(node, |node, registered| (node.clone(), registered.owner))
    }

    /// Whether `node` can be sent to.
    pub(crate) fn is_connected(&self, node: &str) -> bool {
        self.greeted(node, |_, _| ()).is_some()
    }

    /// Whether a connection has the ID of `node`, even if it cannot be sent to yet.
    pub(crate) fn is_registered(&self, node: &str) -> bool {
        self.by_node.read(node).contains_key(node)
    }

    /// Every node that can be sent to, with its connection.
    pub(crate) fn connected(&self) -> Vec<(NodeId, ConnectionId)> {
        let connected = |node: &NodeId, registered: &Registered| {
            registered.is_greeted().then(|| (node.clone(), registered.owner.connection))
        };
        self.by_node.collect(connected).into_iter().flatten().collect()
    }

    /// The first `limit` nodes, in the order of their IDs, that can be sent to, come after `after`
    /// and are `wanted`; and whether there are more.
    pub(crate) fn page(
        &self,
        after: &str,
        limit: usize,
        wanted: impl Fn(&NodeId) -> bool,
    ) -> (Vec<(NodeId, Owner, Connection)>, bool) {
        let mut first = BTreeMap::new();
        let mut has_more = false;
        self.by_node.visit(|node, registered| {
            if !registered.is_greeted() || node.as_str() <= after || !wanted(node) {
                return;
            }
            let is_full = first.len() == limit;
            has_more |= is_full;
            if is_full && first.last_key_value().is_none_or(|(last, _)| last < node) {
                return;
            }
            first.insert(node.clone(), (registered.owner, registered.connection.clone()));
            if is_full {
                first.pop_last();
            }
        });
        let found = first.into_iter().map(|(node, (owner, connection))| (node, owner, connection));
        (found.collect(), has_more)
    }

    /// Every registered connection with its node.
    pub(crate) fn registered(&self) -> Vec<(NodeId, Connection)> {
        self.by_node.collect(|node, registered| (node.clone(), registered.connection.clone()))
    }

    /// The links of all registered connections.
    pub(crate) fn links(&self) -> Vec<LinkHandle> {
        self.by_node.collect(|_, registered| registered.connection.link().clone())
    }

    fn greeted<T>(&self, node: &str, get: impl FnOnce(&NodeId, &Registered) -> T) -> Option<T> {
        let shard = self.by_node.read(node);
        let (node, registered) = shard.get_key_value(node)?;
        registered.is_greeted().then(|| get(node, registered))
    }
}

impl Registered {
    fn is_greeted(&self) -> bool {
        self.stage == Stage::Greeted
    }
}
