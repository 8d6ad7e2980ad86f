//! Which replicas there are: a list in Redis that each one keeps itself in, so that they can be asked
//! without a search through all keys.
//!
//! The list is one text, changed by scripts that need no other commands than leases do. A replica
//! that was killed stays in it until another one asks, and finds it without a key of its own.

use std::sync::atomic::Ordering;

use redis::{Cmd, Value};
use redis_session::{Redis, RedisFailure};

use super::RedisDirectory;
use crate::node::ReplicaId;

const CHANGE: &str = include_str!("members.lua");

/// The most replicas that are asked.
const MAX_REPLICAS: usize = 256;

impl RedisDirectory {
    /// Returns the other replicas that are alive; while Redis is unavailable, those that were.
    pub(in crate::directory) async fn replicas(&self) -> Vec<ReplicaId> {
        if let Ok(found) = self.find_replicas().await {
            return found;
        }
        self.0.replicas.all()
    }

    async fn find_replicas(&self) -> Result<Vec<ReplicaId>, RedisFailure> {
        let mut get = redis::cmd("GET");
        get.arg(key(&self.0.redis));
        let Value::BulkString(list) = self.0.redis.run(get).await? else { return Ok(Vec::new()) };
        let list = String::from_utf8_lossy(&list);
        let members = list.split(',').filter_map(|id| id.parse().ok());
        let members: Vec<ReplicaId> =
            members.filter(|id| *id != self.0.replica).take(MAX_REPLICAS).collect();
        let are_alive = self.0.replicas.ask(&self.0.redis, &members).await?;
        let (alive, gone): (Vec<_>, Vec<_>) =
            members.into_iter().zip(are_alive).partition(|(_, is_alive)| *is_alive);
        for (replica, _) in gone {
            drop(self.0.redis.enqueue(self.removal(replica)));
        }
        Ok(alive.into_iter().map(|(replica, _)| replica).collect())
    }

    /// Puts this replica into the list, or keeps it there.
    pub(super) async fn join(&self) {
        if self.0.is_closed.load(Ordering::Acquire) {
            return;
        }
        let mut command = self.change(self.0.replica);
        command.arg("join").arg(self.ttl_ms());
        // Retried at the next extension.
        drop(self.0.redis.run(command).await);
    }

    /// The command that takes a replica off the list.
    pub(super) fn removal(&self, replica: ReplicaId) -> Cmd {
        let mut command = self.change(replica);
        command.arg("leave");
        command
    }

    fn change(&self, replica: ReplicaId) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(CHANGE).arg(1).arg(key(&self.0.redis)).arg(replica.to_string());
        command
    }
}

fn key(redis: &Redis) -> String {
    redis.key("replicas", "all")
}
