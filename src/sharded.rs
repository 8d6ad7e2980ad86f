//! A map from node IDs that many tasks read and change concurrently.
//!
//! It is split into shards so that two nodes rarely need the same lock. Clients choose the IDs, so the
//! maps have hashes with random keys. The hash that picks the shard has none: IDs that are chosen to
//! share a shard only share its lock.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::node::NodeId;

const SHARDS: usize = 64;

/// One shard. Its lock is never held across an await, nor while other locks are taken.
type Shard<V> = HashMap<NodeId, V>;

/// The map. Values are reached through their shard's lock.
pub(crate) struct ShardedMap<V> {
    shards: Box<[RwLock<Shard<V>>]>,
}

impl<V> ShardedMap<V> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// The shard of `node`, to look at.
    pub(crate) fn read(&self, node: &str) -> RwLockReadGuard<'_, Shard<V>> {
        self.shard(node).read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard of `node`, to change.
    pub(crate) fn write(&self, node: &str) -> RwLockWriteGuard<'_, Shard<V>> {
        self.shard(node).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `pick` makes of every entry, shard by shard.
    pub(crate) fn collect<T>(&self, pick: impl Fn(&NodeId, &V) -> T) -> Vec<T> {
        let mut picked = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            picked.extend(shard.iter().map(|(node, value)| pick(node, value)));
        }
        picked
    }

    /// Calls `look` with every entry, shard by shard.
    pub(crate) fn visit(&self, mut look: impl FnMut(&NodeId, &V)) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.iter().for_each(|(node, value)| look(node, value));
        }
    }

    /// The shard of an ID, by its FNV-1a hash.
    fn shard(&self, node: &str) -> &RwLock<Shard<V>> {
        let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
