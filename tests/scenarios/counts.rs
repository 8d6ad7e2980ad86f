//! What a run amounts to, in numbers.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::ops::AddAssign;
use std::time::Duration;

use crate::history::{Ack, Event};

/// The counts of one run, or of several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub visits: u64,
    pub sent: u64,
    pub acked_ok: u64,
    pub acked_otherwise: u64,
    pub delivered: u64,
}

impl Counts {
    pub fn of(history: &[(Duration, Event)]) -> Self {
        let mut counts = Self::default();
        let mut received = HashSet::new();
        for (_, event) in history {
            match event {
                Event::Entered { .. } => counts.visits += 1,
                Event::Sent { .. } => counts.sent += 1,
                Event::Acked { ack: Ack::Ok, .. } => counts.acked_ok += 1,
                Event::Acked { .. } => counts.acked_otherwise += 1,
                Event::Received { message, .. } => drop(received.insert(*message)),
                Event::Left { .. } | Event::Settled => {}
            }
        }
        counts.delivered = received.len() as u64;
        counts
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.visits += other.visits;
        self.sent += other.sent;
        self.acked_ok += other.acked_ok;
        self.acked_otherwise += other.acked_otherwise;
        self.delivered += other.delivered;
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { visits, sent, acked_ok, acked_otherwise, delivered } = self;
        write!(
            f,
            "{visits} visits, {sent} messages sent, {acked_ok} acked OK, {acked_otherwise} acked otherwise, \
             {delivered} delivered"
        )
    }
}
