//! The permits for calls of one hook, shared fairly between callers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::CallError;
use super::fair_queue::{Caller, FairQueue};

/// A number of permits, and the callers that wait for one.
pub(super) struct Permits(Mutex<State>);

struct State {
    free: usize,
    waiting: FairQueue<Waiter>,
    last_id: u64,
}

struct Waiter {
    id: u64,
    hand_over: oneshot::Sender<()>,
}

/// The permit for one call; released by drop.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    caller: Caller,
}

/// A slot in the queue; released by drop.
struct Place<'a> {
    permits: &'a Permits,
    caller: Caller,
    id: u64,
    handed_over: oneshot::Receiver<()>,
}

impl Permits {
    /// `permits` permits, for which at most `max_waiting` calls wait.
    pub(super) fn new(permits: usize, max_waiting: usize) -> Self {
        let waiting = FairQueue::new(max_waiting);
        Self(Mutex::new(State { free: permits, waiting, last_id: 0 }))
    }

    /// Waits for a permit, unless `check` finds that it is not worth it. It is given the number of
    /// calls that come first.
    ///
    /// # Errors
    /// That of `check`; [`CallError::Busy`] if too many wait already.
    pub(super) async fn acquire(
        &self,
        caller: Caller,
        check: impl FnOnce(usize) -> Result<(), CallError>,
    ) -> Result<Permit<'_>, CallError> {
        let mut place = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                state.waiting.began(caller);
                return Ok(Permit { permits: self, caller });
            }
            check(state.waiting.ahead_of(caller))?;
            state.last_id += 1;
            let id = state.last_id;
            let (hand_over, handed_over) = oneshot::channel();
            // An evicted waiter finds its channel closed.
            drop(state.waiting.push(caller, Waiter { id, hand_over }));
            Place { permits: self, caller, id, handed_over }
        };
        (&mut place.handed_over).await.map_err(|_| CallError::Busy)?;
        Ok(Permit { permits: self, caller })
    }

    /// Returns how many calls wait for a permit.
    pub(super) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Hands a permit on to the next that waits for one.
    fn give_back(&self, caller: Caller) {
        let mut state = self.state();
        state.waiting.finished(caller);
        while let Some((next, waiter)) = state.waiting.pop() {
            if waiter.hand_over.send(()).is_ok() {
                return;
            }
            state.waiting.finished(next);
        }
        state.free += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.give_back(self.caller);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.permits.state().waiting.remove(self.caller, |waiter| waiter.id == self.id);
        // It may have been handed to a caller that no longer waits.
        if self.handed_over.try_recv().is_ok() {
            self.permits.give_back(self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::fair_queue::Callers;
    use super::*;

    #[tokio::test]
    async fn permits_are_handed_on_and_none_is_lost() {
        let (permits, callers) = (Permits::new(2, 3), Callers::default());
        let [flooder, other] = [callers.caller("flooder"), callers.caller("other")];
        let acquire = |caller| Box::pin(permits.acquire(caller, |_| Ok(())));
        let first = acquire(flooder).await.unwrap();
        let second = acquire(flooder).await.unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| acquire(flooder)).collect();
        assert!(waiting.iter_mut().all(|it| it.now_or_never().is_none()));
        assert_eq!(acquire(flooder).await.err(), Some(CallError::Busy));
        let mut others = acquire(other);
        assert!((&mut others).now_or_never().is_none());
        assert_eq!(waiting.remove(2).await.err(), Some(CallError::Busy), "its place was taken");
        drop(first);
        let others = others.now_or_never().expect("a caller without a call comes first").unwrap();
        // One that is handed a permit and never takes it, and one that leaves the queue.
        drop(second);
        drop(waiting.remove(0));
        drop(others);
        drop(waiting);
        assert_eq!(permits.state().free, 2);
        assert_eq!(permits.state().waiting.len(), 0);
    }
}
