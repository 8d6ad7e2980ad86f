//! The metrics of the broker.
//!
//! Every loss has a name here: what is refused, dropped or disconnected is counted under its
//! reason. To add a metric, add a field to [`Set`] and count it where it happens;
//! `WRITE_REFERENCE=1 cargo test --test integration reference` puts it into the documentation.

mod process;

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use metric_set::{Counter, Description, Gauge, Histogram, metrics};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use process::Process;
use redis_session::RedisMetrics;

use crate::protocol::{Ack, Event};
use crate::telemetry;
use link::{CloseReason, RateLimit};

/// What every metric's name begins with.
const PREFIX: &str = "crolang";

/// The upper ends of the buckets of every histogram of times, in seconds.
const SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

metrics! {
    /// The metrics that the broker itself counts.
    pub(crate) struct Set {
        /// Nodes on this replica that hold their ID.
        pub(crate) nodes: Gauge,
        /// Nodes that got their ID.
        admissions: Counter,
        /// Time that admitting a node takes, webhook and lease included, by outcome.
        pub(crate) admission_seconds: Histogram["outcome"] = Histogram::new(SECONDS),
        /// Open connections, by whether they are of nodes.
        pub(crate) connections: Gauge["kind"],
        /// Nodes that were refused, by cause.
        pub(crate) refusals: Counter["cause"],
        /// Checks of nodes' tokens, by outcome.
        pub(crate) logins: Counter["outcome"],
        /// Requests for the keys of tokens, by outcome.
        pub(crate) jwks_requests: Counter["outcome"],
        /// Connections rejected with a temporary error, by cause.
        pub(crate) rejections: Counter["cause"],
        /// TLS handshakes, by outcome.
        pub(crate) tls_handshakes: Counter["outcome"],
        /// Loads of changed TLS files, by outcome.
        pub(crate) tls_reloads: Counter["outcome"],
        /// Connections of nodes that ended, by reason.
        connections_closed: Counter["reason"],

        /// Messages between nodes, by event and ack.
        messages: Counter["event", "ack"],
        /// Time from a message to its ack, of those that wait for a webhook or another replica. All
        /// others are acked before the next one is read.
        pub(crate) message_wait_seconds: Histogram = Histogram::new(SECONDS),
        /// Messages from peers to nodes, by outcome.
        pub(crate) bridge_messages: Counter["outcome"],
        /// Messages of operators to nodes, by ack.
        pub(crate) api_messages: Counter["ack"],
        /// Presence queries.
        pub(crate) presence_questions: Counter,

        /// Events of nodes, by type.
        pub(crate) node_events: Counter["type"],
        /// Events of nodes that the webhook has not taken yet.
        pub(crate) node_events_queued: Gauge,
        /// Events of nodes that a reader did not get, by cause.
        pub(crate) node_events_dropped: Counter["cause"],

        /// Calls of webhooks, by hook and outcome.
        pub(crate) webhook_calls: Counter["hook", "outcome"],

        /// Time from a webhook request to its response or failure, by hook.
        pub(crate) webhook_call_seconds: Histogram["hook"] = Histogram::new(SECONDS),
        /// Calls that wait until fewer are in flight, by hook.
        pub(crate) webhook_calls_waiting: Gauge["hook"],
        /// Whether a webhook is left alone after many failures, by hook.
        pub(crate) webhook_circuit_open: Gauge["hook"],

        /// Bans of nodes and addresses that hold.
        pub(crate) bans: Gauge,
        /// Open streams of events of the server API.
        pub(crate) api_streams: Gauge,
        /// Requests to the server API, by outcome: `ok` or the code of the problem.
        pub(crate) api_requests: Counter["outcome"],

        /// The program, always 1, by version.
        build_info: Gauge["version"],
        /// Running tasks of the process.
        tasks: Gauge,
        /// Resident memory of the process.
        pub(crate) memory_used_bytes: Gauge,
        /// Actions taken to stay within the memory budget, by action.
        pub(crate) memory_limit: Counter["action"],
        /// Pauses in reading a connection that exceeded a rate limit, by limit.
        rate_limit_pauses: Counter["limit"],
        /// Dropped log lines, by cause.
        log_lines_dropped: Counter["cause"],

        /// Events of leases in Redis other than acquisition and release, by event.
        pub(crate) lease_events: Counter["event"],
        /// Messages to and from other replicas, by outcome.
        pub(crate) replica_messages: Counter["outcome"],
    }
}

/// Returns every metric's description, and the prefix of their names. Those that begin with
/// `process_` are every program's, and have no prefix.
pub fn described_metrics() -> (&'static str, Vec<Description>) {
    let sets = [
        Set::DESCRIPTIONS,
        RedisMetrics::DESCRIPTIONS,
        rondevu::Metrics::DESCRIPTIONS,
        #[cfg(feature = "overlay")]
        peer_relay::Metrics::DESCRIPTIONS,
        Process::DESCRIPTIONS,
    ];
    (PREFIX, sets.concat())
}

