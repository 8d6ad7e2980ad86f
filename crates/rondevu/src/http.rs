//! The HTTP API: a router for axum over a store.
//!
//! In reading order:
//!
//! - `requests`, `responses`, `error`: the contract with clients, without I/O; `fields` parses JSON.
//! - `ledger`, `byte_budget`, `client_address`, `body`, `extract`: what precedes each handler, as
//!   extractors.
//! - `reply`: responses that can be long.
//! - `routes`, `waiting`, `openapi`: the endpoints.
//! - `cors`, `outcome`: what wraps them.

mod base_path;
mod body;
mod byte_budget;
mod client_address;
mod cors;
mod error;
mod extract;
mod fields;
mod ledger;
mod openapi;
mod outcome;
mod reply;
mod requests;
mod responses;
mod routes;
mod waiting;

pub use base_path::{BasePath, InvalidBasePath};
pub use cors::{AllowedOrigins, InvalidOrigins};

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::store::{OpenError, Storage, Store, StoreLimits};
use byte_budget::ByteBudget;
use client_address::{AddressLimits, Budgets, ClientAddresses};
use ledger::{Ledger, Share};
use outcome::{Endpoint, count};
use waiting::Slots;

/// The time between two clean-ups of the store.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that an operator decides about discovery.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which backend stores the sessions.
    pub storage: Storage,
    /// What it may hold.
    pub limits: StoreLimits,
    /// How long a session lives.
    pub session_timeout: Duration,
    /// Which web pages may read the responses.
    pub allowed_origins: AllowedOrigins,
    /// The path that all endpoints are below.
    pub base_path: BasePath,
    /// The most requests in a second from one address; `None` for no limit.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// The most long polls and event streams at a time.
    pub max_waiting: usize,
    /// The most bytes of request bodies that have not come completely.
    pub max_incomplete_bytes: usize,
    /// The most bytes of responses that clients have not read.
    pub max_response_bytes: usize,
    /// How long a client may take to read a list; a long one may take longer, at 64 KiB a second.
    pub response_timeout: Duration,
    /// The percentage of each of these limits, and of those on what is stored, that one address may
    /// take; at least one of each.
    pub max_percent_per_address: u32,
}

impl Default for Settings {
    /// In memory, at the root, for all origins; sessions live for five minutes.
    fn default() -> Self {
        Self {
            storage: Storage::Memory,
            limits: StoreLimits::default(),
            session_timeout: Duration::from_secs(300),
            allowed_origins: AllowedOrigins::All,
            base_path: BasePath::default(),
            max_requests_per_second: NonZeroU32::new(10_000),
            max_waiting: 10_000,
            max_incomplete_bytes: 64 << 20,
            max_response_bytes: 64 << 20,
            response_timeout: Duration::from_secs(10),
            max_percent_per_address: 25,
        }
    }
}

impl Settings {
    fn client_addresses(&self, metrics: &Metrics) -> ClientAddresses {
        let percent = self.max_percent_per_address as usize;
        let share = |total: usize| match percent {
            // Only the total counts.
            100.. => usize::MAX,
            _ => (total / 100 * percent + total % 100 * percent / 100).max(1),
        };
        let limits = AddressLimits {
            requests_per_second: self.max_requests_per_second,
            stored: Share {
                sessions: share(self.limits.max_sessions),
                bytes: share(self.limits.max_bytes),
            },
            waiting: share(self.max_waiting),
            incomplete_bytes: share(self.max_incomplete_bytes),
            response_bytes: share(self.max_response_bytes),
        };
        let budgets = Budgets {
            incomplete: ByteBudget::new(self.max_incomplete_bytes, metrics.incomplete_bytes()),
            responses: ByteBudget::new(self.max_response_bytes, metrics.response_bytes()),
        };
        ClientAddresses::new(limits, Ledger::new(self.session_timeout), budgets)
    }
}

/// What a request needs memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Something new: an offer, a list, an event stream.
    New,
    /// A session that exists: an answer, a candidate, a poll.
    Ongoing,
}

/// Whether the process has memory for a request.
type Admits = Arc<dyn Fn(Demand) -> bool + Send + Sync>;

/// Discovery on one server; a cheap handle.
#[derive(Clone)]
pub struct Discovery {
    context: Context,
    admits: Admits,
    allowed_origins: AllowedOrigins,
    _clean_up: Arc<AbortOnDropHandle<()>>,
}

