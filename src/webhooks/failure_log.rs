//! Logs the failures of a hook in summaries, so that a server that is down does not fill the log.

use std::time::{Duration, Instant};

/// The least time between two log lines on the failures of one hook.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What has been logged, and what has not.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    last_line: Option<Instant>,
    unlogged: u64,
}

impl FailureLog {
    /// Counts a failure. Returns how many to log, if a line is due.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.last_line.is_some_and(|last| now < last + LOG_INTERVAL) {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_in_sums() {
        let (mut log, start) = (FailureLog::default(), Instant::now());
        assert_eq!(log.failed(start), Some(1));
        assert_eq!(log.failed(start), None);
        assert_eq!(log.failed(start + LOG_INTERVAL), Some(2));
    }
}