/// All metrics of one server; a cheap handle.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    /// What every program has, without a prefix.
    common: Registry,
    set: Set,
    process: Process,
    /// Sets what changes too often, or costs too much, to be kept up to date.
    refreshers: Mutex<Vec<Refresher>>,
    /// The counters of the hot path, looked up once.
    messages: [[Counter; Ack::ALL.len()]; Event::ALL.len()],
    closes: [Counter; CloseReason::ALL.len()],
    pauses: [Counter; 2],
    redis: RedisMetrics,
    discovery: rondevu::Metrics,
    #[cfg(feature = "overlay")]
    peer_relay: peer_relay::Metrics,
}

type Refresher = Box<dyn Fn() + Send>;

impl Metrics {
    /// Metrics that are all zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let set = Set::default();
        set.register(&mut registry);
        set.build_info.with([env!("CARGO_PKG_VERSION")]).set(1);
        let (process, mut common) = (Process::default(), Registry::default());
        process.register(&mut common);
        let dropped = set.replica_messages.with(["dropped_queue_full"]);
        let redis = RedisMetrics::register(&mut registry, dropped);
        Self(Arc::new(Inner {
            messages: Event::ALL
                .map(|event| Ack::ALL.map(|ack| set.messages.with([event.name(), ack.as_str()]))),
            closes: CloseReason::ALL.map(|reason| set.connections_closed.with([reason.label()])),
            pauses: ["messages", "bytes"].map(|limit| set.rate_limit_pauses.with([limit])),
            discovery: rondevu::Metrics::register(&mut registry).with_redis(redis.clone()),
            redis,
            #[cfg(feature = "overlay")]
            peer_relay: peer_relay::Metrics::register(&mut registry),
            set,
            process,
            refreshers: Mutex::default(),
            registry,
            common,
        }))
    }

    /// Calls `refresh` before each encoding. It must not hold these metrics, only single ones.
    pub(crate) fn before_encoding(&self, refresh: impl Fn() + Send + 'static) {
        let mut refreshers = self.0.refreshers.lock().unwrap_or_else(PoisonError::into_inner);
        refreshers.push(Box::new(refresh));
    }

    /// Counts a message and its ack.
    pub(crate) fn message(&self, event: Event, ack: Ack) {
        self.0.messages[event.index()][ack.index()].inc();
    }

    /// Counts a node that got its ID.
    pub(crate) fn admission(&self) {
        self.admissions.inc();
        self.nodes.inc();
    }

    /// Counts the end of an admitted node's connection.
    pub(crate) fn departure(&self, reason: CloseReason) {
        self.nodes.dec();
        self.0.closes[reason as usize].inc();
    }

    /// The reading of a connection was paused because of this limit.
    pub(crate) fn rate_limit_pause(&self, limit: RateLimit) {
        self.0.pauses[limit as usize].inc();
    }

    /// The metrics of all sessions with Redis.
    pub(crate) fn redis(&self) -> RedisMetrics {
        self.0.redis.clone()
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

    /// Returns the text that Prometheus scrapes (OpenMetrics 1.0), sorted by name. May take some
    /// milliseconds: the process's open files are counted.
    pub(crate) fn encode(&self) -> String {
        if let Ok(runtime) = Handle::try_current() {
            let tasks = runtime.metrics().num_alive_tasks();
            self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        }
        self.0.process.refresh();
        for refresh in &*self.0.refreshers.lock().unwrap_or_else(PoisonError::into_inner) {
            refresh();
        }
        for (cause, lines) in telemetry::dropped_lines() {
            let dropped = self.log_lines_dropped.with([cause]);
            dropped.inner().fetch_max(lines, Ordering::Relaxed);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &self.0.registry);
        let _ = encode_registry(&mut text, &self.0.common);
        // Only help texts start lines so: line breaks in labels are escaped.
        const START: &str = "# HELP ";
        let families = text.strip_prefix(START).unwrap_or_default().trim_end();
        let mut families: Vec<&str> = families.split("\n# HELP ").collect();
        families.sort_unstable();
        let mut sorted: String = families.iter().flat_map(|family| [START, family, "\n"]).collect();
        let _ = encode_eof(&mut sorted);
        sorted
    }
}

impl Deref for Metrics {
    type Target = Set;

    fn deref(&self) -> &Set {
        &self.0.set
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

    #[test]
    fn is_encoded_in_the_order_of_the_names() {
        let metrics = Metrics::new();
        metrics.refusals.inc(["one\n# HELP two"]);
        let text = metrics.encode();
        let names: Vec<_> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
        assert!(names.len() > 5 && names.is_sorted(), "{names:#?}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