/// What handlers and extractors share.
type Context = Arc<Shared>;

struct Shared {
    store: Store,
    session_timeout: Duration,
    base_path: BasePath,
    addresses: ClientAddresses,
    response_timeout: Duration,
    slots: Slots,
    metrics: Metrics,
    /// Ends long polls and event streams.
    stop: CancellationToken,
}

impl Discovery {
    /// Opens the store, and starts to clean it up every second. When `stop` is cancelled, long
    /// polls are answered and event streams end.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        settings: &Settings,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let session_timeout = settings.session_timeout;
        let store = Store::open(&settings.storage, settings.limits, session_timeout, &metrics);
        let store = store.await?;
        let clean_up = tokio::spawn(clean_up(store.clone(), metrics.clone(), stop.clone()));
        let shared = Shared {
            store,
            session_timeout,
            base_path: settings.base_path.clone(),
            addresses: settings.client_addresses(&metrics),
            response_timeout: settings.response_timeout,
            slots: Slots::new(settings.max_waiting, metrics.waiting().clone()),
            metrics,
            stop,
        };
        Ok(Self {
            context: Arc::new(shared),
            admits: Arc::new(|_| true),
            allowed_origins: settings.allowed_origins.clone(),
            _clean_up: Arc::new(AbortOnDropHandle::new(clean_up)),
        })
    }

    /// Asks `admits` before each request, except those for health, whether the process has memory for
    /// it; requests for which there is none are answered 503.
    #[must_use]
    pub fn within(self, admits: impl Fn(Demand) -> bool + Send + Sync + 'static) -> Self {
        Self { admits: Arc::new(admits), ..self }
    }

    /// Returns the endpoints, with those of health at the base path and at the root.
    ///
    /// Serve them with
    /// [`into_make_service_with_connect_info::<SocketAddr>()`](Router::into_make_service_with_connect_info):
    /// requests without a known address share one limit.
    pub fn router(&self) -> Router {
        let base = self.context.base_path.as_str();
        let at = |path: &str| format!("{base}{path}");
        let counted = |name| {
            let (metrics, admits) = (self.context.metrics.clone(), self.admits.clone());
            from_fn_with_state(Endpoint { name, metrics, admits }, count)
        };
        let route = |endpoint, route: MethodRouter<Context>| route.route_layer(counted(endpoint));
        let mut endpoints = Router::new()
            .route(&at("/"), route("topics", get(routes::topics)))
            .route(&at("/topics"), route("topics", get(routes::named_topics)))
            .route(&at("/{topic}/sessions"), route("sessions", get(routes::sessions)))
            .route(&at("/{topic}/events"), route("events", get(routes::events)))
            .route(&at("/{topic}/offer"), route("offer", post(routes::offer)))
            .route(&at("/answer"), route("answer", post(routes::answer)))
            .route(&at("/poll"), route("poll", post(routes::poll)))
            .route(openapi::PATH, route("openapi", openapi::route(base)));
        let mut health = Router::new().route("/health", get(routes::health));
        if !base.is_empty() {
            endpoints = endpoints.route(base, route("topics", get(routes::topics)));
            health = health.route(&at("/health"), get(routes::health));
        }
        let not_allowed = routes::method_not_allowed.layer(counted("other"));
        let endpoints = endpoints.method_not_allowed_fallback(not_allowed);
        let router = endpoints.with_state(self.context.clone()).merge(health);
        cors::layer(router, self.allowed_origins.clone())
    }

    /// Whether sessions can be read and changed, as far as that depends on this process's own
    /// connection to the store.
    pub fn is_available(&self) -> bool {
        self.context.store.is_connected()
    }

    /// Returns a command of the store that its Redis refuses at present.
    #[cfg(feature = "redis")]
    pub fn refusal(&self) -> Option<redis_session::Refusal> {
        self.context.store.refusal()
    }

    /// Closes the store after all accepted changes are stored.
    pub async fn close(&self) {
        self.context.store.close().await;
    }
}

/// Removes expired sessions until `stop` is cancelled.
async fn clean_up(store: Store, metrics: Metrics, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(CLEAN_UP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match store.clean_up(store.clock().now()).await {
            Ok(sessions) => metrics.sessions(sessions),
            Err(error) => tracing::warn!(%error, "sessions could not be cleaned up"),
        }
    }
}
