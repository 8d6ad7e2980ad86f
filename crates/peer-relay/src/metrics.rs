//! The metrics of a peer.

use std::sync::Arc;

use metric_set::{Counter, Description, Gauge, metrics};
use prometheus_client::registry::Registry;

use super::outcome::Outcome;

metrics! {
    struct Set {
        /// Messages of the peer-relay network, and copies of them, by outcome.
        peer_relay_messages: Counter["outcome"],
        /// Peers of the peer-relay network with a channel to this one.
        peer_relay_neighbours: Gauge,
        /// Channels to peers that ended or could not be opened, by reason.
        peer_relay_channels_ended: Counter["reason"],
    }
}

/// The metrics of one peer; a cheap handle. The default ones are in no registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    set: Set,
    /// One counter for each outcome, looked up once.
    messages: Arc<[Counter; Outcome::ALL.len()]>,
}

impl Default for Metrics {
    fn default() -> Self {
        let set = Set::default();
        let messages = Outcome::ALL.map(|outcome| set.peer_relay_messages.with([outcome.label()]));
        Self { set, messages: Arc::new(messages) }
    }
}

impl Metrics {
    /// The metrics that [`register`](Self::register) adds.
    pub const DESCRIPTIONS: &[Description] = Set::DESCRIPTIONS;

    /// Adds the metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.set.register(registry);
        metrics
    }

    /// Counts a message, or a copy of one.
    pub(crate) fn message(&self, outcome: Outcome) {
        self.messages[outcome as usize].inc();
    }

    /// The peers that there is a channel to.
    pub(crate) fn neighbours(&self) -> &Gauge {
        &self.set.peer_relay_neighbours
    }

    /// Counts a channel that ended or could not be opened.
    pub(crate) fn channel_ended(&self, reason: &'static str) {
        self.set.peer_relay_channels_ended.inc([reason]);
    }
}
