//! The part of the configuration that is about webhooks and RTC.

use std::time::Duration;

use super::reader::Reader;
use super::{SecretUrl, Source};
use crate::broker::{OwnRtc, RtcFallback, TurnServers};
use crate::protocol::{IceServer, RtcConfiguration};
use crate::webhooks::{DataFormat, ExtraRoots, Signer};

/// The webhooks and how they are called. Each field is the variable of the same name in upper
/// case, with `WEBHOOK` or `_WEBHOOK_URL` where it belongs.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
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
    /// In which form a node's data is passed on.
    pub authentication_data_format: DataFormat,
    /// How long answers are remembered; zero for not at all.
    pub authorization_cache_ttl: Duration,
    /// The time between two validity checks.
    pub nodes_status_check_interval: Duration,
    /// The most nodes in one validity question.
    pub validity_check_batch_size: usize,
    /// How long a call may take.
    pub timeout: Duration,
    /// How many calls of one hook may be under way.
    pub max_in_flight: usize,
    /// Signs every call, from `WEBHOOK_SECRET`.
    pub signer: Option<Signer>,
    /// The certificates in `WEBHOOK_CA_FILE`.
    pub extra_roots: Option<ExtraRoots>,
    /// The proxy that calls go through.
    pub proxy: Option<SecretUrl>,
}

/// What nodes are told about reaching each other.
#[derive(Debug, Clone)]
pub struct RtcConfig {
    /// What a node gets where the webhook gives no answer.
    pub fallback: RtcFallback,
    /// What a node gets where there is no webhook.
    pub own: OwnRtc,
}

impl WebhookConfig {
    pub(super) fn read(reader: &mut Reader<impl Source>) -> Self {
        let mut url = |name| reader.url(name, &["http", "https"]);
        Self {
            authentication: url("NODES_AUTHENTICATION_WEBHOOK_URL"),
            authorization: url("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL"),
            validity: url("NODES_VALIDITY_CHECK_WEBHOOK_URL"),
            rtc_configuration: url("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL"),
            socket_message: url("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL"),
            proxy: url("WEBHOOK_PROXY"),
            authentication_data_format: reader.parsed("AUTHENTICATION_DATA_FORMAT"),
            authorization_cache_ttl: reader.milliseconds("AUTHORIZATION_CACHE_TTL_MS", 0),
            nodes_status_check_interval: reader.milliseconds("NODES_STATUS_CHECK_INTERVAL_MS", 1),
            validity_check_batch_size: reader.number("VALIDITY_CHECK_BATCH_SIZE", 1),
            timeout: reader.milliseconds("WEBHOOK_TIMEOUT_MS", 1),
            max_in_flight: reader.number("WEBHOOK_MAX_IN_FLIGHT", 1),
            signer: reader.secret("WEBHOOK_SECRET", |text| Signer::parse(text).ok()),
            extra_roots: reader.file("WEBHOOK_CA_FILE", |pem| ExtraRoots::parse(&pem)),
        }
    }

    /// The webhooks that are set, by name.
    pub fn names(&self) -> Vec<&'static str> {
        let urls = [
            ("authentication", &self.authentication),
            ("authorization", &self.authorization),
            ("validity", &self.validity),
            ("rtc_configuration", &self.rtc_configuration),
            ("on_socket_message", &self.socket_message),
        ];
        urls.into_iter().filter_map(|(name, url)| url.as_ref().map(|_| name)).collect()
    }

    /// Whether any webhook is set.
    pub fn is_any_set(&self) -> bool {
        !self.names().is_empty()
    }
}

impl RtcConfig {
    pub(super) fn read(reader: &mut Reader<impl Source>) -> Self {
        let fallback = reader.parsed("RTC_FALLBACK");
        let stun_urls = reader.list("STUN_URLS", |url| is_ice_url(url, &["stun:", "stuns:"]));
        let turn_urls = reader.list("TURN_URLS", |url| is_ice_url(url, &["turn:", "turns:"]));
        let credential_ttl = reader.milliseconds("TURN_CREDENTIAL_TTL_MS", 1000);
        let written = reader.file("RTC_CONFIGURATION_FILE", |bytes| {
            serde_json::from_slice(&bytes).ok().and_then(RtcConfiguration::from_json)
        });
        let secret = reader.secret("TURN_SECRET", |text| Some(text.to_owned()));
        let secret_in_file = reader.file("TURN_SECRET_FILE", |bytes| {
            let text = String::from_utf8(bytes).ok()?.trim().to_owned();
            Some(text).filter(|text| !text.is_empty())
        });
        if secret.is_some() && secret_in_file.is_some() {
            reader.conflict("TURN_SECRET_FILE", "TURN_SECRET is set too");
        }
        if written.is_some() && !(stun_urls.is_empty() && turn_urls.is_empty()) {
            reader.conflict("RTC_CONFIGURATION_FILE", "STUN_URLS or TURN_URLS are set too");
        }
        let secret = secret.or(secret_in_file);
        let own = match (written, secret) {
            (Some(written), _) => OwnRtc::Fixed(written),
            (None, Some(secret)) if !turn_urls.is_empty() => {
                OwnRtc::Turn(TurnServers { stun_urls, turn_urls, secret, credential_ttl })
            }
            (None, secret) => {
                if secret.is_some() || !turn_urls.is_empty() {
                    reader.conflict("TURN_URLS", "TURN needs both TURN_URLS and a TURN_SECRET");
                }
                OwnRtc::Fixed(if stun_urls.is_empty() {
                    RtcConfiguration::public_stun()
                } else {
                    RtcConfiguration::with_servers(&[IceServer::stun(stun_urls)])
                })
            }
        };
        Self { fallback, own }
    }
}

fn is_ice_url(url: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|host| !host.is_empty()))
}
