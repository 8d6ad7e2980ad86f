//! What an address has stored, until it expires.
//!
//! Sessions end only by expiring, and all live equally long, so a sum for each period of time is
//! enough: it is dropped when everything in it has expired.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Into how many periods the lifetime of a session is divided: what has expired counts for up to one
/// of them longer.
const PERIODS: u32 = 60;

/// An amount of sessions and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

/// What an address has stored.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    began: Instant,
    period: Duration,
    /// The amounts by the period in which they were stored, oldest first.
    periods: VecDeque<(u64, Share)>,
    total: Share,
}

impl Ledger {
    /// For sessions that live so long.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            began: Instant::now(),
            period: (lifetime / PERIODS).max(Duration::from_millis(1)),
            periods: VecDeque::new(),
            total: Share::default(),
        }
    }

    /// Returns what is stored now.
    pub(super) fn stored(&mut self) -> Share {
        self.expire(self.now());
        self.total
    }

    /// Adds an amount. Returns the period that it is in.
    pub(super) fn add(&mut self, share: Share) -> u64 {
        let now = self.now();
        match self.periods.back_mut() {
            Some((period, sum)) if *period == now => {
                sum.sessions += share.sessions;
                sum.bytes += share.bytes;
            }
            _ => self.periods.push_back((now, share)),
        }
        self.total.sessions += share.sessions;
        self.total.bytes += share.bytes;
        now
    }

    /// Takes back an amount that was added in this period.
    pub(super) fn remove(&mut self, period: u64, share: Share) {
        // Otherwise it has expired.
        if let Some((_, sum)) = self.periods.iter_mut().find(|(other, _)| *other == period) {
            sum.sessions -= share.sessions;
            sum.bytes -= share.bytes;
            self.total.sessions -= share.sessions;
            self.total.bytes -= share.bytes;
        }
    }

    fn now(&self) -> u64 {
        (self.began.elapsed().as_nanos() / self.period.as_nanos()) as u64
    }

    fn expire(&mut self, now: u64) {
        while let Some((period, share)) = self.periods.front()
            && *period + u64::from(PERIODS) < now
        {
            self.total.sessions -= share.sessions;
            self.total.bytes -= share.bytes;
            self.periods.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_expire_and_can_be_taken_back() {
        let mut ledger = Ledger::new(Duration::from_secs(3600));
        let share = Share { sessions: 1, bytes: 10 };
        let period = ledger.add(share);
        ledger.add(share);
        assert_eq!(ledger.stored(), Share { sessions: 2, bytes: 20 });
        ledger.remove(period, share);
        assert_eq!(ledger.stored(), share);
        ledger.expire(period + 60);
        assert_eq!(ledger.total, share);
        ledger.expire(period + 61);
        assert_eq!(ledger.total, Share::default());
        ledger.remove(period, share);
        assert_eq!((ledger.total, ledger.periods.len()), (Share::default(), 0));
    }

    #[test]
    fn the_number_of_periods_is_bounded() {
        let mut ledger = Ledger::new(Duration::from_millis(60));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {
            ledger.add(Share { sessions: 1, bytes: 1 });
            ledger.stored();
        }
        assert!(ledger.periods.len() <= 62, "{}", ledger.periods.len());
    }
}
