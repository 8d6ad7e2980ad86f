//! Discovery: peers that do not know each other meet by topic, over plain HTTP, as programs
//! written for Rondevu do.
//!
//! A peer leaves an offer under a topic; another finds it in the topic's list, leaves an answer,
//! and both exchange candidates until they are connected directly. What they leave is stored for
//! some minutes and then gone.
//!
//! In the order of a first reading:
//!
//! - `session`, `text`: the words, parsed once.
//! - `requests`, `replies`, `fault`: the contract with clients, pure.
//! - [`store`]: where sessions are kept, in one of several backends; `news`: who is told of them.
//! - `address`, `body`, `cors`: what stands before every request.
//! - `routes`, `waiting`, `openapi`: the endpoints.

mod address;
mod body;
mod cors;
mod fault;
mod mount;
mod news;
mod openapi;
mod replies;
mod requests;
mod routes;
mod session;
pub mod store;
mod text;
mod waiting;

pub use cors::AllowedOrigins;
pub use mount::Mount;
pub use requests::Page;
pub use session::{Code, NewSession, Origin, Session, Side, Timestamp, Topic};
pub use text::JsonText;

use std::num::NonZeroU32;
use std::time::Duration;

use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use address::Addresses;
use store::{OpenError, Storage, Store, StoreLimits};
use waiting::Places;

/// The time between two clean-ups.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that an operator decides about discovery.
#[derive(Debug, Clone)]
pub struct DiscoverySettings {
    /// What keeps the sessions.
    pub storage: Storage,
    /// How much it may hold.
    pub limits: StoreLimits,
    /// How long a session lives.
    pub session_timeout: Duration,
    /// Which web pages may read the answers.
    pub allowed_origins: AllowedOrigins,
    /// Where the endpoints are.
    pub mount: Mount,
    /// The most requests in a second from one address; none for no limit.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// The most long polls and streams at a time.
    pub max_waiting: usize,
}

/// The discovery module of one server; a cheap handle.
#[derive(Clone)]
pub struct Discovery {
    store: Store,
    session_timeout: Duration,
    allowed_origins: AllowedOrigins,
    mount: Mount,
    addresses: Addresses,
    places: Places,
    metrics: Metrics,
    /// Ends everything that waits.
    stop: CancellationToken,
}

impl Discovery {
    /// Opens the store. What waits for news is answered as soon as `stop` is cancelled.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        settings: &DiscoverySettings,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let timeout = settings.session_timeout;
        let store = Store::open(&settings.storage, settings.limits, timeout, &metrics).await?;
        Ok(Self {
            store,
            session_timeout: timeout,
            allowed_origins: settings.allowed_origins.clone(),
            mount: settings.mount.clone(),
            addresses: Addresses::new(settings.max_requests_per_second),
            places: Places::new(settings.max_waiting, metrics.clone()),
            metrics,
            stop,
        })
    }

    /// The endpoints, and the route that `health` makes below a path: Rondevu's clients ask for
    /// the server's health where its endpoints are, and from web pages.
    pub fn routes(&self, health: impl Fn(&str) -> Router) -> Router {
        let prefix = self.mount.prefix();
        let mut routes = routes::routes(self).merge(health(prefix));
        if !prefix.is_empty() {
            routes = routes.merge(health(""));
        }
        let allowed = self.allowed_origins.clone();
        routes.layer(middleware::from_fn_with_state(allowed, cors::cors))
    }

    /// Whether sessions can be asked for and changed here now, as far as that depends on this
    /// process's own connection.
    ///
    /// # Errors
    /// The cause, as it is answered.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.store.is_connected() { Ok(()) } else { Err("discovery_redis_away") }
    }

    /// Frees the room of sessions that are gone, for as long as it is polled.
    pub async fn clean_up(&self) {
        let mut ticks = tokio::time::interval(CLEAN_UP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.store.clean_up(Timestamp::now()).await {
                Ok(sessions) => self.metrics.discovery_sessions(sessions),
                Err(error) => tracing::warn!(%error, "sessions could not be cleaned up"),
            }
        }
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
