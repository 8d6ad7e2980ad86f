//! The metrics of discovery.

use metric_set::{Counter, Description, Gauge, metrics};
use prometheus_client::registry::Registry;

metrics! {
    struct Set {
        /// Discovery requests, by endpoint and outcome.
        discovery_requests: Counter["endpoint", "outcome"],
        /// Stored discovery sessions, as of the last clean-up.
        discovery_sessions: Gauge,
        /// Waiting polls and open event streams of discovery.
        discovery_waiting: Gauge,
        /// Bytes of request bodies for discovery that have not come completely.
        discovery_incomplete_bytes: Gauge,
        /// Bytes of discovery's responses that clients have not read.
        discovery_response_bytes: Gauge,
    }
}

/// The metrics of discovery; a cheap handle. The default ones are in no registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    set: Set,
    #[cfg(feature = "redis")]
    redis: redis_session::RedisMetrics,
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

    /// Replaces the metrics of the session with Redis, for a program that has more than one.
    #[cfg(feature = "redis")]
    pub fn with_redis(self, redis: redis_session::RedisMetrics) -> Self {
        Self { redis, ..self }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis(&self) -> redis_session::RedisMetrics {
        self.redis.clone()
    }

    pub(crate) fn request(&self, endpoint: &'static str, outcome: &'static str) {
        self.set.discovery_requests.inc([endpoint, outcome]);
    }

    pub(crate) fn sessions(&self, sessions: usize) {
        self.set.discovery_sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// The long polls and event streams that are open.
    pub(crate) fn waiting(&self) -> &Gauge {
        &self.set.discovery_waiting
    }

    /// The bytes of incomplete bodies.
    pub(crate) fn incomplete_bytes(&self) -> Gauge {
        self.set.discovery_incomplete_bytes.clone()
    }

    /// The bytes of responses that have not been read.
    pub(crate) fn response_bytes(&self) -> Gauge {
        self.set.discovery_response_bytes.clone()
    }
}
