//! Points in time.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// A time in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the time of the system's clock.
    pub fn now() -> Self {
        Self(since_1970().as_millis() as u64)
    }

    fn shifted(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add_signed(by_ms))
    }

    /// Returns the time `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }

    /// Returns the duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock by which sessions expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The system's clock as it was when the process started, and the time that has passed since. It
    /// never jumps; another process may have another time.
    Steady,
    /// The system's clock, which all replicas read alike.
    System,
}

/// A smaller difference between the clocks is that of the moments when they are read, or the drift
/// that is corrected all the time.
const MIN_JUMP_MS: i64 = 1_000;

impl Clock {
    /// Returns the time of the clock.
    pub fn now(self) -> Timestamp {
        static START: LazyLock<(Duration, Instant)> =
            LazyLock::new(|| (since_1970(), Instant::now()));
        match self {
            Self::Steady => {
                let (start, since) = *START;
                Timestamp((start + since.elapsed()).as_millis() as u64)
            }
            Self::System => Timestamp::now(),
        }
    }

    /// Returns a time of this clock as the system's clock has it, for people and clients.
    pub fn shown(self, time: Timestamp) -> Timestamp {
        self.shown_at(time, Timestamp::now())
    }

    fn shown_at(self, time: Timestamp, system: Timestamp) -> Timestamp {
        let jump_ms = system.0.wrapping_sub(self.now().0).cast_signed();
        if jump_ms.abs() < MIN_JUMP_MS { time } else { time.shifted(jump_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_shows_times_as_the_system_has_them_now() {
        const HOUR: Duration = Duration::from_secs(3600);
        let now = Clock::Steady.now();
        let expires = now.after(Duration::from_secs(300));
        assert_eq!(Clock::Steady.shown_at(expires, now), expires, "no jump");
        let ahead = Clock::Steady.shown_at(expires, now.after(HOUR));
        assert!(ahead.since(expires) >= HOUR - Duration::from_secs(60));
        let behind = Clock::Steady.shown_at(expires, Timestamp(now.0 - 3_600_000));
        assert!(expires.since(behind) >= HOUR && behind < now);
        assert!(Clock::Steady.now() >= now);
    }
}
