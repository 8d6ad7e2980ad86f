//! Pairs of nodes between which an authorized attempt has opened signaling.
//!
//! A node may answer an attempt even if it could not make one itself, so the rest of the signaling
//! passes both ways. A pair names the owners of both IDs and ends with either connection.

use std::collections::HashMap;
use std::sync::Arc;

use crate::node::{NodeId, Owner};
use crate::sharded::ShardedMap;

/// The most open pairs of one node. Beyond that, an arbitrary one is removed and has to be
/// authorized again.
const MAX_PAIRS: usize = 1000;

/// All open pairs of this replica's nodes; a cheap handle.
#[derive(Clone)]
pub(super) struct OpenPairs(Arc<ShardedMap<Peers>>);

struct Peers {
    owner: Owner,
    open: HashMap<NodeId, Owner>,
}

impl OpenPairs {
    pub(super) fn new() -> Self {
        Self(Arc::new(ShardedMap::new()))
    }

    /// Opens the pair for what `one`, a node of this replica, sends to `peer`.
    pub(super) fn open(&self, (node, owner): (&NodeId, Owner), (peer, peer_owner): (&str, Owner)) {
        let Ok(peer) = NodeId::parse(peer) else { return };
        let mut shard = self.0.write(node.as_str());
        let peers =
            shard.entry(node.clone()).or_insert_with(|| Peers { owner, open: HashMap::new() });
        if peers.owner != owner {
            *peers = Peers { owner, open: HashMap::new() };
        }
        if peers.open.len() >= MAX_PAIRS && !peers.open.contains_key(&peer) {
            let any = peers.open.keys().next().cloned();
            any.map(|any| peers.open.remove(&any));
        }
        peers.open.insert(peer, peer_owner);
    }

    /// Whether the pair of these two connections is open.
    pub(super) fn is_open(&self, one: (&NodeId, Owner), other: (&str, Owner)) -> bool {
        let shard = self.0.read(one.0.as_str());
        let peers = shard.get(one.0).filter(|peers| peers.owner == one.1);
        peers.is_some_and(|peers| peers.open.get(other.0) == Some(&other.1))
    }

    /// Forgets the pairs of a connection that has ended.
    pub(super) fn forget(&self, node: &NodeId, owner: Owner) {
        let mut shard = self.0.write(node.as_str());
        if shard.get(node).is_some_and(|peers| peers.owner == owner) {
            shard.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{ConnectionId, ReplicaId};

    fn node(id: &str) -> (NodeId, Owner) {
        let owner = Owner { replica: ReplicaId::random(), connection: ConnectionId::next() };
        (NodeId::parse(id).unwrap(), owner)
    }

    #[test]
    fn a_pair_is_open_until_one_of_its_connections_ends() {
        let pairs = OpenPairs::new();
        let ((a, a1), (_, b1)) = (node("a"), node("b"));
        let ((_, a2), (_, b2)) = (node("a"), node("b"));
        assert!(!pairs.is_open((&a, a1), ("b", b1)));
        pairs.open((&a, a1), ("b", b1));
        assert!(pairs.is_open((&a, a1), ("b", b1)));
        assert!(!pairs.is_open((&a, a1), ("b", b2)), "b came back on another connection");
        assert!(!pairs.is_open((&a, a2), ("b", b1)), "so did a");
        pairs.forget(&a, a2);
        assert!(pairs.is_open((&a, a1), ("b", b1)), "a stranger's end changes nothing");
        pairs.forget(&a, a1);
        assert!(!pairs.is_open((&a, a1), ("b", b1)));
    }

    #[test]
    fn a_node_has_a_bounded_number_of_pairs() {
        let pairs = OpenPairs::new();
        let (a, owner) = node("a");
        for n in 0..MAX_PAIRS + 10 {
            let (peer, peer_owner) = node(&format!("p{n}"));
            pairs.open((&a, owner), (peer.as_str(), peer_owner));
            assert!(pairs.is_open((&a, owner), (peer.as_str(), peer_owner)));
        }
        assert_eq!(pairs.0.read("a")[&a].open.len(), MAX_PAIRS);
    }
}
