//! The claims of this replica: the leases that it has or is about to get.

use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use crate::node::{ConnectionId, NodeId};
use crate::sharded::ShardedMap;

/// All claims of this replica. A node usually has one; two while a new connection contends for its
/// ID.
pub(super) struct Claims(ShardedMap<Vec<Claim>>);

struct Claim {
    connection: ConnectionId,
    /// When the command was sent by which Redis last confirmed it; `None` until the first.
    confirmed: Option<Instant>,
}

impl Claims {
    pub(super) fn new() -> Self {
        Self(ShardedMap::new())
    }

    /// Enters a claim before it is sent to Redis; `false` if it exists already.
    pub(super) fn begin(&self, node: &NodeId, connection: ConnectionId) -> bool {
        let mut shard = self.0.write(node.as_str());
        let claims = shard.entry(node.clone()).or_default();
        let is_new = claims.iter().all(|claim| claim.connection != connection);
        if is_new {
            claims.push(Claim { connection, confirmed: None });
        }
        is_new
    }

    /// Redis has confirmed the claim, by a command that was sent at `sent`.
    pub(super) fn confirm(&self, node: &NodeId, connection: ConnectionId, sent: Instant) {
        let mut shard = self.0.write(node.as_str());
        let claims = shard.get_mut(node).into_iter().flatten();
        for claim in claims.filter(|claim| claim.connection == connection) {
            claim.confirmed = Some(sent);
        }
    }

    /// The confirmed claims for the same ID beside this one.
    pub(super) fn others(&self, node: &NodeId, connection: ConnectionId) -> Vec<ConnectionId> {
        let shard = self.0.read(node.as_str());
        let claims = shard.get(node).into_iter().flatten();
        claims
            .filter(|claim| claim.connection != connection && claim.confirmed.is_some())
            .map(|claim| claim.connection)
            .collect()
    }

    /// Ends a claim and calls `then` before the ID can change otherwise. Does nothing if there is
    /// no such claim.
    pub(super) fn end(&self, node: &NodeId, connection: ConnectionId, then: impl FnOnce()) {
        let mut shard = self.0.write(node.as_str());
        let Entry::Occupied(mut claims) = shard.entry(node.clone()) else { return };
        let before = claims.get().len();
        claims.get_mut().retain(|claim| claim.connection != connection);
        if claims.get().len() == before {
            return;
        }
        if claims.get().is_empty() {
            claims.remove();
        }
        then();
    }

    /// Does `then` while the claim cannot end; `None` if there is none.
    pub(super) fn with<T>(
        &self,
        node: &str,
        connection: ConnectionId,
        then: impl FnOnce() -> T,
    ) -> Option<T> {
        let shard = self.0.read(node);
        let is_there = shard.get(node)?.iter().any(|claim| claim.connection == connection);
        is_there.then(then)
    }

    /// Whether this replica claims the ID for that connection.
    pub(super) fn has(&self, node: &str, connection: ConnectionId) -> bool {
        self.with(node, connection, || ()).is_some()
    }

    pub(super) fn confirmed(&self) -> Vec<(NodeId, ConnectionId)> {
        self.pick(|_| true)
    }

    /// All claims whose last confirmation is older than `age`.
    pub(super) fn older_than(&self, age: Duration) -> Vec<(NodeId, ConnectionId)> {
        self.pick(|confirmed| confirmed.elapsed() > age)
    }

    fn pick(&self, fits: impl Fn(Instant) -> bool) -> Vec<(NodeId, ConnectionId)> {
        let fits = |claim: &&Claim| claim.confirmed.is_some_and(&fits);
        let picked = self.0.collect(|node, claims| {
            claims.iter().find(fits).map(|claim| (node.clone(), claim.connection))
        });
        picked.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_confirmed_outlived_and_ended_once() {
        let claims = Claims::new();
        let node = NodeId::parse("a").unwrap();
        let (first, second) = (ConnectionId::next(), ConnectionId::next());
        assert!(claims.begin(&node, first) && !claims.begin(&node, first));
        assert!(claims.has("a", first) && claims.confirmed().is_empty());
        claims.confirm(&node, first, Instant::now());
        assert_eq!(claims.confirmed(), [(node.clone(), first)]);
        assert!(claims.begin(&node, second));
        assert_eq!(claims.others(&node, first), [], "it is not confirmed yet");
        assert_eq!(claims.others(&node, second), [first]);
        let mut ended = 0;
        claims.end(&node, first, || ended += 1);
        claims.end(&node, first, || ended += 1);
        assert_eq!(ended, 1);
        assert!(!claims.has("a", first) && claims.has("a", second));
        assert!(claims.older_than(Duration::from_secs(60)).is_empty());
    }
}
