//! What is counted, in the form that Prometheus reads.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::Refusal;

type Labels = [(&'static str, &'static str); 1];

/// The metrics of all sessions of a process; a cheap handle. The default one is in no registry.
#[derive(Debug, Clone, Default)]
pub struct RedisMetrics {
    connected: Family<Labels, Gauge>,
    commands: Family<Labels, Counter>,
    refusals: Family<[(&'static str, String); 2], Counter>,
    dropped_messages: Counter,
}

impl RedisMetrics {
    /// Adds the metrics to `registry`. `dropped_messages` counts the messages of a cluster's channel
    /// that found their queue full; it stays with the caller, who may have other reasons to count.
    pub fn register(registry: &mut Registry, dropped_messages: Counter) -> Self {
        Self {
            connected: registered(
                registry,
                "redis_connected",
                "Whether Redis is connected, by what it is used for",
            ),
            commands: registered(registry, "redis_commands", "Commands for Redis, by outcome"),
            refusals: registered(
                registry,
                "redis_refusals",
                "Commands that Redis refused to execute, by command and error code",
            ),
            dropped_messages,
        }
    }

    pub(crate) fn connected(&self, usage: &'static str, is_connected: bool) {
        self.connected.get_or_create(&[("use", usage)]).set(is_connected.into());
    }

    pub(crate) fn commands(&self, outcome: &'static str, commands: u64) {
        self.commands.get_or_create(&[("outcome", outcome)]).inc_by(commands);
    }

    pub(crate) fn refusal(&self, Refusal { command, code }: &Refusal) {
        let labels = [("command", command.clone()), ("code", code.clone())];
        self.refusals.get_or_create(&labels).inc();
    }

    pub(crate) fn dropped_message(&self) {
        self.dropped_messages.inc();
    }
}

fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
