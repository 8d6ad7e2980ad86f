//! How does this node reach others? The broker asks once for each node that has connected, and
//! passes the answer on.
//!
//! A TURN server relays whatever its users send, so each node gets credentials of its own that
//! end by themselves. They follow coturn's convention (`use-auth-secret`): the username is the
//! time of its end and a name, the password an HMAC of it. So the TURN server can check them by
//! the shared secret alone, and nobody has to keep a list.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::clock::since_1970;
use crate::settings::parts;

/// How long TURN credentials are valid. A node keeps those that it was given when it connected, so
/// this is also how long it can stay and still open new direct connections through the relay.
const CREDENTIALS_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What nodes get where neither STUN nor TURN is set, so that the example works by itself.
const PUBLIC_STUN_URL: &str = "stun:stun.l.google.com:19302";

/// What is encoded in the names of nodes for TURN servers.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A STUN USERNAME has fewer than 509 bytes (RFC 8489, 14.3); the time of expiry needs some.
const MAX_TURN_NAME_BYTES: usize = 480;

/// What the broker asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Question {
    node_id: String,
}

/// What it is answered. The broker takes the configuration without the wrapper too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    rtc_configuration: RtcConfiguration,
}

/// `POST /rtc-configuration`
pub(crate) async fn answer(
    State(ice_servers): State<IceServers>,
    Json(question): Json<Question>,
) -> Json<Answer> {
    let expiry = since_1970() + CREDENTIALS_LIFE;
    Json(Answer {
        rtc_configuration: RtcConfiguration {
            ice_servers: ice_servers.of(&question.node_id, expiry),
            ice_transport_policy: "all",
            bundle_policy: "max-bundle",
            rtcp_mux_policy: "require",
            ice_candidate_pool_size: 10,
        },
    })
}

/// What `RTCPeerConnection` is made with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RtcConfiguration {
    ice_servers: Vec<IceServer>,
    ice_transport_policy: &'static str,
    bundle_policy: &'static str,
    rtcp_mux_policy: &'static str,
    ice_candidate_pool_size: u8,
}

#[derive(Serialize)]
struct IceServer {
    urls: Vec<String>,
    #[serde(flatten)]
    credentials: Option<Credentials>,
}

/// The password stands there twice: nodes read `password`, browsers `credential`.
#[derive(Serialize)]
struct Credentials {
    username: String,
    password: String,
    credential: String,
}

/// The servers that nodes get.
#[derive(Clone)]
pub(crate) struct IceServers(Arc<Known>);

struct Known {
    stun_urls: Option<Vec<String>>,
    turn: Option<Turn>,
}

impl IceServers {
    /// These servers, or a public one: a configuration without any is refused by the broker.
    pub(crate) fn new(stun_urls: Option<Vec<String>>, turn: Option<Turn>) -> Self {
        let stun_urls = match (stun_urls, &turn) {
            (None, None) => Some(vec![PUBLIC_STUN_URL.to_owned()]),
            (stun_urls, _) => stun_urls,
        };
        Self(Arc::new(Known { stun_urls, turn }))
    }

    /// The servers as `node` may use them until `expiry`, a time since 1970.
    fn of(&self, node: &str, expiry: Duration) -> Vec<IceServer> {
        let Known { stun_urls, turn } = &*self.0;
        let stun = stun_urls.iter().map(|urls| IceServer { urls: urls.clone(), credentials: None });
        let turn = turn.iter().map(|turn| IceServer {
            urls: turn.urls.clone(),
            credentials: Some(turn.credentials(node, expiry)),
        });
        stun.chain(turn).collect()
    }
}

/// A TURN server, by all its URLs.
pub(crate) struct Turn {
    urls: Vec<String>,
    key: Hmac<Sha1>,
}

impl Turn {
    /// Reads the URLs. The secret is the server's own: `static-auth-secret` in coturn.
    pub(crate) fn parse(text: &str, secret: &str) -> Result<Self, String> {
        let key = Hmac::new_from_slice(secret.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self { urls: urls(text, ["turn:", "turns:"])?, key })
    }

