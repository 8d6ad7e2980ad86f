//! How much of a store's room is taken, in total and by each origin.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Origin, StoreError, StoreLimits};
use super::{SHARDS, lock, shards};

/// The counts, and what they may come to.
pub(super) struct Room {
    limits: StoreLimits,
    sessions: AtomicUsize,
    bytes: AtomicUsize,
    hasher: RandomState,
    of_origin: Box<[Mutex<HashMap<Origin, usize>>]>,
}

/// Adds to a count if it stays within its limit.
fn take(count: &AtomicUsize, amount: usize, most: usize) -> bool {
    let add = |now: usize| now.checked_add(amount).filter(|sum| *sum <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

impl Room {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            sessions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            hasher: RandomState::new(),
            of_origin: shards(),
        }
    }

    /// How many sessions have their room.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Takes the room for a new session, or nothing.
    pub(super) fn take_session(&self, origin: &Origin, bytes: usize) -> Result<(), StoreError> {
        if !take(&self.sessions, 1, self.limits.max_sessions) {
            return Err(StoreError::TooManySessions);
        }
        if !take(&self.bytes, bytes, self.limits.max_bytes) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::TooManyBytes);
        }
        let mut origins = lock(self.origins(origin));
        let of_origin = origins.entry(origin.clone()).or_default();
        if *of_origin >= self.limits.max_sessions_per_origin {
            drop(origins);
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            self.free(bytes);
            return Err(StoreError::TooManyOfOrigin);
        }
        *of_origin += 1;
        Ok(())
    }

    /// Gives back what [`Room::take_session`] took, and what was taken for the session since.
    pub(super) fn free_session(&self, origin: &Origin, bytes: usize) {
        self.free(bytes);
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let mut origins = lock(self.origins(origin));
        if let Some(sessions) = origins.get_mut(origin) {
            *sessions -= 1;
            if *sessions == 0 {
                origins.remove(origin);
            }
        }
    }

    /// Takes room for what comes into a session.
    pub(super) fn take(&self, bytes: usize) -> Result<(), StoreError> {
        let fits = take(&self.bytes, bytes, self.limits.max_bytes);
        if fits { Ok(()) } else { Err(StoreError::TooManyBytes) }
    }

    /// Gives room back.
    pub(super) fn free(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn origins(&self, origin: &Origin) -> &Mutex<HashMap<Origin, usize>> {
        &self.of_origin[self.hasher.hash_one(origin) as usize % SHARDS]
    }

    /// Whether nothing is taken.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        let is_unused = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 0;
        is_unused(&self.sessions)
            && is_unused(&self.bytes)
            && self.of_origin.iter().all(|shard| lock(shard).is_empty())
    }
}
