//! What is counted while senders send or clients ask.

use std::ops::Range;

use crate::latency::Latencies;
use crate::report::{Measured, Outcomes};
use crate::wrong::{Wrong, Wrongs};

/// All counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// The measured time. It begins when it is known, and ends when that is known.
    measured_ns: Range<u64>,
    /// What was over in the measured time.
    pub count: u64,
    /// What was over at all.
    pub total: u64,
    right: u64,
    latencies: [Latencies; Mark::ALL.len()],
    outcomes: Outcomes,
    /// What must not happen.
    pub wrong: Wrongs,
}

/// What ends a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The message has been read by its receiver.
    Arrival,
    /// Its ack has been read.
    Ack,
    /// The answer to a request has been read to its end.
    Answer,
}

impl Mark {
    /// All of them, in the order of reports.
    const ALL: [Self; 3] = [Self::Arrival, Self::Ack, Self::Answer];

    /// Its name in reports.
    fn name(self) -> &'static str {
        match self {
            Self::Arrival => "received",
            Self::Ack => "acked",
            Self::Answer => "answered",
        }
    }
}

impl Tally {
    /// The measured time begins.
    pub fn measure_from(&mut self, now_ns: u64) {
        self.measured_ns = now_ns..u64::MAX;
    }

    /// It ends.
    pub fn measure_until(&mut self, now_ns: u64) {
        self.measured_ns.end = now_ns;
    }

    /// A message is over: it counts by when it came.
    pub fn done(&mut self, now_ns: u64) {
        self.total += 1;
        self.count += u64::from(self.measured_ns.contains(&now_ns));
    }

    /// A message has got this far: its latency counts by when it was due, or the slowest would be
    /// left out.
    pub fn record(&mut self, mark: Mark, due_ns: u64, now_ns: u64) {
        if self.measured_ns.contains(&due_ns)
            && let Some(latencies) = self.latencies.get_mut(mark as usize)
        {
            latencies.record(due_ns, now_ns);
        }
    }

    /// An ack or answer is the right one.
    pub fn right(&mut self) {
        self.right += 1;
    }

    /// Something happened that is neither right nor wrong.
    pub fn met(&mut self, name: &str) {
        self.outcomes.add(name, 1);
    }

    /// Something went wrong, and this is what is said of it.
    pub fn went_wrong(&mut self, wrong: Wrong, name: &str) {
        self.outcomes.add(name, 1);
        self.wrong.add(wrong, 1);
    }

    /// Puts it all into what was measured. `right` is the name of right acks or answers.
    pub fn tell(mut self, right: &str, measured: &mut Measured) {
        self.outcomes.add(right, self.right);
        measured.count = self.count;
        let names = Mark::ALL.into_iter().map(Mark::name);
        measured.latency = names.zip(self.latencies).collect();
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
        assert_eq!(counts[1..], [None; 2]);
        let names: Vec<_> = measured.latency.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["received", "acked", "answered"]);
    }
}
