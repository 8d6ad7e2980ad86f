//! Calls to the operator's own servers over HTTP.
//!
//! One file for each hook, over one client:
//!
//! - `authentication`: may this node connect?
//! - `authorization`: may these two nodes communicate?
//! - `validity`: which of the connected nodes may not stay?
//! - `rtc_configuration`: which STUN and TURN servers does this node get?
//! - `socket_message`: a message was sent.
//! - `node_events`: nodes came, left, or were refused.
//!
//! `fetch` reads a document over the same client.
//!
//! A failed call is not a no: each file says what happens instead. `doc/reference/webhooks.md`
//! describes requests and responses.

mod authentication;
mod authorization;
mod client;
mod failure_log;
mod fair_queue;
mod fetch;
mod hook;
mod node_events;
mod permits;
mod reply;
mod resolver;
mod rtc_configuration;
mod settings;
mod signature;
mod socket_message;
mod validity;

pub(crate) use authentication::Authentication;
pub use authentication::DataFormat;
pub(crate) use authorization::Authorization;
pub(crate) use client::CallError;
pub use client::{ClientError, ExtraRoots};
pub(crate) use fetch::Fetcher;
pub(crate) use node_events::NodeEvents;
pub(crate) use rtc_configuration::RtcConfigurations;
pub use settings::{CallSettings, WebhookSettings};
pub use signature::{InvalidSecret, Signer};
pub(crate) use socket_message::{SocketMessage, SocketMessages};
pub(crate) use validity::Validity;

use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::secret_url::SecretUrl;
use client::Client;
use hook::{Hook, HookHealth};
pub(crate) use reply::Reply;

/// The hooks' names in logs and metrics.
const AUTHENTICATION: &str = "authentication";
const AUTHORIZATION: &str = "authorization";
const VALIDITY: &str = "validity";
const RTC_CONFIGURATION: &str = "rtc_configuration";
const SOCKET_MESSAGE: &str = "on_socket_message";
const NODE_EVENTS: &str = "node_events";

/// The hooks that are set.
#[derive(Default)]
pub(crate) struct Webhooks {
    /// Called once for each node that connects.
    pub(crate) authentication: Option<Authentication>,
    /// Called before two nodes communicate.
    pub(crate) authorization: Option<Authorization>,
    /// Called from time to time.
    pub(crate) validity: Option<Validity>,
    /// Called once for each node that is connected.
    pub(crate) rtc_configuration: Option<RtcConfigurations>,
    /// Notified of every message.
    pub(crate) socket_message: Option<SocketMessages>,
    /// Told what happens to nodes.
    pub(crate) node_events: Option<NodeEvents>,
    /// How the calls of each hook that is set go, by its name.
    health: Vec<(&'static str, HookHealth)>,
}

impl Webhooks {
    /// Sets up the hooks that have a URL: one client for all of them, and none if there are none.
    /// `lifecycle` is what the last of them is told.
    ///
    /// # Errors
    /// [`ClientError`] if a certificate or the proxy cannot be used.
    pub(crate) fn new(
        settings: &WebhookSettings,
        lifecycle: &Lifecycle,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        if settings.names().is_empty() {
            return Ok(Self::default());
        }
        let client = Client::new(settings.calls.clone())?;
        let mut health = Vec::new();
        let mut hook = |name, url: &Option<SecretUrl>| {
            let url = url.as_ref()?.expose().clone();
            let hook = Hook::new(client.clone(), name, url, metrics.clone());
            health.push((name, hook.health_handle()));
            Some(hook)
        };
        Ok(Self {
            authentication: hook(AUTHENTICATION, &settings.authentication)
                .map(|hook| Authentication::new(hook, settings.authentication_data_format)),
            authorization: hook(AUTHORIZATION, &settings.authorization)
                .map(|hook| Authorization::new(hook, settings.authorization_cache_ttl)),
            validity: hook(VALIDITY, &settings.validity)
                .map(|hook| Validity::new(hook, settings.validity_check_batch_size)),
            rtc_configuration: hook(RTC_CONFIGURATION, &settings.rtc_configuration)
                .map(RtcConfigurations::new),
            socket_message: hook(SOCKET_MESSAGE, &settings.socket_message)
                .map(|hook| SocketMessages::new(hook, metrics.clone())),
            node_events: hook(NODE_EVENTS, &settings.node_events).zip(lifecycle.follow()).map(
                |(hook, cursor)| {
                    NodeEvents::new(hook, cursor, settings.node_events_batch_size, metrics.clone())
                },
            ),
            health,
        })
    }

    /// Returns the name of each hook that is set, and whether its server is called at present.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.health.iter().map(|(name, health)| (*name, health.is_called()))
    }
}
