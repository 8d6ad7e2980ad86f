//! What the broker counts, in the form that Prometheus reads.
//!
//! Every loss has a name here: what is refused, dropped or cut off is counted under its reason.
//! Counters of the hot path are looked up once, at the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use redis_session::RedisMetrics;

use crate::protocol::{Ack, Event};
use crate::telemetry;
use link::CloseReason;

type Labels = [(&'static str, &'static str); 1];
pub(crate) type Count = Counter<u64, AtomicU64>;

/// All metrics of one server; a cheap handle.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    relayed: [[Count; Ack::ALL.len()]; Event::ALL.len()],
    presence_questions: Count,
    nodes: Gauge,
    tasks: Gauge,
    log_lines_dropped: Family<Labels, Count>,
    memory_used: Gauge,
    memory_limit: Family<Labels, Count>,
    admissions: Count,
    refusals: Family<Labels, Count>,
    rejections: Family<Labels, Count>,
    webhook_calls: Family<[(&'static str, &'static str); 2], Count>,
    closes: [Count; CloseReason::ALL.len()],
    redis: RedisMetrics,
    leases: Family<Labels, Count>,
    replica_messages: Family<Labels, Count>,
    discovery: rondevu::Metrics,
    #[cfg(feature = "overlay")]
    peer_relay: peer_relay::Metrics,
    bridge_messages: Family<Labels, Count>,
}

impl Metrics {
    /// Metrics that all stand at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("crolang");
        let relayed: Family<[(&'static str, &'static str); 2], Count> = Family::default();
        registry.register("messages", "Messages between nodes, by event and ack", relayed.clone());
        let closes: Family<Labels, Count> = Family::default();
        registry.register(
            "connections_closed",
            "Connections of nodes that ended, by reason",
            closes.clone(),
        );
        let replica_messages: Family<Labels, Count> = Family::default();
        let dropped = replica_messages.get_or_create_owned(&[("outcome", "dropped_queue_full")]);
        let redis = RedisMetrics::register(&mut registry, dropped);
        let discovery = rondevu::Metrics::register(&mut registry).with_redis(redis.clone());
        let inner = Inner {
            relayed: Event::ALL.map(|event| {
                Ack::ALL.map(|ack| {
                    relayed.get_or_create_owned(&[("event", event.name()), ("ack", ack.as_str())])
                })
            }),
            presence_questions: Count::default(),
            nodes: Gauge::default(),
            tasks: Gauge::default(),
            log_lines_dropped: Family::default(),
            memory_used: Gauge::default(),
            memory_limit: Family::default(),
            admissions: Count::default(),
            refusals: Family::default(),
            rejections: Family::default(),
            webhook_calls: Family::default(),
            discovery,
            closes: CloseReason::ALL
                .map(|reason| closes.get_or_create_owned(&[("reason", reason.label())])),
            redis,
            leases: Family::default(),
            replica_messages,
            #[cfg(feature = "overlay")]
            peer_relay: peer_relay::Metrics::register(&mut registry),
            bridge_messages: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "bridge_messages",
            "Messages of peers for nodes, by outcome",
            inner.bridge_messages.clone(),
        );
        registry.register(
            "presence_questions",
            "Questions which nodes are connected",
            inner.presence_questions.clone(),
        );
        registry.register("nodes", "Nodes that hold their ID on this replica", inner.nodes.clone());
        registry.register("tasks", "Tasks of the process that have not ended", inner.tasks.clone());
        registry.register(
            "log_lines_dropped",
            "Lines of the process's log that were dropped, by cause",
            inner.log_lines_dropped.clone(),
        );
        registry.register(
            "memory_used_bytes",
            "Memory that the process has",
            inner.memory_used.clone(),
        );
        registry.register(
            "memory_limit",
            "What was done to stay below the limit of memory, by action",
            inner.memory_limit.clone(),
        );
        registry.register("admissions", "Nodes that got their ID", inner.admissions.clone());
        registry.register(
            "refusals",
            "Nodes that were refused for good, by cause",
            inner.refusals.clone(),
        );
        registry.register(
            "rejections",
            "Connections turned away for now, by cause",
            inner.rejections.clone(),
        );
        registry.register(
            "webhook_calls",
            "Calls of webhooks, by hook and outcome",
            inner.webhook_calls.clone(),
        );
        registry.register(
            "lease_events",
            "What happened to leases in Redis apart from being acquired and released",
            inner.leases.clone(),
        );
        registry.register(
            "replica_messages",
            "Messages to and from other replicas, by what became of them",
            inner.replica_messages.clone(),
        );
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// A message was answered.
    pub(crate) fn message(&self, event: Event, ack: Ack) {
        self.0.relayed[event.index()][ack.index()].inc();
    }

