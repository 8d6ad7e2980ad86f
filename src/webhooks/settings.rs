//! What an operator decides about webhooks.

use std::time::Duration;

use super::{
    AUTHENTICATION, AUTHORIZATION, NODE_EVENTS, RTC_CONFIGURATION, SOCKET_MESSAGE, VALIDITY,
};
use super::{DataFormat, ExtraRoots, Signer};
use crate::secret_url::SecretUrl;

/// Which webhooks there are, and how they are called. A hook without a URL is not called.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// `NODES_AUTHENTICATION_WEBHOOK_URL`.
    pub authentication: Option<SecretUrl>,
    /// `AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL`.
    pub authorization: Option<SecretUrl>,
    /// `NODES_VALIDITY_CHECK_WEBHOOK_URL`.
    pub validity: Option<SecretUrl>,
    /// `RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL`.
    pub rtc_configuration: Option<SecretUrl>,
    /// `ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL`.
    pub socket_message: Option<SecretUrl>,
    /// `NODE_EVENTS_WEBHOOK_URL`.
    pub node_events: Option<SecretUrl>,
    /// The form in which a node's data is passed on.
    pub authentication_data_format: DataFormat,
    /// How long authorization answers are cached; zero for not at all.
    pub authorization_cache_ttl: Duration,
    /// The time between two validity checks.
    pub validity_check_interval: Duration,
    /// The most nodes in one validity request.
    pub validity_check_batch_size: usize,
    /// The most events in one request of the webhook for them.
    pub node_events_batch_size: usize,
    /// How every hook is called.
    pub calls: CallSettings,
}

/// How webhooks are called.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// How long a call may take, to the last byte of the response; and how long it may wait for its
    /// permit before that.
    pub timeout: Duration,
    /// The most calls of one hook in flight.
    pub max_in_flight: usize,
    /// Certificates to trust beside the system's.
    pub extra_roots: Option<ExtraRoots>,
    /// The proxy that calls go through.
    pub proxy: Option<SecretUrl>,
    /// Signs every call.
    pub signer: Option<Signer>,
}

impl WebhookSettings {
    /// Returns the names of the webhooks that are set, as logs and metrics have them.
    pub fn names(&self) -> Vec<&'static str> {
        let urls = [
            (AUTHENTICATION, &self.authentication),
            (AUTHORIZATION, &self.authorization),
            (VALIDITY, &self.validity),
            (RTC_CONFIGURATION, &self.rtc_configuration),
            (SOCKET_MESSAGE, &self.socket_message),
            (NODE_EVENTS, &self.node_events),
        ];
        urls.into_iter().filter_map(|(name, url)| url.as_ref().map(|_| name)).collect()
    }
}
