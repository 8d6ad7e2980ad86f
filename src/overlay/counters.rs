//! What a peer counts; looked up once, at the start.

use crate::metrics::{Count, Metrics};
use crate::overlay::fate::Fate;

/// The counters of one peer.
pub(super) struct Counters {
    metrics: Metrics,
    messages: [Count; Fate::ALL.len()],
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let messages = Fate::ALL.map(|fate| metrics.peer_relay_messages(fate.label()));
        Self { metrics: metrics.clone(), messages }
    }

    /// What became of a message, or of a copy.
    pub(super) fn message(&self, fate: Fate) {
        self.messages[fate as usize].inc();
    }

    pub(super) fn channel_opened(&self) {
        self.metrics.peer_relay_neighbours().inc();
    }

    pub(super) fn channel_gone(&self) {
        self.metrics.peer_relay_neighbours().dec();
    }

    pub(super) fn channel_ended(&self, reason: &'static str) {
        self.metrics.peer_relay_channel_ended(reason);
    }

    pub(super) fn dial_failed(&self) {
        self.metrics.peer_relay_channel_ended("dial_failed");
    }
}
