//! A replica in a cluster: the directory in Redis, the connection to other replicas, and the tasks
//! that both need.

use std::sync::Arc;
use std::time::Duration;

use redis_session::{Message, Redis, RedisSettings, RedisState, Refusal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::Broker;
use crate::delivery::Remote;
use crate::directory::{Directory, LeaseSettings, LostLease, Maintenance, RedisDirectory};
use crate::metrics::Metrics;
use crate::node::ReplicaId;

/// How long the start waits for Redis before it goes on without.
const START_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the start waits for Redis if it is required.
const REQUIRED_START_TIMEOUT: Duration = Duration::from_secs(10);

/// From this time to live on, an ordinary hiccup of the network costs no lease.
const SAFE_TTL: Duration = Duration::from_secs(5);

/// What an operator decides about replicas that act as one.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Where Redis is.
    pub redis: RedisSettings,
    /// How long leases live in Redis.
    pub leases: LeaseSettings,
    /// Whether the start fails if Redis cannot be reached.
    pub required_at_start: bool,
}

/// Redis is required at the start, and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedisUnusable {
    /// It cannot be reached.
    #[error("Redis cannot be reached")]
    Unreachable,
    /// It refuses a command that is needed.
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

/// A replica's part in its cluster.
pub(crate) struct Cluster {
    redis: Redis,
    directory: Directory,
    remote: Remote,
    frames: mpsc::Receiver<Message>,
    maintenance: Maintenance,
    lost: mpsc::Receiver<LostLease>,
}

impl Cluster {
    /// Connects to Redis, and waits a little for it.
    ///
    /// # Errors
    /// [`RedisUnusable`] if Redis is required and does not answer in time, or refuses a command.
    pub(crate) async fn join(
        settings: &ClusterSettings,
        replica: ReplicaId,
        metrics: &Metrics,
    ) -> Result<Self, RedisUnusable> {
        if settings.leases.ttl < SAFE_TTL {
            tracing::warn!("REDIS_LOCK_TTL_MS is short: a brief network failure may cost leases");
        }
        let name = replica.to_string();
        let redis = settings.redis.clone();
        let (redis, frames) =
            Redis::start(redis, "nodes", &name, RedisDirectory::required_commands, metrics.redis());
        let timeout =
            if settings.required_at_start { REQUIRED_START_TIMEOUT } else { START_TIMEOUT };
        let mut state = redis.state();
        let connected = state.wait_for(|state| *state != RedisState::Unavailable);
        let in_time = tokio::time::timeout(timeout, connected).await.is_ok();
        if !in_time && settings.required_at_start {
            return Err(redis.refusal().map_or(RedisUnusable::Unreachable, RedisUnusable::Refusal));
        }
        let remote = Remote::new(redis.clone(), replica, metrics.clone());
        let (directory, maintenance, lost) =
            Directory::redis(redis.clone(), replica, settings.leases, metrics.clone());
        Ok(Self { redis, directory, remote, frames, maintenance, lost })
    }

    /// Returns the directory that all replicas share.
    pub(crate) fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Returns the Redis that all replicas share.
    pub(crate) fn redis(&self) -> Redis {
        self.redis.clone()
    }

    /// Returns the connection to the other replicas.
    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Starts the tasks that keep the replica in its cluster.
    pub(crate) fn run(self, broker: &Arc<Broker>) -> [AbortOnDropHandle<()>; 4] {
        [
            AbortOnDropHandle::new(tokio::spawn(self.maintenance.run())),
            AbortOnDropHandle::new(tokio::spawn(self.remote.run())),
            AbortOnDropHandle::new(tokio::spawn(broker.clone().serve_replicas(self.frames))),
            AbortOnDropHandle::new(tokio::spawn(broker.clone().evict_lost(self.lost))),
        ]
    }
}
