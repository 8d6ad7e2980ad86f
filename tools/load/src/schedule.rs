//! In the open loop: when which sender has to send.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use crate::clock::{Alarm, Clock};

/// When messages are due: all senders in turn, evenly spread.
#[derive(Debug)]
pub struct Schedule {
    senders: u64,
    gap_ns: f64,
    start_ns: Cell<u64>,
    /// How many have been marked as due.
    marked: Cell<u64>,
}

impl Schedule {
    /// For so many senders, each of which sends so many in a second.
    pub fn new(senders: u64, rate: f64) -> Self {
        let gap_ns = 1e9 / (rate * senders as f64);
        Self { senders, gap_ns, start_ns: Cell::default(), marked: Cell::default() }
    }

    /// The first message is due at this time.
    pub fn start(&self, now_ns: u64) {
        self.start_ns.set(now_ns);
    }

    /// When the next message that has not been marked as due is due.
    fn next_ns(&self) -> u64 {
        self.at(self.marked.get())
    }

    /// When the message of this number, counted over all senders, is due.
    fn at(&self, number: u64) -> u64 {
        self.start_ns.get() + (number as f64 * self.gap_ns) as u64
    }

    /// When this message of one sender is due.
    pub fn due_ns(&self, sender: usize, number: u64) -> u64 {
        self.at(number * self.senders + sender as u64)
    }

    /// Hands over the senders whose messages are due, whenever that is, for ever; one stands there
    /// once for each message.
    ///
    /// # Errors
    /// Those of the operating system's timers.
    pub async fn run(
        &self,
        clock: Clock,
        alarm: &Alarm,
        mut due: impl FnMut(&[usize]),
    ) -> io::Result<()> {
        let mut senders = Vec::new();
        loop {
            senders.clear();
            senders.extend(self.all_before(clock.now_ns() + 1));
            due(&senders);
            match self.next_ns().checked_sub(clock.now_ns()) {
                None | Some(0) => tokio::task::yield_now().await,
                Some(ns) => alarm.sleep(Duration::from_nanos(ns)).await?,
            }
        }
    }

    /// The senders whose messages are due before this time and have not been handed over.
    pub fn all_before(&self, until_ns: u64) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || self.next_before(until_ns))
    }

    /// The sender whose message is due next, if that is before this time.
    fn next_before(&self, until_ns: u64) -> Option<usize> {
        let number = self.marked.get();
        (self.at(number) < until_ns).then(|| {
            self.marked.set(number + 1);
            (number % self.senders) as usize
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_due_in_turn_and_evenly() {
        let schedule = Schedule::new(4, 25.0);
        schedule.start(1000);
        assert_eq!((schedule.at(0), schedule.at(1)), (1000, 10_001_000));
        assert_eq!(schedule.due_ns(2, 3), schedule.at(14));
        let due: Vec<_> = schedule.all_before(50_001_000).collect();
        assert_eq!(due, [0, 1, 2, 3, 0]);
        assert_eq!(schedule.next_before(50_001_000), None);
        assert_eq!(schedule.next_ns(), 50_001_000);
        assert_eq!(schedule.next_before(50_001_001), Some(1));
    }
}
