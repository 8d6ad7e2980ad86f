//! The connected nodes, for operators: listed in pages, looked up, disconnected.
//!
//! Each replica answers with a page of its own nodes, found in one pass over them. The pages are
//! merged in the order of the IDs, and cut where the first of them ends.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::calls::{Gathered, Request};
use crate::delivery::{Connection, Traffic};
use crate::node::{NodeId, Owner, ReplicaId};
use crate::telemetry::CONNECTIONS;

/// The most nodes of one page.
pub(crate) const MAX_PAGE: usize = 1000;

/// From this size on a page takes no further node: it is one message between replicas.
const MAX_PAGE_BYTES: usize = 256 * 1024;

/// What a node takes of that beside its texts, roughly.
const NODE_BYTES: usize = 320;

/// Which nodes are asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodesQuery {
    /// The ID after which the page begins; empty for the first page.
    pub(crate) after: String,
    /// The most nodes.
    pub(crate) limit: usize,
    /// What the ID has to contain.
    pub(crate) search: String,
}

/// A connected node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    /// The node's ID.
    pub(crate) id: String,
    /// The replica that it is connected to.
    pub(crate) replica: String,
    /// The number of its connection, as in the log of that replica.
    pub(crate) connection: u64,
    /// When it was admitted, in milliseconds since 1970.
    pub(crate) since: u64,
    /// Its address, as far as trusted proxies tell it.
    #[schema(value_type = String)]
    pub(crate) address: IpAddr,
    /// The platform that it runs on.
    pub(crate) runtime: String,
    /// The version of its Crolang library.
    pub(crate) version: String,
    /// Signaling events and messages that it has sent.
    pub(crate) messages_in: u64,
    /// Signaling events and messages that were handed over to it.
    pub(crate) messages_out: u64,
    /// Bytes read from it.
    pub(crate) bytes_in: u64,
    /// Bytes written to it.
    pub(crate) bytes_out: u64,
}

/// Some nodes, in the order of their IDs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct NodesPage {
    pub(crate) nodes: Vec<Node>,
    /// Whether there are more behind them.
    pub(crate) has_more: bool,
}

/// What could not be done with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("no node with this ID is connected")]
    NotConnected,
    #[error("Redis cannot be asked where the node is")]
    NotLocated,
    #[error("the node's replica does not reply")]
    Unresponsive,
}

impl Node {
    fn of(node: &NodeId, owner: Owner, connection: &Connection) -> Self {
        let Traffic { messages_in, messages_out, bytes_in, bytes_out } = connection.traffic();
        let client = connection.client();
        Self {
            id: node.to_string(),
            replica: owner.replica.to_string(),
            connection: owner.connection.number(),
            since: connection.since(),
            address: connection.link().remote_addr().ip(),
            runtime: client.runtime.to_string(),
            version: client.version.to_string(),
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
        }
    }

    fn bytes(&self) -> usize {
        NODE_BYTES + self.id.len() + self.runtime.len() + self.version.len()
    }
}

impl NodesPage {
    /// Merges the pages of several replicas into one of at most `limit` nodes.
    fn merge(pages: Vec<Self>, limit: usize) -> Self {
        // What a replica has behind the end of its page is not known.
        let cut = pages.iter().filter(|page| page.has_more).filter_map(|page| page.nodes.last());
        let end = cut.map(|node| node.id.clone()).min();
        let mut has_more = end.is_some();
        let mut nodes: Vec<_> = pages.into_iter().flat_map(|page| page.nodes).collect();
        nodes.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        if let Some(end) = end {
            nodes.retain(|node| node.id <= end);
        }
        has_more |= nodes.len() > limit;
        nodes.truncate(limit);
        Self { nodes, has_more }
    }
}

impl Broker {
    /// Returns a page of the nodes of all replicas, or of one; and the replicas that did not reply.
    pub(crate) async fn nodes(
        &self,
        query: NodesQuery,
        replica: Option<ReplicaId>,
    ) -> (NodesPage, Vec<ReplicaId>) {
        let limit = query.limit;
        match replica {
            Some(replica) if replica == self.replica => (self.own_page(&query), Vec::new()),
            Some(replica) => match self.call(replica, &Request::Nodes(query)).await {
                Some(page) => (page, Vec::new()),
                None => (NodesPage::default(), vec![replica]),
            },
            None => {
                let own = self.own_page(&query);
                let Gathered { parts, incomplete } = self.gather(own, &Request::Nodes(query)).await;
                (NodesPage::merge(parts, limit), incomplete)
            }
        }
    }

