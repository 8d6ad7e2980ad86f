//! Which other replicas are alive.
//!
//! Each replica has a key in Redis that expires a few seconds after its end. The IDs of a replica
//! without that key are free.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use redis::Value;
use redis_session::{Redis, RedisFailure};

use crate::node::ReplicaId;

/// The replicas that were seen alive when they were last asked for.
pub(super) struct Replicas(Mutex<HashSet<ReplicaId>>);

impl Replicas {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Whether the replica is known to have been alive about a second ago.
    pub(super) fn was_alive(&self, replica: ReplicaId) -> bool {
        self.lock().contains(&replica)
    }

    /// Asks Redis which of these replicas are alive, and remembers those that are.
    pub(super) async fn ask(
        &self,
        redis: &Redis,
        replicas: &[ReplicaId],
    ) -> Result<Vec<bool>, RedisFailure> {
        if replicas.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for replica in replicas {
            command.arg(key(redis, *replica));
        }
        let Value::Array(values) = redis.run(command).await? else { return Ok(Vec::new()) };
        let alive: Vec<_> = values.iter().map(|value| *value != Value::Nil).collect();
        let mut seen = self.lock();
        for (replica, alive) in replicas.iter().zip(&alive) {
            if *alive {
                seen.insert(*replica);
            } else {
                seen.remove(replica);
            }
        }
        Ok(alive)
    }

    /// The replicas that were alive.
    pub(super) fn all(&self) -> Vec<ReplicaId> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<ReplicaId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key by which a replica shows that it is alive.
pub(super) fn key(redis: &Redis, replica: ReplicaId) -> String {
    redis.key("replica", &replica.to_string())
}
