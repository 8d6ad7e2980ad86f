//! What a run has seen, in the order in which it was seen.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One connection of a node, from its greeting to its end.
pub type VisitNumber = u64;

/// A message, by the number in its content. Numbers rise in the order in which messages are sent.
pub type MessageNumber = u64;

/// Something that a node has seen.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node was admitted by a replica.
    Entered { visit: VisitNumber, node: usize, replica: usize },
    /// It sent a message.
    Sent { message: MessageNumber, visit: VisitNumber, to: usize },
    /// It got the ack of a message.
    Acked { message: MessageNumber, ack: Ack },
    /// It got a message that says to be from this node.
    Received { message: MessageNumber, visit: VisitNumber, from: usize },
    /// Its connection has ended.
    Left { visit: VisitNumber },
    /// From here on nothing fails any more, and every message has to arrive.
    Settled,
}

/// The answers to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    Ok,
    NotConnected,
    Unauthorized,
    Error,
}

/// Everything that was seen, with the time since the beginning.
pub struct History {
    began: Instant,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    events: Vec<(Duration, Event)>,
    last_visit: VisitNumber,
    last_message: MessageNumber,
}

impl History {
    pub fn begin() -> Self {
        Self { began: Instant::now(), log: Mutex::default() }
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn entered(&self, node: usize, replica: usize) -> VisitNumber {
        let mut log = self.lock();
        log.last_visit += 1;
        let visit = log.last_visit;
        self.push(log, Event::Entered { visit, node, replica });
        visit
    }

    pub fn sent(&self, visit: VisitNumber, to: usize) -> MessageNumber {
        let mut log = self.lock();
        log.last_message += 1;
        let message = log.last_message;
        self.push(log, Event::Sent { message, visit, to });
        message
    }

    pub fn record(&self, event: Event) {
        self.push(self.lock(), event);
    }

    pub fn into_events(self) -> Vec<(Duration, Event)> {
        self.log.into_inner().unwrap_or_else(PoisonError::into_inner).events
    }

    /// The time is read while the log is locked, so that it never runs backwards.
    fn push(&self, mut log: std::sync::MutexGuard<'_, Log>, event: Event) {
        log.events.push((self.now(), event));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
