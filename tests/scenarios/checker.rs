//! What the broker promises, as questions to what was seen.

use std::collections::HashMap;
use std::time::Duration;

use crate::history::{Ack, Event, MessageNumber, VisitNumber};

/// Within this time every event that asks for an ack gets one.
const ACK_LIMIT: Duration = Duration::from_secs(5);

/// What a busy machine may add to that.
const SLACK: Duration = Duration::from_secs(2);

/// A receiver that is known to live this long after an ack had time to read what it was sent.
const READING: Duration = Duration::from_secs(1);

/// A time in which a replica could not do what it should.
#[derive(Debug, Clone)]
pub struct Outage {
    pub replica: usize,
    pub from: Duration,
    pub to: Duration,
    /// Whether it could do nothing at all. Otherwise, it only was cut off from Redis.
    pub is_stopped: bool,
}

#[derive(Debug)]
struct Visit {
    node: usize,
    replica: usize,
    from: Duration,
    /// The last time at which it was provably alive: when it sent what was acked later.
    alive: Duration,
    left: Option<Duration>,
}

struct Message {
    visit: VisitNumber,
    to: usize,
    sent: Duration,
    acked: Option<(Duration, Ack)>,
    received: u32,
}

impl Message {
    fn described(&self, number: MessageNumber, replica: usize, receivers: &[&Visit]) -> String {
        let Self { to, sent, acked, .. } = self;
        let near = receivers.iter().filter(|visit| {
            visit.from <= *sent + READING
                && visit.left.is_none_or(|left| left + Duration::from_secs(10) >= *sent)
        });
        let near: Vec<_> = near.collect();
        format!(
            "message {number} of {sent:?} by replica {replica}, acked {acked:?}, to node {to}, which was at {near:?},"
        )
    }
}

struct Seen<'a> {
    visits: HashMap<VisitNumber, Visit>,
    messages: HashMap<MessageNumber, Message>,
    outages: &'a [Outage],
    settled: Duration,
    end: Duration,
    violations: Vec<String>,
}

/// Returns every promise that was broken.
pub fn violations(history: &[(Duration, Event)], outages: &[Outage]) -> Vec<String> {
    let mut seen = Seen {
        visits: HashMap::new(),
        messages: HashMap::new(),
        outages,
        settled: Duration::MAX,
        end: history.last().map_or(Duration::ZERO, |(at, _)| *at),
        violations: Vec::new(),
    };
    seen.read(history);
    seen.one_owner();
    seen.every_event_is_acked();
    seen.ok_means_handed_over();
    seen.violations
}

