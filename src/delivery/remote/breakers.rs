//! The circuit breakers of replicas that do not answer.
//!
//! A replica that hangs would cost every message to it the time until its reply times out. So
//! while it is unresponsive one message at a time is the trial; the others fail at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::MESSAGE_TIMEOUT;
use crate::circuit_breaker::CircuitBreaker;
use crate::node::ReplicaId;

/// How long an unresponsive replica without traffic is remembered.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The open circuits, by replica.
#[derive(Default)]
pub(super) struct Breakers {
    /// How many there are, so that the common case of none takes no lock.
    count: AtomicUsize,
    open: Mutex<HashMap<ReplicaId, CircuitBreaker>>,
}

impl Breakers {
    /// Opens the circuit of a replica that has not answered in time.
    pub(super) fn failed(&self, replica: ReplicaId, now: Instant) {
        let mut open = self.lock();
        open.entry(replica).or_insert_with(|| CircuitBreaker::new(1, MESSAGE_TIMEOUT)).failed(now);
        self.count.store(open.len(), Ordering::Release);
    }

    /// Closes the circuit of a replica that has sent something.
    pub(super) fn succeeded(&self, replica: ReplicaId) {
        self.change(|open| {
            open.remove(&replica);
        });
    }

    /// Removes the replicas that were not tried for long: they are gone.
    pub(super) fn forget_unused(&self, now: Instant) {
        self.change(|open| open.retain(|_, breaker| !breaker.is_unused(now, MAX_AGE)));
    }

    /// Whether the replica did not answer when it was asked last.
    pub(super) fn is_open(&self, replica: ReplicaId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().contains_key(&replica)
    }

    /// Whether a message may be sent to the replica now.
    pub(super) fn allows(&self, replica: ReplicaId, now: Instant) -> bool {
        self.count.load(Ordering::Acquire) == 0
            || self.lock().get_mut(&replica).is_none_or(|breaker| breaker.allows(now))
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<ReplicaId, CircuitBreaker>)) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut open = self.lock();
            change(&mut open);
            self.count.store(open.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, CircuitBreaker>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unresponsive_replica_is_tried_now_and_then() {
        let (breakers, start) = (Breakers::default(), Instant::now());
        let (hanging, other) = (ReplicaId::random(), ReplicaId::random());
        assert!(breakers.allows(hanging, start));
        breakers.failed(hanging, start);
        assert!(breakers.is_open(hanging) && !breakers.is_open(other));
        assert!(!breakers.allows(hanging, start) && breakers.allows(other, start));
        let due = start + MESSAGE_TIMEOUT;
        assert!(breakers.allows(hanging, due), "the trial");
        assert!(!breakers.allows(hanging, due));
        breakers.succeeded(other);
        assert!(!breakers.allows(hanging, due));
        breakers.succeeded(hanging);
        assert!(breakers.allows(hanging, due));
        breakers.failed(hanging, due);
        breakers.forget_unused(due + MAX_AGE);
        assert!(!breakers.allows(hanging, due));
        breakers.forget_unused(due + MAX_AGE + 2 * MESSAGE_TIMEOUT);
        assert!(breakers.allows(hanging, due));
    }
}