    fn credentials(&self, node: &str, expiry: Duration) -> Credentials {
        let username = format!("{}:{}", expiry.as_secs(), turn_name(node));
        let code = self.key.clone().chain_update(&username).finalize().into_bytes();
        let password = STANDARD.encode(code);
        Credentials { username, credential: password.clone(), password }
    }
}

/// Returns a node's name for TURN servers, as the broker makes it: coturn refuses names with blanks,
/// quotes or backslashes, and those with words of SQL. So the ID is percent-encoded, also the first
/// letter of such a word, or hashed if that is too long.
fn turn_name(node: &str) -> String {
    let mut name = utf8_percent_encode(node, ENCODED).to_string();
    for word in ["union", "select"] {
        while let Some(at) = name.to_ascii_lowercase().find(word) {
            let letter = format!("%{:02X}", name.as_bytes()[at]);
            name.replace_range(at..=at, &letter);
        }
    }
    if name.len() <= MAX_TURN_NAME_BYTES {
        return name;
    }
    let hash = Sha256::digest(node);
    hash.iter().fold("~".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Reads URLs that are separated by commas, and each begin with one of `schemes`.
pub(crate) fn urls(text: &str, schemes: [&str; 2]) -> Result<Vec<String>, String> {
    let read = |url: &str| {
        let address = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
        match address {
            Some(address) if !address.is_empty() => Ok(url.to_owned()),
            _ => Err(format!("{url:?} does not begin with {}", schemes.join(" or "))),
        }
    };
    let urls: Vec<_> = parts(text).map(read).collect::<Result<_, _>>()?;
    if urls.is_empty() { Err("has no URL".to_owned()) } else { Ok(urls) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXPIRY: Duration = Duration::from_secs(1_700_086_400);

    fn json_of(ice_servers: &IceServers) -> serde_json::Value {
        serde_json::to_value(ice_servers.of("alice", EXPIRY)).unwrap()
    }

    #[test]
    fn turn_names_have_only_what_coturn_takes() {
        for (id, expected) in [
            ("Alice-1.x_y", "Alice-1.x_y"),
            ("a b\"c'\\", "a%20b%22c%27%5C"),
            ("unionUnion SELECT", "%75nion%55nion%20%53ELECT"),
        ] {
            assert_eq!(turn_name(id), expected);
        }
        let long = turn_name(&"\u{f6}".repeat(128));
        assert!(long.len() == 65 && long.starts_with('~'), "{long}");
    }

    /// The password is what `openssl dgst -sha1 -hmac north -binary | base64` makes of the username.
    #[test]
    fn turn_credentials_are_those_of_coturn() {
        let turn = Turn::parse("turn:b:3478,turns:b:5349", "north").unwrap();
        let ice_servers = IceServers::new(Some(vec!["stun:a".to_owned()]), Some(turn));
        let password = "SXua5ne/+mDhiHTp0pQJzRO4ESg=";
        assert_eq!(
            json_of(&ice_servers),
            json!([
                {"urls": ["stun:a"]},
                {
                    "urls": ["turn:b:3478", "turns:b:5349"],
                    "username": "1700086400:alice",
                    "password": password,
                    "credential": password,
                },
            ])
        );
    }

    #[test]
    fn there_is_always_a_server() {
        assert_eq!(json_of(&IceServers::new(None, None)), json!([{"urls": [PUBLIC_STUN_URL]}]));
        let turn = Turn::parse("turn:b", "north").unwrap();
        let only_turn = json_of(&IceServers::new(None, Some(turn)));
        assert_eq!(only_turn[0]["urls"], json!(["turn:b"]));
    }

    #[test]
    fn urls_have_their_scheme() {
        let stun = |text| urls(text, ["stun:", "stuns:"]);
        assert_eq!(stun("stun:a, stuns:b:1").unwrap(), ["stun:a", "stuns:b:1"]);
        for text in ["stun:", "a", "turn:a", "stun:a,b", ","] {
            assert!(stun(text).is_err(), "{text}");
        }
    }
}
