//! Departures that wait for their node to reconnect, so that a short interruption is one event.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::event::Departure;
use crate::node::{ConnectionId, NodeId};

/// The departures, each held for the same time.
pub(super) struct Held {
    time: Duration,
    most: usize,
    /// At most one of each node: the next one comes after its node has connected again.
    departures: HashMap<NodeId, (Departure, u64)>,
    /// When each is released, in their order. Those that were taken meanwhile are passed over.
    ends: VecDeque<(Instant, NodeId, ConnectionId)>,
}

impl Held {
    pub(super) fn new(time: Duration, most: usize) -> Self {
        Self { time, most, departures: HashMap::new(), ends: VecDeque::new() }
    }

    /// Holds a departure of this time; returns one that is not to be held.
    pub(super) fn hold(
        &mut self,
        departure: Departure,
        left_at: u64,
        now: Instant,
    ) -> Result<(), Departure> {
        if self.time.is_zero() || self.ends.len() >= self.most {
            return Err(departure);
        }
        self.ends.push_back((now + self.time, departure.node.clone(), departure.connection));
        self.departures.insert(departure.node.clone(), (departure, left_at));
        Ok(())
    }

    /// Takes the departure of a node that has connected again, and when that was.
    pub(super) fn take(&mut self, node: &NodeId) -> Option<(Departure, u64)> {
        self.departures.remove(node)
    }

    /// Takes the oldest departure if its time is over.
    pub(super) fn pop(&mut self, is_over: impl Fn(Instant) -> bool) -> Option<(Departure, u64)> {
        loop {
            let (_, node, connection) = self.ends.pop_front_if(|(end, ..)| is_over(*end))?;
            let is_held =
                self.departures.get(&node).is_some_and(|(held, _)| held.connection == connection);
            if is_held {
                return self.departures.remove(&node);
            }
        }
    }

    /// When the next departure is released.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|(end, ..)| *end)
    }

    /// Holds no departures from now on.
    pub(super) fn stop(&mut self) {
        self.time = Duration::ZERO;
    }
}
