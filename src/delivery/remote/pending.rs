//! Requests to other replicas that have no reply yet.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most requests of one kind that may wait for their answers.
const MAX_PENDING: usize = 100_000;

/// The most slots in the queue. Slots behind a request that waits long stay after they were
/// answered; they are small.
const MAX_PLACES: usize = 10 * MAX_PENDING;

/// The waiting callers, by the ID of their request. IDs are given in order and replies arrive
/// nearly in order, so a queue finds each by its index.
pub(super) struct Pending<W>(Mutex<Waiters<W>>);

struct Waiters<W> {
    first_id: u64,
    waiting: usize,
    queue: VecDeque<(Instant, Option<W>)>,
}

impl<W> Pending<W> {
    /// Nobody waits; the first request will have `first_id`.
    pub(super) fn new(first_id: u64) -> Self {
        Self(Mutex::new(Waiters { first_id, waiting: 0, queue: VecDeque::new() }))
    }

    /// Lets `waiter` wait; the ID for its request, or the waiter back if too many wait.
    pub(super) fn insert(&self, waiter: W) -> Result<u64, W> {
        let mut waiters = self.lock();
        if waiters.waiting >= MAX_PENDING || waiters.queue.len() >= MAX_PLACES {
            return Err(waiter);
        }
        waiters.waiting += 1;
        let id = waiters.first_id + waiters.queue.len() as u64;
        waiters.queue.push_back((Instant::now(), Some(waiter)));
        Ok(id)
    }

    /// The waiter for the reply to this request.
    pub(super) fn take(&self, id: u64) -> Option<W> {
        let mut waiters = self.lock();
        let place = usize::try_from(id.checked_sub(waiters.first_id)?).ok()?;
        let waiter = waiters.queue.get_mut(place)?.1.take()?;
        waiters.waiting -= 1;
        waiters.shorten();
        Some(waiter)
    }

    /// Removes and returns the callers that have waited longer than `timeout`.
    pub(super) fn expired(&self, timeout: Duration) -> Vec<W> {
        let mut expired = Vec::new();
        let mut waiters = self.lock();
        // The one at the front waits.
        while let Some((since, waiter)) = waiters.queue.front_mut() {
            if since.elapsed() <= timeout {
                break;
            }
            expired.extend(waiter.take());
            waiters.waiting -= 1;
            waiters.shorten();
        }
        expired
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiters<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Waiters<W> {
    /// Removes answered slots at the front.
    fn shorten(&mut self) {
        while self.queue.front().is_some_and(|(_, waiter)| waiter.is_none()) {
            self.queue.pop_front();
            self.first_id += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_in_any_order() {
        let pending = Pending::new(5);
        let ids: Vec<_> = (0..4_usize).map(|n| pending.insert(n).unwrap()).collect();
        assert_eq!(pending.take(ids[2]), Some(2));
        assert_eq!(pending.take(ids[2]), None);
        assert_eq!(pending.take(ids[0]), Some(0));
        assert_eq!(pending.take(ids[0]), None);
        assert_eq!(pending.take(u64::MAX), None);
        let next = pending.insert(4).unwrap();
        assert_eq!((pending.take(ids[1]), pending.take(next)), (Some(1), Some(4)));
        assert!(pending.expired(Duration::from_secs(60)).is_empty());
        assert_eq!(pending.expired(Duration::ZERO), [3]);
        assert_eq!(pending.lock().queue.len(), 0);
    }

    #[test]
    fn their_number_is_limited() {
        let pending = Pending::new(5);
        assert!((0..MAX_PENDING).all(|n| pending.insert(n).is_ok()));
        assert_eq!(pending.insert(7), Err(7));
    }
}
