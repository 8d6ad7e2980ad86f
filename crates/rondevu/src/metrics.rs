//! What is counted, in the form that Prometheus reads.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// The metrics of discovery; a cheap handle. The default ones are in no registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    sessions: Gauge,
    waiting: Gauge,
    #[cfg(feature = "redis")]
    redis: redis_session::RedisMetrics,
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            requests: registered(
                registry,
                "discovery_requests",
                "Requests for discovery, by endpoint and outcome",
            ),
            sessions: registered(
                registry,
                "discovery_sessions",
                "Sessions that are stored for discovery, at the last clean-up",
            ),
            waiting: registered(
                registry,
                "discovery_waiting",
                "Long polls and event streams of discovery",
            ),
            #[cfg(feature = "redis")]
            redis: redis_session::RedisMetrics::default(),
        }
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
        self.requests.get_or_create(&[("endpoint", endpoint), ("outcome", outcome)]).inc();
    }

    pub(crate) fn sessions(&self, sessions: usize) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// The long polls and event streams that are open.
    pub(crate) fn waiting(&self) -> &Gauge {
        &self.waiting
    }
}

fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
