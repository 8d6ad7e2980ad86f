//! Who owns an ID: at most one connection in the whole cluster.
//!
//! An ID is acquired for an [`Owner`] and comes as a [`Lease`], which gives it back when it is
//! dropped, whatever way that comes about. Only the owner gives an ID back: a lease that was
//! lost in the meantime frees nothing.
//!
//! Backends are variants, not trait objects: there are few, and all of them pass one suite of
//! tests.

mod memory;

pub use memory::MemoryDirectory;

use crate::node::{NodeId, Owner};

/// The directory of one cluster; a cheap handle.
#[derive(Clone)]
pub enum Directory {
    /// A cluster of one replica, in its memory.
    Memory(MemoryDirectory),
}

/// Why an ID was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Another connection owns it, or the same one already.
    #[error("the ID is owned by connection {} on replica {}", .0.connection, .0.replica)]
    Taken(Owner),
}

impl Directory {
    /// A directory for a single replica.
    pub fn memory() -> Self {
        Self::Memory(MemoryDirectory::new())
    }

    /// Makes `owner` the owner of `node` until the lease is dropped.
    ///
    /// # Errors
    /// [`AcquireError::Taken`] if the ID has an owner.
    pub async fn acquire(&self, node: &NodeId, owner: Owner) -> Result<Lease, AcquireError> {
        match self {
            Self::Memory(memory) => memory.acquire(node, owner)?,
        }
        Ok(Lease { directory: self.clone(), node: node.clone(), owner })
    }

    /// The owner of `node`, if it has one.
    pub async fn owner(&self, node: &NodeId) -> Option<Owner> {
        match self {
            Self::Memory(memory) => memory.owner(node),
        }
    }
}

/// The right to an ID. Dropping it gives the ID back.
#[must_use = "an ID whose lease is dropped is free again"]
pub struct Lease {
    directory: Directory,
    node: NodeId,
    owner: Owner,
}

impl Lease {
    /// The ID.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The connection that has it.
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.directory {
            Directory::Memory(memory) => memory.release(&self.node, self.owner),
        }
    }
}

#[cfg(test)]
mod contract {
    //! What every backend must do. A backend's own tests call [`contract!`] with a way to make an
    //! empty directory.

    use super::*;
    use crate::node::{ConnectionId, ReplicaId};

    pub(super) fn somebody() -> Owner {
        Owner { replica: ReplicaId::random(), connection: ConnectionId::next() }
    }

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    pub(super) async fn one_owner_at_a_time(directory: Directory) {
        let (first, second) = (somebody(), somebody());
        let lease = directory.acquire(&node("a"), first).await.unwrap();
        assert_eq!((lease.node(), lease.owner()), (&node("a"), first));
        assert_eq!(
            directory.acquire(&node("a"), second).await.err(),
            Some(AcquireError::Taken(first))
        );
        assert_eq!(
            directory.acquire(&node("a"), first).await.err(),
            Some(AcquireError::Taken(first))
        );
        assert_eq!(directory.owner(&node("a")).await, Some(first));
        let _other = directory.acquire(&node("b"), second).await.unwrap();
        assert_eq!(directory.owner(&node("A")).await, None);
    }

    pub(super) async fn a_dropped_lease_frees_its_id_at_once(directory: Directory) {
        drop(directory.acquire(&node("a"), somebody()).await.unwrap());
        assert_eq!(directory.owner(&node("a")).await, None);
        let next = somebody();
        let _lease = directory.acquire(&node("a"), next).await.unwrap();
        assert_eq!(directory.owner(&node("a")).await, Some(next));
    }

    pub(super) async fn an_abandoned_acquisition_leaves_nothing(directory: Directory) {
        let id = node("a");
        drop(directory.acquire(&id, somebody()));
        let cut_off =
            tokio::time::timeout(std::time::Duration::ZERO, directory.acquire(&id, somebody()));
        drop(cut_off.await);
        assert_eq!(directory.owner(&id).await, None);
    }

    pub(super) async fn of_many_contenders_one_wins(directory: Directory) {
        for round in 0..50 {
            let id = node(&format!("n{round}"));
            let contenders: Vec<_> = (0..8)
                .map(|_| {
                    let (directory, id) = (directory.clone(), id.clone());
                    tokio::spawn(async move { directory.acquire(&id, somebody()).await })
                })
                .collect();
            let mut leases = Vec::new();
            for contender in contenders {
                leases.extend(contender.await.unwrap().ok());
            }
            assert_eq!(leases.len(), 1);
        }
    }

    macro_rules! contract {
        ($empty:expr) => {
            $crate::directory::contract::contract!($empty;
                one_owner_at_a_time,
                a_dropped_lease_frees_its_id_at_once,
                an_abandoned_acquisition_leaves_nothing,
                of_many_contenders_one_wins
            );
        };
        ($empty:expr; $($case:ident),+) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::directory::contract::$case($empty).await;
                }
            )+
        };
    }
    pub(super) use contract;
}
