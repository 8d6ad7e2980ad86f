//! The directory of a single replica: a map in memory.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::AcquireError;
use crate::node::{NodeId, Owner};
use crate::sharded::ShardedMap;

/// The owners of all IDs.
#[derive(Clone)]
pub(crate) struct MemoryDirectory(Arc<ShardedMap<Owner>>);

impl MemoryDirectory {
    pub(super) fn new() -> Self {
        Self(Arc::new(ShardedMap::new()))
    }

    pub(super) fn acquire(&self, node: &NodeId, owner: Owner) -> Result<(), AcquireError> {
        match self.0.write(node.as_str()).entry(node.clone()) {
            Entry::Occupied(held) => Err(AcquireError::Taken(*held.get())),
            Entry::Vacant(free) => {
                free.insert(owner);
                Ok(())
            }
        }
    }

    pub(super) fn owner(&self, node: &NodeId) -> Option<Owner> {
        self.0.read(node.as_str()).get(node).copied()
    }

    /// Frees the ID if it is still `owner`'s.
    pub(super) fn release(&self, node: &NodeId, owner: Owner) {
        let mut shard = self.0.write(node.as_str());
        if shard.get(node) == Some(&owner) {
            shard.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{ConnectionId, ReplicaId};

    #[test]
    fn only_the_owner_frees_an_id() {
        let memory = MemoryDirectory::new();
        let node = NodeId::parse("a").unwrap();
        let somebody = || Owner { replica: ReplicaId::random(), connection: ConnectionId::next() };
        let (first, second) = (somebody(), somebody());
        memory.acquire(&node, first).unwrap();
        memory.release(&node, second);
        assert_eq!(memory.owner(&node), Some(first));
    }
}
