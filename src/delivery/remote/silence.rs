//! Replicas that do not answer.
//!
//! One that hangs would cost every message to it the time until its answer is given up, and so
//! hold up all that its sender has to say to others. So while a replica is silent, one message at
//! a time tries whether it still is; the others fail at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::node::ReplicaId;

/// The silent replicas, each with the time of the last trial.
pub(super) struct Silence {
    /// How many they are, so that none of them costs nothing.
    count: AtomicUsize,
    trials: Mutex<HashMap<ReplicaId, Instant>>,
}

impl Silence {
    pub(super) fn new() -> Self {
        Self { count: AtomicUsize::new(0), trials: Mutex::default() }
    }

    /// The replica has not answered in time.
    pub(super) fn begin(&self, replica: ReplicaId) {
        let mut trials = self.lock();
        trials.entry(replica).or_insert_with(Instant::now);
        self.count.store(trials.len(), Ordering::Release);
    }

    /// Something has come from the replica.
    pub(super) fn end(&self, replica: ReplicaId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut trials = self.lock();
        trials.remove(&replica);
        self.count.store(trials.len(), Ordering::Release);
    }

    /// Whether a message may be sent to the replica now: it is not silent, or the last trial was
    /// longer ago than `patience`, so that this is the next.
    pub(super) fn permits(&self, replica: ReplicaId, patience: Duration) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return true;
        }
        let mut trials = self.lock();
        let Some(trial) = trials.get_mut(&replica) else { return true };
        let is_due = trial.elapsed() > patience;
        if is_due {
            *trial = Instant::now();
        }
        is_due
    }

    /// Forgets the replicas that nobody has tried for longer than `age`: they are gone.
    pub(super) fn forget(&self, age: Duration) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut trials = self.lock();
            trials.retain(|_, trial| trial.elapsed() <= age);
            self.count.store(trials.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ReplicaId, Instant>> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_replica_is_tried_now_and_then() {
        let silence = Silence::new();
        let (silent, other) = (ReplicaId::random(), ReplicaId::random());
        let long = Duration::from_secs(60);
        assert!(silence.permits(silent, long));
        silence.begin(silent);
        assert!(!silence.permits(silent, long) && silence.permits(other, long));
        assert!(silence.permits(silent, Duration::ZERO), "the trial");
        assert!(!silence.permits(silent, long));
        silence.end(other);
        assert!(!silence.permits(silent, long));
        silence.end(silent);
        assert!(silence.permits(silent, long));
        silence.begin(silent);
        silence.forget(Duration::ZERO);
        assert!(silence.permits(silent, long));
    }
}
