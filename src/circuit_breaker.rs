//! Stops calls to a server that keeps failing: a webhook's, or another replica.

use std::time::{Duration, Instant};

/// One circuit. It opens after some failures in a row; then it lets one trial through now and
/// then, and closes as soon as anything is answered.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    failures_to_open: u32,
    /// The time between two trials.
    trial_interval: Duration,
    failures_in_a_row: u32,
    /// While the circuit is open: when it is half-open again.
    next_trial: Option<Instant>,
}

impl CircuitBreaker {
    /// A closed circuit.
    pub(crate) fn new(failures_to_open: u32, trial_interval: Duration) -> Self {
        Self { failures_to_open, trial_interval, failures_in_a_row: 0, next_trial: None }
    }

    /// Whether to ask now. In an open circuit a yes is the trial: until the next one is due the
    /// answer is no.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let Some(next_trial) = &mut self.next_trial else { return true };
        let is_due = now >= *next_trial;
        if is_due {
            *next_trial = now + self.trial_interval;
        }
        is_due
    }

    /// Whether the circuit is open.
    pub(crate) fn is_open(&self) -> bool {
        self.next_trial.is_some()
    }

    /// Closes the circuit: there was an answer.
    pub(crate) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
        self.next_trial = None;
    }

    /// Counts a failure; the last of many in a row opens the circuit.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row >= self.failures_to_open && self.next_trial.is_none() {
            self.next_trial = Some(now + self.trial_interval);
        }
    }

    /// Whether a trial call has been due for longer than `age`: there are no callers any more.
    pub(crate) fn is_unused(&self, now: Instant, age: Duration) -> bool {
        self.next_trial.is_none_or(|next_trial| now > next_trial + age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_trial_through_at_each_interval() {
        let (mut breaker, start) = (CircuitBreaker::new(10, INTERVAL), Instant::now());
        for _ in 0..9 {
            breaker.failed(start);
        }
        breaker.succeeded();
        for _ in 0..10 {
            assert!(breaker.allows(start));
            breaker.failed(start);
        }
        assert!(!breaker.allows(start + INTERVAL / 2));
        assert!(breaker.allows(start + INTERVAL));
        assert!(!breaker.allows(start + INTERVAL), "one trial, not more");
        breaker.failed(start + INTERVAL);
        assert!(!breaker.allows(start + INTERVAL + INTERVAL / 2));
        assert!(breaker.allows(start + 2 * INTERVAL));
        breaker.succeeded();
        assert!(breaker.allows(start) && breaker.allows(start));
    }

    #[test]
    fn further_failures_do_not_put_the_trial_off() {
        let (mut breaker, start) = (CircuitBreaker::new(1, INTERVAL), Instant::now());
        breaker.failed(start);
        breaker.failed(start + INTERVAL / 2);
        assert!(breaker.allows(start + INTERVAL));
    }

    #[test]
    fn an_open_circuit_that_nobody_tries_is_unused() {
        let (mut breaker, start) = (CircuitBreaker::new(1, INTERVAL), Instant::now());
        breaker.failed(start);
        assert!(!breaker.is_unused(start + 2 * INTERVAL, INTERVAL));
        assert!(breaker.is_unused(start + 3 * INTERVAL, INTERVAL));
    }
}
