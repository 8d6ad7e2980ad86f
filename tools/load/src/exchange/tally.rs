//! What is counted while senders send.

use std::ops::Range;

use crate::latency::Latencies;
use crate::report::{Measured, Outcomes};
use crate::wrong::{Wrong, Wrongs};

/// All counts of a run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The measured time. It begins when it is known, and ends when that is known.
    measured_ns: Range<u64>,
    /// What was over in the measured time.
    pub(super) count: u64,
    /// What was over at all.
    pub(super) total: u64,
    right_acks: u64,
    to_ack: Latencies,
    to_receiver: Latencies,
    outcomes: Outcomes,
    pub(super) wrong: Wrongs,
}

/// What ends a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Ack,
    Arrival,
}

impl Tally {
    pub(super) fn measure_from(&mut self, now_ns: u64) {
        self.measured_ns = now_ns..u64::MAX;
    }

    pub(super) fn measure_until(&mut self, now_ns: u64) {
        self.measured_ns.end = now_ns;
    }

    /// A message is over: it counts by when it came.
    pub(super) fn done(&mut self, now_ns: u64) {
        self.total += 1;
        self.count += u64::from(self.measured_ns.contains(&now_ns));
    }

    /// A message has got this far: its latency counts by when it was due, or the slowest would be
    /// left out.
    pub(super) fn record(&mut self, mark: Mark, due_ns: u64, now_ns: u64) {
        if self.measured_ns.contains(&due_ns) {
            match mark {
                Mark::Ack => self.to_ack.record(due_ns, now_ns),
                Mark::Arrival => self.to_receiver.record(due_ns, now_ns),
            }
        }
    }

    pub(super) fn right_ack(&mut self) {
        self.right_acks += 1;
    }

    pub(super) fn bad_ack(&mut self, name: &str) {
        self.outcomes.add(name, 1);
        self.wrong.add(Wrong::BadAck, 1);
    }

    pub(super) fn disconnected(&mut self, why: &str) {
        self.outcomes.add(why, 1);
        self.wrong.add(Wrong::Disconnected, 1);
    }

    /// Puts it all into what was measured. `right` is the name of right acks.
    pub(super) fn tell(mut self, right: &str, measured: &mut Measured) {
        self.outcomes.add(right, self.right_acks);
        measured.count = self.count;
        measured.latency = vec![("received", self.to_receiver), ("acked", self.to_ack)];
        measured.outcomes = self.outcomes;
        measured.wrong = self.wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_by_arrival_and_latencies_by_what_was_due() {
        let mut tally = Tally::default();
        tally.done(5);
        tally.record(Mark::Ack, 5, 6);
        tally.measure_from(10);
        for (due_ns, now_ns) in [(8, 12), (12, 18), (19, 25), (20, 26)] {
            if now_ns == 25 {
                tally.measure_until(20);
            }
            tally.done(now_ns);
            tally.record(Mark::Arrival, due_ns, now_ns);
        }
        assert_eq!((tally.count, tally.total), (2, 5));
        let mut measured = Measured::default();
        tally.tell("OK", &mut measured);
        let counts: Vec<_> = measured.latency.iter().map(|(_, all)| all.percentiles()).collect();
        assert_eq!(counts[0].map(|told| told.count), Some(2));
        assert_eq!(counts[1], None);
    }
}