impl Seen<'_> {
    /// Puts together what belongs together. What can be judged at once is: that nothing is received
    /// twice, out of order, under a false name, or without having been sent.
    fn read(&mut self, history: &[(Duration, Event)]) {
        let mut last = HashMap::new();
        for (at, event) in history {
            let at = *at;
            match *event {
                Event::Entered { visit, node, replica } => {
                    let new = Visit { node, replica, from: at, alive: at, left: None };
                    self.visits.insert(visit, new);
                }
                Event::Sent { message, visit, to } => {
                    let new = Message { visit, to, sent: at, acked: None, received: 0 };
                    self.messages.insert(message, new);
                }
                Event::Acked { message, ack } => self.acked(at, message, ack),
                Event::Received { message, visit, from } => {
                    let Some(sender) = self.received(message, visit, from) else { continue };
                    if last.insert((sender, visit), message).is_some_and(|last| last > message) {
                        self.violations.push(format!("{at:?}: message {message} is out of order"));
                    }
                }
                Event::Left { visit } => {
                    if let Some(visit) = self.visits.get_mut(&visit) {
                        visit.left = Some(at);
                    }
                }
                Event::Settled => self.settled = at,
            }
        }
    }

    fn acked(&mut self, at: Duration, number: MessageNumber, ack: Ack) {
        let Some(message) = self.messages.get_mut(&number) else {
            self.violations.push(format!("{at:?}: ack of {number}, which was not sent"));
            return;
        };
        if message.acked.replace((at, ack)).is_some() {
            self.violations.push(format!("{at:?}: second ack of message {number}"));
        }
        if let Some(visit) = self.visits.get_mut(&message.visit) {
            visit.alive = visit.alive.max(message.sent);
        }
    }

    /// Returns the sender's visit.
    fn received(
        &mut self,
        number: MessageNumber,
        visit: VisitNumber,
        from: usize,
    ) -> Option<VisitNumber> {
        let Some(message) = self.messages.get_mut(&number) else {
            self.violations.push(format!("message {number} was received and never sent"));
            return None;
        };
        message.received += 1;
        if message.received > 1 {
            self.violations.push(format!("message {number} was received twice"));
        }
        if self.visits[&message.visit].node != from {
            self.violations.push(format!("message {number} says to be from node {from}"));
        }
        if self.visits[&visit].node != message.to {
            self.violations.push(format!("message {number} went to the wrong node"));
        }
        Some(message.visit)
    }

    /// The visits of one node do not overlap, unless one of their replicas was cut off.
    fn one_owner(&mut self) {
        let mut visits: Vec<&Visit> = self.visits.values().collect();
        visits.sort_by_key(|visit| (visit.node, visit.from));
        for (place, visit) in visits.iter().enumerate() {
            let later = visits[place + 1..].iter();
            let twins = later
                .take_while(|other| other.node == visit.node && other.from < visit.alive)
                .filter(|other| other.from < other.alive);
            for other in twins {
                let (from, to) = (other.from, visit.alive.min(other.alive));
                let is_excused = |it: &Outage| {
                    [visit.replica, other.replica].contains(&it.replica)
                        && it.from <= from
                        && to <= it.to
                };
                if !self.outages.iter().any(is_excused) {
                    self.violations.push(format!(
                        "node {} on replicas {} and {}, {from:?} to {to:?}",
                        visit.node, visit.replica, other.replica
                    ));
                }
            }
        }
    }

    /// Every event gets its ack in time, or its sender's connection ends.
    fn every_event_is_acked(&mut self) {
        for (number, message) in &self.messages {
            let visit = &self.visits[&message.visit];
            let limit = message.sent + ACK_LIMIT + SLACK;
            let until = message.acked.map(|(at, _)| at).or(visit.left).unwrap_or(self.end);
            let is_excused = |it: &Outage| {
                it.is_stopped
                    && it.replica == visit.replica
                    && it.from <= limit
                    && message.sent <= it.to
            };
            if until > limit && !self.outages.iter().any(is_excused) {
                let (sent, acked) = (message.sent, message.acked);
                self.violations.push(format!(
                    "message {number} of {sent:?} by replica {}: ack {acked:?}",
                    visit.replica
                ));
            }
        }
    }

    /// What was acked `OK` reached the receiver, if it was there all the time. Once all is well, everything is
    /// acked so.
    fn ok_means_handed_over(&mut self) {
        let mut by_node: HashMap<usize, Vec<&Visit>> = HashMap::new();
        for visit in self.visits.values() {
            by_node.entry(visit.node).or_default().push(visit);
        }
        let none = Vec::new();
        for (number, message) in &self.messages {
            let Some((at, ack)) = message.acked else { continue };
            let receivers = by_node.get(&message.to).unwrap_or(&none);
            if ack != Ack::Ok {
                if message.sent > self.settled {
                    self.violations.push(format!(
                        "{} when all was well",
                        message.described(*number, self.visits[&message.visit].replica, receivers)
                    ));
                }
                continue;
            }
            let stayed = |visit: &&Visit| visit.from <= message.sent && visit.alive >= at + READING;
            // It may have been handed over to the one that ended.
            let has_ended = |visit: &&Visit| {
                visit.from <= at && visit.left.is_some_and(|left| left + READING >= message.sent)
            };
            let had_it = |visit: &&Visit| has_ended(visit) && !stayed(visit);
            if message.received == 0
                && receivers.iter().any(stayed)
                && !receivers.iter().any(had_it)
            {
                self.violations.push(format!(
                    "{} never reached node {}",
                    message.described(*number, self.visits[&message.visit].replica, receivers),
                    message.to
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn entered(ms: u64, visit: u64, node: usize, replica: usize) -> (Duration, Event) {
        (at(ms), Event::Entered { visit, node, replica })
    }

    fn sent(ms: u64, message: u64, visit: u64, to: usize) -> (Duration, Event) {
        (at(ms), Event::Sent { message, visit, to })
    }

    fn acked(ms: u64, message: u64) -> (Duration, Event) {
        (at(ms), Event::Acked { message, ack: Ack::Ok })
    }

    fn received(ms: u64, message: u64, visit: u64, from: usize) -> (Duration, Event) {
        (at(ms), Event::Received { message, visit, from })
    }

    /// Node 0 sends two messages to node 1, and node 1 shows for a while that it lives.
    fn good() -> Vec<(Duration, Event)> {
        vec![
            entered(0, 1, 0, 0),
            entered(0, 2, 1, 1),
            sent(10, 1, 1, 1),
            sent(11, 2, 1, 1),
            received(12, 1, 2, 0),
            acked(13, 1),
            received(13, 2, 2, 0),
            acked(14, 2),
            sent(2000, 3, 2, 0),
            received(2001, 3, 1, 1),
            acked(2002, 3),
        ]
    }

    fn broken(change: impl FnOnce(&mut Vec<(Duration, Event)>)) -> String {
        let mut history = good();
        change(&mut history);
        violations(&history, &[]).join("; ")
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        assert_eq!(violations(&good(), &[]), Vec::<String>::new());
    }

    #[test]
    fn each_broken_promise_is_found() {
        let lost = broken(|it| {
            it.remove(6);
        });
        assert!(lost.contains("never reached node 1"), "{lost}");
        let twice = broken(|it| it.push(received(2003, 1, 2, 0)));
        assert!(twice.contains("received twice"), "{twice}");
        let disordered = broken(|it| it.swap(4, 6));
        assert!(disordered.contains("out of order"), "{disordered}");
        let forged = broken(|it| it[4] = received(12, 1, 2, 7));
        assert!(forged.contains("from node 7"), "{forged}");
        let astray = broken(|it| it[4] = received(12, 1, 1, 0));
        assert!(astray.contains("wrong node"), "{astray}");
        let unacked = broken(|it| {
            it.remove(5);
            it.push((at(9000), Event::Left { visit: 1 }));
        });
        assert!(unacked.contains("ack None"), "{unacked}");
        let late = broken(|it| {
            it.remove(5);
            it.push(acked(9000, 1));
        });
        assert!(late.contains("Ok"), "{late}");
        let acked_twice = broken(|it| it.push(acked(2003, 3)));
        assert!(acked_twice.contains("second ack"), "{acked_twice}");
        let invented = broken(|it| it.push(received(2003, 9, 2, 0)));
        assert!(invented.contains("never sent"), "{invented}");
        let refused = broken(|it| {
            it.insert(8, (at(15), Event::Settled));
            it[11].1 = Event::Acked { message: 3, ack: Ack::Error };
        });
        assert!(refused.contains("when all was well"), "{refused}");
    }

    #[test]
    fn two_owners_are_found_unless_a_replica_was_cut_off() {
        let twins = |outages: &[Outage]| {
            let mut history = good();
            history.extend([
                entered(2010, 3, 1, 2),
                sent(2020, 4, 3, 0),
                sent(2030, 5, 2, 0),
                acked(2031, 4),
                acked(2031, 5),
            ]);
            violations(&history, outages).iter().any(|it| it.contains("on replicas 1 and 2"))
        };
        let outage =
            |replica, to| [Outage { replica, from: at(1000), to: at(to), is_stopped: false }];
        assert!(twins(&[]));
        assert!(!twins(&outage(1, 3000)));
        assert!(twins(&outage(0, 3000)), "another replica was cut off");
        assert!(twins(&outage(1, 2015)), "it was back by then");
    }

    #[test]
    fn a_sender_that_leaves_or_whose_replica_is_stopped_needs_no_ack() {
        let without_ack = |more: Option<(Duration, Event)>, outages: &[Outage]| {
            let mut history = good();
            history.remove(5);
            history.extend(more);
            history.push((at(9000), Event::Settled));
            violations(&history, outages).len()
        };
        assert_eq!(without_ack(None, &[]), 1);
        assert_eq!(without_ack(Some((at(2500), Event::Left { visit: 1 })), &[]), 0);
        let outage = |is_stopped| [Outage { replica: 0, from: at(5), to: at(6000), is_stopped }];
        assert_eq!(without_ack(None, &outage(true)), 0);
        assert_eq!(without_ack(None, &outage(false)), 1);
    }
}