    /// Returns a page of this replica's nodes.
    pub(super) fn own_page(&self, query: &NodesQuery) -> NodesPage {
        let is_wanted = |node: &NodeId| node.as_str().contains(&query.search);
        let limit = query.limit.clamp(1, MAX_PAGE);
        let (found, mut has_more) = self.connections.page(&query.after, limit, is_wanted);
        let mut nodes = Vec::with_capacity(found.len());
        let mut bytes = 0;
        for (node, owner, connection) in found {
            if bytes >= MAX_PAGE_BYTES {
                has_more = true;
                break;
            }
            let node = Node::of(&node, owner, &connection);
            bytes += node.bytes();
            nodes.push(node);
        }
        NodesPage { nodes, has_more }
    }

    /// Looks a node up, wherever it is connected.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub(crate) async fn node(&self, id: &NodeId) -> Result<Node, NodeError> {
        if let Some(node) = self.own_node(id) {
            return Ok(node);
        }
        let request = Request::Node { id: id.to_string() };
        let found: Option<Node> = self.call_owner(id, &request).await?;
        found.ok_or(NodeError::NotConnected)
    }

    /// Returns a node of this replica.
    pub(super) fn own_node(&self, id: &NodeId) -> Option<Node> {
        let (owner, connection) = self.connections.connection(id.as_str())?;
        Some(Node::of(id, owner, &connection))
    }

    /// Disconnects a node, wherever it is connected, so that Socket.IO's own clients do not reconnect.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub(crate) async fn disconnect(&self, id: &NodeId, reason: &str) -> Result<(), NodeError> {
        if self.kick(id, reason) {
            return Ok(());
        }
        let request = Request::Disconnect { id: id.to_string(), reason: reason.to_owned() };
        let is_done = self.call_owner(id, &request).await?;
        if is_done { Ok(()) } else { Err(NodeError::NotConnected) }
    }

    /// Disconnects a node of this replica. Returns whether it was connected.
    pub(super) fn kick(&self, id: &NodeId, reason: &str) -> bool {
        let Some((owner, connection)) = self.connections.connection(id.as_str()) else {
            return false;
        };
        connection.kick(reason);
        tracing::info!(target: CONNECTIONS, node = ?id, connection = %owner.connection, "node disconnected by an operator");
        true
    }

    /// Sends a request to the replica that a node is connected to.
    async fn call_owner<T: serde::de::DeserializeOwned>(
        &self,
        id: &NodeId,
        request: &Request,
    ) -> Result<T, NodeError> {
        // The cache may be out of date, and operators can wait for Redis.
        self.directory.forget_location(id.as_str());
        let owner = self.directory.locate(id.as_str()).await;
        let owner = owner.map_err(|_| NodeError::NotLocated)?.ok_or(NodeError::NotConnected)?;
        self.call(owner.replica, request).await.ok_or(NodeError::Unresponsive)
    }

    /// Whether there is a replica with this ID.
    pub(crate) async fn has_replica(&self, replica: ReplicaId) -> bool {
        replica == self.replica || self.directory.replicas().await.contains(&replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[&str], has_more: bool) -> NodesPage {
        let node = |id: &&str| Node {
            id: (*id).into(),
            replica: String::new(),
            connection: 0,
            since: 0,
            address: [127, 0, 0, 1].into(),
            runtime: String::new(),
            version: String::new(),
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        NodesPage { nodes: ids.iter().map(node).collect(), has_more }
    }

    fn merged(pages: Vec<NodesPage>, limit: usize) -> (Vec<String>, bool) {
        let merged = NodesPage::merge(pages, limit);
        (merged.nodes.into_iter().map(|node| node.id).collect(), merged.has_more)
    }

    #[test]
    fn a_page_ends_where_a_replica_may_have_more() {
        let all = merged(vec![page(&["b", "d"], false), page(&["a", "c"], false)], 4);
        assert_eq!(all, (["a", "b", "c", "d"].map(str::to_owned).to_vec(), false));
        let cut = merged(vec![page(&["b", "f"], false), page(&["a", "c"], true)], 4);
        assert_eq!(cut, (["a", "b", "c"].map(str::to_owned).to_vec(), true));
        let limited = merged(vec![page(&["b", "d"], false), page(&["a", "c"], false)], 3);
        assert_eq!(limited, (["a", "b", "c"].map(str::to_owned).to_vec(), true));
        assert_eq!(merged(vec![page(&[], false), page(&[], false)], 3), (Vec::new(), false));
    }
}