    /// A presence question was asked.
    pub(crate) fn presence_question(&self) {
        self.0.presence_questions.inc();
    }

    /// A node got its ID.
    pub(crate) fn admission(&self) {
        self.0.admissions.inc();
        self.0.nodes.inc();
    }

    /// An admitted node's connection ended.
    pub(crate) fn departure(&self, reason: CloseReason) {
        self.0.nodes.dec();
        self.0.closes[reason as usize].inc();
    }

    /// So many tasks of the process have not ended.
    pub(crate) fn tasks(&self, tasks: usize) {
        self.0.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// The process has so much memory, in bytes.
    pub(crate) fn memory_used(&self, bytes: u64) {
        self.0.memory_used.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How often this was done to stay below the limit of memory.
    pub(crate) fn memory_limit(&self, action: &'static str) -> Count {
        self.0.memory_limit.get_or_create_owned(&[("action", action)])
    }

    /// A node was refused for good.
    pub(crate) fn refusal(&self, cause: &'static str) {
        self.0.refusals.get_or_create(&[("cause", cause)]).inc();
    }

    /// A connection was turned away; it may retry.
    pub(crate) fn rejection(&self, cause: &'static str) {
        self.0.rejections.get_or_create(&[("cause", cause)]).inc();
    }

    /// A node was refused because its authentication failed a moment ago.
    pub(crate) fn authentication_cache_hit(&self) {
        self.webhook_call("authentication", "cached");
    }

    /// A webhook was called, or could not be.
    pub(crate) fn webhook_call(&self, hook: &'static str, outcome: &'static str) {
        self.0.webhook_calls.get_or_create(&[("hook", hook), ("outcome", outcome)]).inc();
    }

    /// The metrics of all sessions with Redis.
    pub(crate) fn redis(&self) -> RedisMetrics {
        self.0.redis.clone()
    }

    /// Something happened to a lease.
    pub(crate) fn lease_event(&self, event: &'static str) {
        self.0.leases.get_or_create(&[("event", event)]).inc();
    }

    /// So many messages to or from another replica have come to this end.
    pub(crate) fn replica_messages(&self, outcome: &'static str, messages: u64) {
        self.0.replica_messages.get_or_create(&[("outcome", outcome)]).inc_by(messages);
    }

    /// The metrics of discovery.
    pub(crate) fn discovery(&self) -> rondevu::Metrics {
        self.0.discovery.clone()
    }

    /// The metrics of the broker's own peer.
    #[cfg(feature = "overlay")]
    pub(crate) fn peer_relay(&self) -> peer_relay::Metrics {
        self.0.peer_relay.clone()
    }

    /// So many messages of peers for nodes have come to this end.
    pub(crate) fn bridge_messages(&self, outcome: &'static str, messages: u64) {
        self.0.bridge_messages.get_or_create(&[("outcome", outcome)]).inc_by(messages);
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub(crate) fn encode(&self) -> String {
        for (cause, lines) in telemetry::dropped_lines() {
            let dropped = self.0.log_lines_dropped.get_or_create_owned(&[("cause", cause)]);
            dropped.inner().fetch_max(lines, Ordering::Relaxed);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name() {
        let metrics = Metrics::new();
        metrics.message(Event::SocketMessage, Ack::NotConnected);
        metrics.admission();
        metrics.departure(CloseReason::WriteTimeout);
        let text = metrics.encode();
        for line in [
            "crolang_messages_total{event=\"SOCKET_MSG_EXCHANGE\",ack=\"NOT_CONNECTED\"} 1\n",
            "crolang_nodes 0\n",
            "crolang_connections_closed_total{reason=\"write_timeout\"} 1\n",
            "crolang_connections_closed_total{reason=\"peer_closed\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
