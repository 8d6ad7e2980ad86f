//! The metrics of the sessions.

use metric_set::{Counter, Description, Gauge, metrics};
use prometheus_client::registry::Registry;

use super::Refusal;

metrics! {
    struct Set {
        /// Whether Redis is connected, by use.
        redis_connected: Gauge["use"],
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

    pub(crate) fn refusal(&self, Refusal { command, code }: &Refusal) {
        self.set.redis_refusals.inc([command.clone(), code.clone()]);
    }

    pub(crate) fn dropped_message(&self) {
        self.dropped_messages.inc();
    }
}
