//! Stops asking a server that does not answer, and says so once in a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open the circuit.
const FAILURES_TO_OPEN: u32 = 10;

/// How long an open circuit stays so before one call is tried.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// The least time between two log lines on the failures of one hook.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The circuit of one hook.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures_in_a_row: u32,
    next_try: Option<Instant>,
    last_report: Option<Instant>,
    unreported: u64,
}

impl Breaker {
    /// Whether a call may be made. While the circuit is open one is let through now and then.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if state.failures_in_a_row < FAILURES_TO_OPEN {
            return true;
        }
        let is_due = state.next_try.is_none_or(|next_try| now >= next_try);
        if is_due {
            state.next_try = Some(now + OPEN_FOR);
        }
        is_due
    }

    /// A call was answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        state.failures_in_a_row = 0;
        state.next_try = None;
    }

    /// A call failed. Returns how many failures to report, if it is time to report any.
    pub(super) fn failed(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        if state.failures_in_a_row == FAILURES_TO_OPEN {
            state.next_try = Some(now + OPEN_FOR);
        }
        state.report(now)
    }

    /// A call failed in a way that does not speak against the next one. Returns the same.
    pub(super) fn failed_alone(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        state.failures_in_a_row = 0;
        state.next_try = None;
        state.report(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.last_report.is_some_and(|last| now < last + REPORT_EVERY) {
            return None;
        }
        self.last_report = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_ten_failures_in_a_row_and_tries_one_call_every_five_seconds() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..9 {
            breaker.failed(start);
        }
        breaker.succeeded();
        for _ in 0..10 {
            assert!(breaker.allows(start));
            breaker.failed(start);
        }
        assert!(!breaker.allows(start + OPEN_FOR / 2));
        assert!(breaker.allows(start + OPEN_FOR));
        assert!(!breaker.allows(start + OPEN_FOR), "one call is tried, not more");
        breaker.failed(start + OPEN_FOR);
        assert!(!breaker.allows(start + OPEN_FOR + OPEN_FOR / 2));
        assert!(breaker.allows(start + 2 * OPEN_FOR));
        breaker.succeeded();
        assert!(breaker.allows(start) && breaker.allows(start));
    }

    #[test]
    fn failures_that_stand_alone_never_open_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_TO_OPEN - 1 {
            breaker.failed(now);
        }
        breaker.failed_alone(now);
        breaker.failed(now);
        assert!(breaker.allows(now));
    }

    #[test]
    fn failures_are_reported_in_sums() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.failed(start), Some(1));
        assert_eq!(breaker.failed(start), None);
        assert_eq!(breaker.failed_alone(start + REPORT_EVERY), Some(2));
    }
}
