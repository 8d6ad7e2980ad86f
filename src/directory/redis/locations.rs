//! Where the nodes of other replicas are.
//!
//! Locations are cached and may be out of date: if the node is not there, the entry is removed and
//! Redis is asked again.

use futures_util::future::try_join_all;
use redis::Value;
use redis_session::RedisFailure;

use super::{RedisDirectory, parse};
use crate::directory::Unavailable;
use crate::node::{NodeId, Owner, ReplicaId};

/// The most keys in one command, which holds up all others while it is executed.
const MAX_KEYS: usize = 100;

impl RedisDirectory {
    /// Where the node is, if it is not on this replica.
    pub(in crate::directory) async fn locate(
        &self,
        node: &str,
    ) -> Result<Option<Owner>, Unavailable> {
        if let Some(owner) = self.known_location(node) {
            return Ok(Some(owner));
        }
        let mut get = redis::cmd("GET");
        get.arg(self.key(node));
        let found = match self.0.redis.run(get).await {
            Ok(Value::BulkString(text)) => parse(&text),
            Ok(_) | Err(RedisFailure::Refused(_)) => None,
            Err(_) => return Err(Unavailable),
        };
        let Some(owner) = found else { return Ok(None) };
        if owner.replica == self.0.replica {
            self.release_stale(node, owner);
            return Ok(None);
        }
        let is_alive = self.0.replicas.was_alive(owner.replica)
            || self.0.replicas.ask(&self.0.redis, &[owner.replica]).await? == [true];
        if !is_alive {
            return Ok(None);
        }
        self.0.locations.insert(node.into(), owner);
        Ok(Some(owner))
    }

    /// Where the node is, if that is known without asking Redis.
    pub(in crate::directory) fn known_location(&self, node: &str) -> Option<Owner> {
        self.0.locations.get(node)
    }

    /// Forgets where the node was.
    pub(in crate::directory) fn forget(&self, node: &str) {
        self.0.locations.invalidate(node);
    }

    /// A key names this replica as the owner of an ID. If no connection claims it here, its release
    /// was lost, so it is released again.
    pub(in crate::directory) fn release_stale(&self, node: &str, owner: Owner) {
        if !self.0.claims.has(node, owner.connection)
            && let Ok(node) = NodeId::parse(node)
        {
            self.0.metrics.lease_events.inc(["healed"]);
            self.send_release(node, owner);
        }
    }

    /// Which of the nodes, none of which is on this replica, have an owner that is alive. One
    /// round trip, a second one if a replica was never heard of.
    pub(in crate::directory) async fn are_owned(
        &self,
        nodes: &[&str],
    ) -> Result<Vec<bool>, Unavailable> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let asked = nodes.chunks(MAX_KEYS).map(|nodes| {
            let mut command = redis::cmd("MGET");
            for node in nodes {
                command.arg(self.key(node));
            }
            self.0.redis.ask(command)
        });
        let mut values = Vec::with_capacity(nodes.len());
        for found in try_join_all(asked).await? {
            let Value::Array(found) = found else { return Err(Unavailable) };
            values.extend(found);
        }
        if values.len() != nodes.len() {
            return Err(Unavailable);
        }
        let owners: Vec<Option<ReplicaId>> = values
            .iter()
            .map(|value| match value {
                Value::BulkString(text) => parse(text).map(|owner| owner.replica),
                _ => None,
            })
            .map(|replica| replica.filter(|replica| *replica != self.0.replica))
            .collect();
        let mut unheard: Vec<_> = owners.iter().flatten().copied().collect();
        unheard.retain(|replica| !self.0.replicas.was_alive(*replica));
        unheard.sort_unstable();
        unheard.dedup();
        self.0.replicas.ask(&self.0.redis, &unheard).await?;
        let is_alive = |replica: Option<ReplicaId>| {
            replica.is_some_and(|replica| self.0.replicas.was_alive(replica))
        };
        Ok(owners.into_iter().map(is_alive).collect())
    }
}
