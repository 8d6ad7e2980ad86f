//! The metrics of the sessions.

use std::time::Duration;

use metric_set::{Counter, Description, Gauge, Histogram, metrics};
use prometheus_client::registry::Registry;

use super::Refusal;

/// The upper ends of the buckets, in seconds.
const SECONDS: [f64; 11] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

metrics! {
    struct Set {
        /// Whether Redis is connected, by use.
        redis_connected: Gauge["use"],
        /// Time from sending a pipeline of commands to its last reply, or to the failure.
        redis_round_trip_seconds: Histogram = Histogram::new(SECONDS),
        /// Redis commands, by outcome.
        redis_commands: Counter["outcome"],
        /// Commands that Redis refused, by command and error code.
        redis_refusals: Counter["command", "code"],
    }
}

/// The metrics of all sessions of a process; a cheap handle. The default one is in no registry.
#[derive(Debug, Clone, Default)]
pub struct RedisMetrics {
    set: Set,
    dropped_messages: Counter,
}

impl RedisMetrics {
    /// The metrics that [`register`](Self::register) adds.
    pub const DESCRIPTIONS: &[Description] = Set::DESCRIPTIONS;

    /// Adds the metrics to `registry`. `dropped_messages` counts the messages of a cluster's channel
    /// that found their queue full; it stays with the caller, who may have other reasons to count.
    pub fn register(registry: &mut Registry, dropped_messages: Counter) -> Self {
        let set = Set::default();
        set.register(registry);
        Self { set, dropped_messages }
    }

    pub(crate) fn connected(&self, usage: &'static str, is_connected: bool) {
        self.set.redis_connected.with([usage]).set(is_connected.into());
    }

    pub(crate) fn commands(&self, outcome: &'static str, commands: u64) {
        self.set.redis_commands.inc_by([outcome], commands);
    }

    pub(crate) fn round_trip(&self, duration: Duration) {
        self.set.redis_round_trip_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn refusal(&self, Refusal { command, code }: &Refusal) {
        self.set.redis_refusals.inc([command.clone(), code.clone()]);
    }

    pub(crate) fn dropped_message(&self) {
        self.dropped_messages.inc();
    }
}
