//! The RTC configuration of a node: from the webhook, or a static one.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Broker;
use crate::node::NodeId;
use crate::protocol::{IceServer, RtcConfiguration};

/// What is encoded in the names of nodes for TURN servers.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// coturn takes a name in which they stand for an injection of SQL, in any case of their letters.
const FORBIDDEN_WORDS: [&str; 2] = ["union", "select"];

/// A STUN USERNAME has fewer than 509 bytes (RFC 8489, 14.3); the time of expiry needs some.
const MAX_TURN_NAME_BYTES: usize = 480;

/// What a node gets where the webhook gives no answer (`RTC_FALLBACK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcFallback {
    /// The last good answer for it, or for any node, or else our own configuration.
    Last,
    /// Our own configuration.
    Default,
    /// Nothing: its connection is closed, and it reconnects.
    Close,
}

/// A configuration that needs no webhook.
#[derive(Debug, Clone)]
pub enum StaticRtc {
    /// The same for every node.
    Fixed(RtcConfiguration),
    /// With TURN credentials for each node.
    Turn(TurnServers),
}

/// TURN servers that share a secret with the broker (the convention of coturn's REST API,
/// draft-uberti-behave-turn-rest-00).
#[derive(Clone)]
pub struct TurnServers {
    /// STUN servers to name beside them.
    pub stun_urls: Vec<String>,
    /// Their URLs.
    pub turn_urls: Vec<String>,
    /// The secret.
    pub secret: String,
    /// How long credentials are good for.
    pub credential_ttl: Duration,
}

impl std::fmt::Debug for TurnServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServers").field("turn_urls", &self.turn_urls).finish_non_exhaustive()
    }
}

impl StaticRtc {
    fn configuration(&self, node: &NodeId) -> RtcConfiguration {
        match self {
            Self::Fixed(configuration) => configuration.clone(),
            Self::Turn(servers) => servers.configuration(node, SystemTime::now()),
        }
    }
}

impl TurnServers {
    fn configuration(&self, node: &NodeId, now: SystemTime) -> RtcConfiguration {
        let expiry = (now + self.credential_ttl).duration_since(UNIX_EPOCH);
        let expiry_s = expiry.map_or(0, |since| since.as_secs());
        let username = format!("{expiry_s}:{}", turn_name(node));
        let password = password(&self.secret, &username);
        let mut servers = vec![IceServer::turn(self.turn_urls.clone(), username, password)];
        if !self.stun_urls.is_empty() {
            servers.insert(0, IceServer::stun(self.stun_urls.clone()));
        }
        RtcConfiguration::with_servers(&servers)
    }
}

/// Returns a node's name for TURN servers. It is the percent-encoded ID, since coturn refuses names
/// with blanks, quotes or backslashes, and with [`FORBIDDEN_WORDS`], whose first letter is encoded
/// too. If that is too long, it is `~` and the hexadecimal SHA-256 of the ID.
fn turn_name(node: &NodeId) -> String {
    let mut name = utf8_percent_encode(node.as_str(), ENCODED).to_string();
    for word in FORBIDDEN_WORDS {
        while let Some(at) = name.to_ascii_lowercase().find(word) {
            let letter = name.as_bytes().get(at).map_or_else(String::new, |b| format!("%{b:02X}"));
            name.replace_range(at..=at, &letter);
        }
    }
    if name.len() <= MAX_TURN_NAME_BYTES {
        return name;
    }
    let hash = Sha256::digest(node.as_str());
    hash.iter().fold("~".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn password(secret: &str, username: &str) -> String {
    // A key of any length will do: this cannot fail.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

impl Broker {
    /// The node's RTC configuration, if it needs no webhook call.
    pub(crate) fn rtc_configuration_at_once(&self, node: &NodeId) -> Option<RtcConfiguration> {
        let is_own = self.webhooks.rtc_configuration.is_none();
        is_own.then(|| self.static_rtc.configuration(node))
    }

    /// The node's RTC configuration; `None` if there is none and its connection is to be closed.
    pub(crate) async fn rtc_configuration(
        &self,
        node: &NodeId,
        address: IpAddr,
    ) -> Option<RtcConfiguration> {
        let own = || Some(self.static_rtc.configuration(node));
        let Some(webhook) = &self.webhooks.rtc_configuration else { return own() };
        match webhook.ask(node, address).await {
            Ok(configuration) => Some(configuration),
            Err(_) => match self.settings.rtc_fallback {
                RtcFallback::Last => webhook.last(node).or_else(own),
                RtcFallback::Default => own(),
                RtcFallback::Close => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_names_have_only_what_coturn_takes() {
        let name = |id: &str| turn_name(&NodeId::parse(id).unwrap());
        for (id, expected) in [
            ("Alice-1.x_y", "Alice-1.x_y"),
            ("a b\"c'\\", "a%20b%22c%27%5C"),
            ("b\u{f6}b:%41~", "b%C3%B6b%3A%2541%7E"),
            ("unionUnion SELECT", "%75nion%55nion%20%53ELECT"),
        ] {
            assert_eq!(name(id), expected);
        }
        let long = name(&"\u{f6}".repeat(128));
        assert!(long.len() == 65 && long.starts_with('~'), "{long}");
        assert_ne!(name(&"\u{fc}".repeat(128)), long);
    }

    #[test]
    fn turn_credentials_are_those_of_the_convention() {
        let servers = TurnServers {
            stun_urls: vec!["stun:s".into()],
            turn_urls: vec!["turn:t".into(), "turns:t".into()],
            secret: "north".into(),
            credential_ttl: Duration::from_secs(100),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let configuration = servers.configuration(&NodeId::parse("alice").unwrap(), now);
        let text: String = serde_json::from_str(configuration.as_argument().as_str()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let turn = &value["iceServers"][1];
        assert_eq!(turn["username"], "1700000100:alice");
        // printf 1700000100:alice | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(turn["password"], "s2r39XucwMOQT0J2OK4XatJImYw=");
        assert_eq!(turn["credential"], turn["password"]);
        assert_eq!(value["iceServers"][0]["urls"][0], "stun:s");
    }
}
