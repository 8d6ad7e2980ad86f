//! The newest events, numbered from 1.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LifecycleSettings;
use super::event::{Change, NodeEvent};
use super::held::Held;
use crate::metrics::Metrics;
use crate::node::NodeId;

/// The events, and what decides which things become events.
pub(super) struct Log {
    settings: LifecycleSettings,
    events: VecDeque<Arc<NodeEvent>>,
    newest: u64,
    pub(super) held: Held,
    refusals: Refusals,
    metrics: Metrics,
}

/// How many refusals became events lately. Anybody can be refused at any rate, and their events must
/// not displace all others.
struct Refusals {
    second: Instant,
    in_second: usize,
    omitted: u64,
}

impl Log {
    pub(super) fn new(settings: LifecycleSettings, metrics: Metrics) -> Self {
        Self {
            settings,
            events: VecDeque::new(),
            newest: 0,
            held: Held::new(settings.debounce, settings.max_queued),
            refusals: Refusals { second: Instant::now(), in_second: 0, omitted: 0 },
            metrics,
        }
    }

    /// The number of the newest event; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Appends an event, which displaces the oldest one if there are too many.
    pub(super) fn append(&mut self, time: u64, change: Change) {
        self.newest += 1;
        self.metrics.node_events.inc([change.label()]);
        if self.events.len() >= self.settings.max_queued {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(NodeEvent { sequence: self.newest, time, change }));
    }

    /// Appends the event of a refusal, unless there were too many in this second.
    pub(super) fn refuse(
        &mut self,
        node: Option<&NodeId>,
        address: IpAddr,
        cause: &'static str,
        time: u64,
        now: Instant,
    ) {
        let refusals = &mut self.refusals;
        if now.duration_since(refusals.second) >= Duration::from_secs(1) {
            (refusals.second, refusals.in_second) = (now, 0);
        }
        if refusals.in_second >= self.settings.max_refusals_per_second {
            refusals.omitted += 1;
            self.metrics.node_events_dropped.inc(["refusal_limit"]);
            return;
        }
        refusals.in_second += 1;
        let omitted = std::mem::take(&mut refusals.omitted);
        self.append(time, Change::Refused { node_id: node.cloned(), address, cause, omitted });
    }

    /// Appends the events of departures that are held no longer.
    pub(super) fn release(&mut self, is_over: impl Fn(Instant) -> bool) {
        while let Some((departure, time)) = self.held.pop(&is_over) {
            self.append(time, Change::Disconnected(departure));
        }
    }

    /// Returns up to `most` events that follow the one with this number, as far as they are stored.
    pub(super) fn after(&self, sequence: u64, most: usize) -> Vec<Arc<NodeEvent>> {
        let oldest = self.newest - self.events.len() as u64;
        let skipped = usize::try_from(sequence.saturating_sub(oldest)).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped).take(most).cloned().collect()
    }
}
