//! In which order the messages of one sender reach one receiver.

use std::collections::BTreeSet;

/// How many numbers that were jumped over are remembered; the lowest are forgotten first.
const MAX_SKIPPED: usize = 100_000;

/// What an arrival says about the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing that was sent later has arrived before.
    InOrder,
    /// Something that was sent later was faster.
    OutOfOrder,
    /// It has arrived before.
    Duplicate,
}

/// The numbers that have arrived. The sender counts its messages from 0.
///
/// A number that is jumped over is no fault yet: the message may have been refused, or it is lost,
/// which is for the [`Ledger`](crate::ledger::Ledger) to say. It is out of order if it comes later.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    skipped: BTreeSet<u64>,
}

impl Sequence {
    /// Takes note of an arrival.
    pub fn arrived(&mut self, number: u64) -> Arrival {
        if number < self.next {
            return if self.skipped.remove(&number) {
                Arrival::OutOfOrder
            } else {
                Arrival::Duplicate
            };
        }
        if number > self.next {
            let lowest_kept = number.saturating_sub(MAX_SKIPPED as u64).max(self.next);
            self.skipped.extend(lowest_kept..number);
            while self.skipped.len() > MAX_SKIPPED {
                self.skipped.pop_first();
            }
        }
        self.next = number + 1;
        Arrival::InOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u64]) -> Vec<Arrival> {
        let mut sequence = Sequence::default();
        numbers.iter().map(|number| sequence.arrived(*number)).collect()
    }

    #[test]
    fn one_after_the_other() {
        assert_eq!(arrivals(&[0, 1, 2]), [Arrival::InOrder; 3]);
    }

    #[test]
    fn a_gap_alone_is_no_disorder() {
        assert_eq!(arrivals(&[0, 2, 5]), [Arrival::InOrder; 3]);
    }

    #[test]
    fn each_that_was_overtaken_counts_once() {
        use Arrival::{Duplicate, InOrder, OutOfOrder};
        assert_eq!(arrivals(&[1, 0]), [InOrder, OutOfOrder]);
        assert_eq!(arrivals(&[3, 0, 2, 1]), [InOrder, OutOfOrder, OutOfOrder, OutOfOrder]);
        assert_eq!(
            arrivals(&[1, 0, 0, 1, 2]),
            [InOrder, OutOfOrder, Duplicate, Duplicate, InOrder]
        );
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.arrived(u64::MAX - 1), Arrival::InOrder);
        assert_eq!(sequence.skipped.len(), MAX_SKIPPED);
        assert_eq!(sequence.arrived(u64::MAX - 2), Arrival::OutOfOrder);
    }
}
