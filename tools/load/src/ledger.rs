//! What one sender waits for: each message's ack and its arrival.

use std::collections::VecDeque;

/// What is expected of every message of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its ack.
    pub ack: bool,
    /// Its arrival at the receiver.
    pub arrival: bool,
}

/// The messages on their way. A message is outstanding until everything that is expected of it
/// has come; its number is its place, counted from 0.
#[derive(Debug)]
pub struct Ledger {
    expected: Expected,
    first: u64,
    entries: VecDeque<Entry>,
    outstanding: usize,
}

#[derive(Debug)]
struct Entry {
    due_ns: u64,
    waits_for: Expected,
}

impl Entry {
    fn is_over(&self) -> bool {
        !self.waits_for.ack && !self.waits_for.arrival
    }
}

impl Ledger {
    /// An empty one.
    pub fn new(expected: Expected) -> Self {
        Self { expected, first: 0, entries: VecDeque::new(), outstanding: 0 }
    }

    /// How many messages are outstanding.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// How many messages have been sent.
    pub fn sent(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Enters a message that should leave at `due_ns`, and gives its number.
    pub fn send(&mut self, due_ns: u64) -> u64 {
        let number = self.sent();
        self.entries.push_back(Entry { due_ns, waits_for: self.expected });
        self.outstanding += 1;
        number
    }

    /// The message has arrived: when it should have left, if it is waited for.
    pub fn arrived(&mut self, number: u64) -> Option<u64> {
        self.settle(number, |waits_for| std::mem::take(&mut waits_for.arrival))
    }

    /// An ack has come: when the message should have left, if its ack is waited for. A message
    /// whose ack is a bad one is not waited for any more.
    pub fn acked(&mut self, number: u64, good: bool) -> Option<u64> {
        self.settle(number, |waits_for| {
            waits_for.arrival &= good;
            std::mem::take(&mut waits_for.ack)
        })
    }

    fn settle(&mut self, number: u64, take: impl FnOnce(&mut Expected) -> bool) -> Option<u64> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(place).filter(|entry| !entry.is_over())?;
        let due_ns = take(&mut entry.waits_for).then_some(entry.due_ns);
        if entry.is_over() {
            self.outstanding -= 1;
            while self.entries.pop_front_if(|entry| entry.is_over()).is_some() {
                self.first += 1;
            }
        }
        due_ns
    }

    /// How many messages wait for their ack, and how many for their arrival.
    pub fn missing(&self) -> (u64, u64) {
        let count = |waits: fn(&Expected) -> bool| {
            self.entries.iter().filter(|entry| waits(&entry.waits_for)).count() as u64
        };
        (count(|waits_for| waits_for.ack), count(|waits_for| waits_for.arrival))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Expected = Expected { ack: true, arrival: true };

    #[test]
    fn a_message_is_outstanding_until_both_have_come() {
        let mut ledger = Ledger::new(BOTH);
        assert_eq!((ledger.send(10), ledger.send(20)), (0, 1));
        assert_eq!(ledger.arrived(0), Some(10));
        assert_eq!(ledger.outstanding(), 2);
        assert_eq!(ledger.acked(0, true), Some(10));
        assert_eq!(ledger.outstanding(), 1);
        assert_eq!(ledger.missing(), (1, 1));
        assert_eq!(ledger.acked(1, true), Some(20));
        assert_eq!(ledger.missing(), (0, 1));
        assert_eq!(ledger.arrived(1), Some(20));
        assert_eq!((ledger.outstanding(), ledger.sent(), ledger.entries.len()), (0, 2, 0));
    }

    #[test]
    fn what_is_not_waited_for_has_no_time() {
        let mut ledger = Ledger::new(BOTH);
        ledger.send(10);
        ledger.send(20);
        assert_eq!(ledger.acked(2, true), None);
        assert_eq!(ledger.acked(1, true), Some(20));
        assert_eq!(ledger.acked(1, true), None);
        assert_eq!(ledger.arrived(1), Some(20));
        // It is over, but stands behind one that is not.
        assert_eq!((ledger.acked(1, true), ledger.arrived(1)), (None, None));
        assert_eq!(ledger.outstanding(), 1);
        assert_eq!(ledger.entries.len(), 2);
    }

    #[test]
    fn a_bad_ack_ends_the_waiting_for_the_arrival() {
        let mut ledger = Ledger::new(BOTH);
        ledger.send(10);
        assert_eq!(ledger.acked(0, false), Some(10));
        assert_eq!(ledger.outstanding(), 0);
        assert_eq!(ledger.arrived(0), None);
    }

    #[test]
    fn only_what_is_expected_is_waited_for() {
        let mut ledger = Ledger::new(Expected { ack: false, arrival: true });
        ledger.send(1);
        assert_eq!(ledger.acked(0, true), None);
        assert_eq!(ledger.arrived(0), Some(1));
        let mut ledger = Ledger::new(Expected { ack: true, arrival: false });
        ledger.send(1);
        assert_eq!(ledger.acked(0, true), Some(1));
        assert_eq!(ledger.outstanding(), 0);
    }

    #[test]
    fn numbers_go_on_after_the_front_has_left() {
        let mut ledger = Ledger::new(Expected { ack: false, arrival: true });
        for number in 0..1000 {
            assert_eq!(ledger.send(number), number);
            assert_eq!(ledger.arrived(number), Some(number));
        }
        assert_eq!((ledger.sent(), ledger.entries.len()), (1000, 0));
    }
}
