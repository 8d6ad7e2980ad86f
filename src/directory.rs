//! Who owns an ID: at most one connection in the whole cluster.
//!
//! An ID is acquired for an [`Owner`] as a [`Lease`], which releases it when it is dropped. Only
//! the owner can release an ID: dropping a lease that was lost in the meantime frees nothing.
//!
//! Backends are variants, not trait objects: there are few, and all of them pass the same tests
//! (`tests`).

mod memory;
mod redis;

pub use self::redis::LeaseSettings;
pub(crate) use self::redis::{LostLease, Maintenance, RedisDirectory};
pub(crate) use memory::MemoryDirectory;

use redis_session::{Redis, Refusal};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::node::{NodeId, Owner, ReplicaId};

/// The directory of one cluster; a cheap handle.
#[derive(Clone)]
pub(crate) enum Directory {
    /// A cluster of one replica, in its memory.
    Memory(MemoryDirectory),
    /// A cluster of many replicas, in Redis.
    Redis(RedisDirectory),
}

/// Why an ID was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AcquireError {
    /// Another connection owns it, or the same one already.
    #[error("the ID is owned by connection {} on replica {}", .0.connection, .0.replica)]
    Taken(Owner),
    /// The directory cannot be asked, or is not sure of its answers yet.
    #[error("the directory is not available")]
    Unavailable,
}

/// The directory cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory is not available")]
pub(crate) struct Unavailable;

impl Directory {
    /// A directory for a single replica.
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryDirectory::new())
    }

    /// The directory that replicas share in Redis, as `replica` sees it; what has to be run to
    /// keep it; what is lost in the course of that.
    pub(crate) fn redis(
        redis: Redis,
        replica: ReplicaId,
        settings: LeaseSettings,
        metrics: Metrics,
    ) -> (Self, Maintenance, mpsc::Receiver<LostLease>) {
        let (directory, maintenance, lost) = RedisDirectory::new(redis, replica, settings, metrics);
        (Self::Redis(directory), maintenance, lost)
    }

    /// Returns a command that Redis refuses at present.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => redis.refusal(),
        }
    }

    /// Whether IDs are given out.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.is_ready(),
        }
    }

    /// Makes `owner` the owner of `node` until the lease is dropped.
    ///
    /// # Errors
    /// [`AcquireError::Taken`] if the ID has an owner, [`AcquireError::Unavailable`] if that is not
    /// known.
    pub(crate) async fn acquire(&self, node: &NodeId, owner: Owner) -> Result<Lease, AcquireError> {
        match self {
            Self::Memory(memory) => {
                memory.acquire(node, owner)?;
                Ok(self.lease(node, owner))
            }
            Self::Redis(redis) => {
                // The guard first, so that an abandoned request is released too.
                let lease = self.claim(redis, node, owner)?;
                redis.acquire(node, owner).await?;
                Ok(lease)
            }
        }
    }

    /// As [`Directory::acquire`], from a holder that is known to be gone.
    ///
    /// # Errors
    /// As [`Directory::acquire`].
    pub(crate) async fn take_over(
        &self,
        node: &NodeId,
        holder: Owner,
        owner: Owner,
    ) -> Result<Lease, AcquireError> {
        match self {
            Self::Memory(memory) => {
                memory.release(node, holder);
                memory.acquire(node, owner)?;
                Ok(self.lease(node, owner))
            }
            Self::Redis(redis) => {
                let lease = self.claim(redis, node, owner)?;
                redis.take_over(node, holder, owner).await?;
                Ok(lease)
            }
        }
    }

    /// Whether `owner`, of this replica, owns the ID or is about to.
    pub(crate) fn is_claimed(&self, node: &NodeId, owner: Owner) -> bool {
        match self {
            Self::Memory(memory) => memory.owner(node) == Some(owner),
            Self::Redis(redis) => redis.is_claimed(node, owner),
        }
    }

    /// Releases an ID whose key names `owner`, of this replica, although it does not claim the ID.
    pub(crate) fn release_stale(&self, node: &str, owner: Owner) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.release_stale(node, owner),
        }
    }

    /// Where `node` is, if it has an owner on another replica.
    ///
    /// # Errors
    /// [`Unavailable`] if that is not known.
    pub(crate) async fn locate(&self, node: &str) -> Result<Option<Owner>, Unavailable> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Redis(redis) => redis.locate(node).await,
        }
    }

    /// As [`Directory::locate`], if it is known without a lookup.
    pub(crate) fn known_location(&self, node: &str) -> Option<Owner> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => redis.known_location(node),
        }
    }

    /// Forgets where `node` was: it is not there.
    pub(crate) fn forget_location(&self, node: &str) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.forget(node),
        }
    }

    /// Which of `nodes` have an owner on another replica.
    ///
    /// # Errors
    /// [`Unavailable`] if that is not known.
    pub(crate) async fn are_elsewhere(&self, nodes: &[&str]) -> Result<Vec<bool>, Unavailable> {
        match self {
            Self::Memory(_) => Ok(vec![false; nodes.len()]),
            Self::Redis(redis) => redis.are_owned(nodes).await,
        }
    }

    /// Returns the other replicas that are alive.
    pub(crate) async fn replicas(&self) -> Vec<ReplicaId> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Redis(redis) => redis.replicas().await,
        }
    }

    /// Tells other replicas that this one is leaving. All leases must have been dropped before.
    pub(crate) async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.close().await,
        }
    }

    fn claim(
        &self,
        redis: &RedisDirectory,
        node: &NodeId,
        owner: Owner,
    ) -> Result<Lease, AcquireError> {
        let is_new = redis.begin(node, owner);
        if is_new { Ok(self.lease(node, owner)) } else { Err(AcquireError::Taken(owner)) }
    }

    fn lease(&self, node: &NodeId, owner: Owner) -> Lease {
        Lease { directory: self.clone(), node: node.clone(), owner }
    }
}

/// The right to an ID, released by drop.
#[must_use = "an ID whose lease is dropped is free again"]
pub(crate) struct Lease {
    directory: Directory,
    node: NodeId,
    owner: Owner,
}

impl Lease {
    pub(crate) fn node(&self) -> &NodeId {
        &self.node
    }

    /// The connection that has it.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.directory {
            Directory::Memory(memory) => memory.release(&self.node, self.owner),
            Directory::Redis(redis) => redis.release(&self.node, self.owner),
        }
    }
}

#[cfg(test)]
mod tests;
