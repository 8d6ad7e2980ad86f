//! What a peer counts, in the form that Prometheus reads.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::outcome::Outcome;

type Labels = [(&'static str, &'static str); 1];

/// The metrics of one peer; a cheap handle. The default ones are in no registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    messages: Messages,
    neighbours: Gauge,
    channels_ended: Family<Labels, Counter>,
}

/// One counter for each outcome, looked up once.
#[derive(Debug, Clone)]
struct Messages(Arc<[Counter; Outcome::ALL.len()]>);

impl From<&Family<Labels, Counter>> for Messages {
    fn from(family: &Family<Labels, Counter>) -> Self {
        let counter =
            |outcome: Outcome| family.get_or_create_owned(&[("outcome", outcome.label())]);
        Self(Arc::new(Outcome::ALL.map(counter)))
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self::from(&Family::default())
    }
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let messages: Family<Labels, Counter> = registered(
            registry,
            "peer_relay_messages",
            "Messages of the peer-relay network, and copies of them, by outcome",
        );
        Self {
            messages: Messages::from(&messages),
            neighbours: registered(
                registry,
                "peer_relay_neighbours",
                "Peers of the peer-relay network with a channel to this one",
            ),
            channels_ended: registered(
                registry,
                "peer_relay_channels_ended",
                "Channels to peers that ended or could not be opened, by reason",
            ),
        }
    }

    /// Counts a message, or a copy of one.
    pub(crate) fn message(&self, outcome: Outcome) {
        self.messages.0[outcome as usize].inc();
    }

    /// The peers that there is a channel to.
    pub(crate) fn neighbours(&self) -> &Gauge {
        &self.neighbours
    }

    /// Counts a channel that ended or could not be opened.
    pub(crate) fn channel_ended(&self, reason: &'static str) {
        self.channels_ended.get_or_create(&[("reason", reason)]).inc();
    }
}

fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
