//! The quota of a store: what is reserved of its limits, in total and by each origin.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{StoreError, StoreLimits};
use super::{SHARDS, lock, shards};
use crate::model::Origin;

/// The limits, and what is reserved of them.
pub(super) struct Quota {
    limits: StoreLimits,
    sessions: AtomicUsize,
    bytes: AtomicUsize,
    hasher: RandomState,
    of_origin: Box<[Mutex<HashMap<Origin, usize>>]>,
}

/// Adds to a count if the sum is within the limit.
fn add(count: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let sum = |now: usize| now.checked_add(amount).filter(|sum| *sum <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

impl Quota {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            sessions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            hasher: RandomState::new(),
            of_origin: shards(),
        }
    }

    /// Returns the number of sessions.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Reserves the quota for a new session, or nothing.
    pub(super) fn reserve_session(&self, origin: &Origin, bytes: usize) -> Result<(), StoreError> {
        if !add(&self.sessions, 1, self.limits.max_sessions) {
            return Err(StoreError::TooManySessions);
        }
        if !add(&self.bytes, bytes, self.limits.max_bytes) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::TooManyBytes);
        }
        let mut origins = lock(self.origins(origin));
        let of_origin = origins.entry(origin.clone()).or_default();
        if *of_origin >= self.limits.max_sessions_per_origin {
            drop(origins);
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            self.release(bytes);
            return Err(StoreError::TooManyOfOrigin);
        }
        *of_origin += 1;
        Ok(())
    }

    /// Releases what [`Quota::reserve_session`] reserved, and what the session has added since.
    pub(super) fn release_session(&self, origin: &Origin, bytes: usize) {
        self.release(bytes);
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let mut origins = lock(self.origins(origin));
        if let Some(sessions) = origins.get_mut(origin) {
            *sessions -= 1;
            if *sessions == 0 {
                origins.remove(origin);
            }
        }
    }

    /// Reserves bytes for an addition to a session.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        let fits = add(&self.bytes, bytes, self.limits.max_bytes);
        if fits { Ok(()) } else { Err(StoreError::TooManyBytes) }
    }

    /// Releases bytes.
    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn origins(&self, origin: &Origin) -> &Mutex<HashMap<Origin, usize>> {
        &self.of_origin[self.hasher.hash_one(origin) as usize % SHARDS]
    }

    /// Whether nothing is reserved.
    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        let is_unused = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 0;
        is_unused(&self.sessions)
            && is_unused(&self.bytes)
            && self.of_origin.iter().all(|shard| lock(shard).is_empty())
    }
}
