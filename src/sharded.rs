//! A map from node IDs that many tasks read and change concurrently.
//!
//! It is split into shards so that two nodes rarely need the same lock. The hash has a random key,
//! because clients choose the IDs.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::node::NodeId;

const SHARDS: usize = 64;

/// One shard. Its lock is never held across an await, nor while other locks are taken.
type Shard<V> = HashMap<NodeId, V>;

/// The map. Values are reached through their shard's lock.
pub(crate) struct ShardedMap<V> {
    shards: Box<[RwLock<Shard<V>>]>,
    hasher: RandomState,
}

impl<V> ShardedMap<V> {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, hasher: RandomState::new() }
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

    fn shard(&self, node: &str) -> &RwLock<Shard<V>> {
        &self.shards[self.hasher.hash_one(node) as usize % SHARDS]
    }
}
