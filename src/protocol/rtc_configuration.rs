//! The RTC configuration that a connected node gets.

use std::sync::Arc;

use super::json_string::{JsonString, JsonStringBuf};
use super::{is_stun_url, is_turn_url};
use serde::Serialize;
use serde_json::Value;

/// A configuration for `RTCPeerConnection`, ready to be sent: JSON in a JSON string.
#[derive(Debug, Clone)]
pub struct RtcConfiguration(Arc<JsonStringBuf>);

/// Why no node could use an RTC configuration. The values are not named: some are secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRtcConfiguration {
    /// `iceServers` is no list, or an empty one.
    #[error("iceServers is not a list of servers")]
    NoServers,
    /// The `urls` of a server are missing, or neither a text nor a list of some.
    #[error("a server in iceServers has no list of urls")]
    NoUrls,
    /// A URL that browsers do not take.
    #[error("a URL in iceServers is not one of RFC 7064 or RFC 7065")]
    Url,
    /// A TURN server without the credentials that browsers ask for.
    #[error(
        "a TURN server in iceServers has no username, one of more than 509 bytes, or no password"
    )]
    Credentials,
    /// A field whose text is none that the official nodes or browsers know.
    #[error("{0} has an unknown value")]
    Unknown(&'static str),
    /// A field that has to be a text if it is there.
    #[error("{0} is not a text")]
    NoText(&'static str),
    /// `iceCandidatePoolSize` is there and no whole number that browsers take.
    #[error("iceCandidatePoolSize is not a whole number from 0 to 255")]
    PoolSize,
}

/// The longest user name of a TURN server that browsers take, in bytes.
const MAX_USERNAME_BYTES: usize = 509;

/// The policies, and the values of each. Browsers do not know `nohost` and `none`; the official node
/// on the JVM does.
const POLICIES: [(&str, &[&str]); 3] = [
    ("iceTransportPolicy", &["all", "relay", "nohost", "none"]),
    ("bundlePolicy", &["balanced", "max-compat", "max-bundle"]),
    ("rtcpMuxPolicy", &["require", "negotiate"]),
];

/// The fields in the order of the original.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    ice_servers: &'a [IceServer],
    ice_transport_policy: &'static str,
    bundle_policy: &'static str,
    rtcp_mux_policy: &'static str,
    ice_candidate_pool_size: u8,
}

/// One entry of `iceServers`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IceServer {
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// The official nodes read `password`, browsers read `credential`.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

impl IceServer {
    /// Servers that want no credentials.
    pub(crate) fn stun(urls: Vec<String>) -> Self {
        Self { urls, username: None, password: None, credential: None }
    }

    /// Servers that want these credentials.
    pub(crate) fn turn(urls: Vec<String>, username: String, password: String) -> Self {
        Self {
            urls,
            username: Some(username),
            credential: Some(password.clone()),
            password: Some(password),
        }
    }
}

impl RtcConfiguration {
    /// Google's public STUN servers and no TURN: what a node gets where nothing is configured.
    pub fn public_stun() -> Self {
        let urls = ["", "1", "2", "3", "4"].map(|n| format!("stun:stun{n}.l.google.com:19302"));
        Self::with_servers(&[IceServer::stun(urls.into())])
    }

    /// These servers, and the usual values for everything else.
    pub(crate) fn with_servers(ice_servers: &[IceServer]) -> Self {
        Self::indented(&Fields {
            ice_servers,
            ice_transport_policy: "all",
            bundle_policy: "max-bundle",
            rtcp_mux_policy: "require",
            ice_candidate_pool_size: 10,
        })
    }

    /// Parses a configuration from outside, and keeps all its fields. A single string in `urls`
    /// becomes a list: browsers read both, official nodes only a list.
    ///
    /// # Errors
    /// [`InvalidRtcConfiguration`] if a node could not use it. Official nodes give up on one field
    /// of a wrong type, and browsers on one wrong URL.
    pub fn from_json(mut configuration: Value) -> Result<Self, InvalidRtcConfiguration> {
        let servers = configuration.get_mut("iceServers").and_then(Value::as_array_mut);
        let servers = servers.filter(|servers| !servers.is_empty());
        for server in servers.ok_or(InvalidRtcConfiguration::NoServers)? {
            check_server(server)?;
        }
        for (policy, values) in POLICIES {
            check_texts(&configuration, &[policy])?;
            let value = configuration.get(policy).and_then(Value::as_str);
            if value.is_some_and(|value| !values.contains(&value)) {
                return Err(InvalidRtcConfiguration::Unknown(policy));
            }
        }
        if let Some(size) = configuration.get("iceCandidatePoolSize")
            && size.as_u64().is_none_or(|size| size > u8::MAX.into())
        {
            return Err(InvalidRtcConfiguration::PoolSize);
        }
        Ok(Self::indented(&configuration))
    }

    /// The event's argument: a JSON string whose content is JSON again, indented by two blanks, as
    /// in the original.
    pub(crate) fn as_argument(&self) -> JsonString<'_> {
        self.0.as_json()
    }

    fn indented(configuration: &impl Serialize) -> Self {
        // Texts, numbers and the like only: writing them as JSON cannot fail.
        let text = serde_json::to_string_pretty(configuration).unwrap_or_default();
        Self(Arc::new(JsonStringBuf::new(&text)))
    }
}

fn check_server(server: &mut Value) -> Result<(), InvalidRtcConfiguration> {
    let urls = server.get_mut("urls").ok_or(InvalidRtcConfiguration::NoUrls)?;
    if urls.is_string() {
        *urls = Value::Array(vec![urls.take()]);
    }
    let urls = urls.as_array().filter(|urls| !urls.is_empty());
    let mut is_turn = false;
    for url in urls.ok_or(InvalidRtcConfiguration::NoUrls)? {
        let url = url.as_str().ok_or(InvalidRtcConfiguration::NoUrls)?;
        if is_turn_url(url) {
            is_turn = true;
        } else if !is_stun_url(url) {
            return Err(InvalidRtcConfiguration::Url);
        }
    }
    check_texts(server, &["username", "password", "credential", "credentialType"])?;
    let bytes = |field| server.get(field).and_then(Value::as_str).map_or(0, str::len);
    let has_credentials = (1..=MAX_USERNAME_BYTES).contains(&bytes("username"))
        && bytes("password").max(bytes("credential")) > 0;
    if is_turn && !has_credentials {
        return Err(InvalidRtcConfiguration::Credentials);
    }
    Ok(())
}

fn check_texts(object: &Value, names: &[&'static str]) -> Result<(), InvalidRtcConfiguration> {
    let is_other = |name: &&&str| object.get(**name).is_some_and(|value| !value.is_string());
    match names.iter().find(is_other) {
        Some(name) => Err(InvalidRtcConfiguration::NoText(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(configuration: &RtcConfiguration) -> String {
        serde_json::from_str(configuration.as_argument().as_str()).unwrap()
    }

    #[test]
    fn the_default_names_public_stun_servers() {
        let text = text(&RtcConfiguration::public_stun());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["iceServers"][0]["urls"][0], "stun:stun.l.google.com:19302");
        assert_eq!(value["iceServers"][0]["urls"][4], "stun:stun4.l.google.com:19302");
        assert_eq!(value["iceCandidatePoolSize"], 10);
        assert!(text.starts_with("{\n  \"iceServers\": [\n    {"));
    }

    #[test]
    fn unknown_fields_and_their_order_are_kept() {
        let json = "{\n  \"x\": 1.0,\n  \"iceServers\": [\n    {\n      \"urls\": [\n        \"turn:b\"\n      ],\n      \"username\": \"u\",\n      \"credential\": \"p\",\n      \"b\": null\n    },\n    {\n      \"urls\": [\n        \"stun:a\"\n      ]\n    }\n  ]\n}";
        let configuration =
            RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(text(&configuration), json);
    }

    #[test]
    fn urls_become_a_list() {
        let json = r#"{"iceServers":[{"urls":"stun:a","x":"y"},{"urls":["stun:b"]}]}"#;
        let configuration =
            RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&text(&configuration)).unwrap();
        let expected = r#"{"iceServers":[{"urls":["stun:a"],"x":"y"},{"urls":["stun:b"]}]}"#;
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn a_configuration_that_a_node_could_not_use_is_an_error() {
        use InvalidRtcConfiguration as Invalid;
        let wrong = |json: &str| {
            RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).unwrap_err()
        };
        for json in ["null", "[]", "{}", r#"{"iceServers":{}}"#, r#"{"iceServers":[]}"#] {
            assert_eq!(wrong(json), Invalid::NoServers, "{json}");
        }
        for (server, error) in [
            ("{}", Invalid::NoUrls),
            (r#""stun:a""#, Invalid::NoUrls),
            (r#"{"url":"stun:a"}"#, Invalid::NoUrls),
            (r#"{"urls":[]}"#, Invalid::NoUrls),
            (r#"{"urls":[1]}"#, Invalid::NoUrls),
            (r#"{"urls":["stun:a",null]}"#, Invalid::NoUrls),
            (r#"{"urls":""}"#, Invalid::Url),
            (r#"{"urls":["stun:a","https://b"]}"#, Invalid::Url),
            (r#"{"urls":"turn:a","username":1}"#, Invalid::NoText("username")),
            (r#"{"urls":"turn:a","password":null}"#, Invalid::NoText("password")),
            (r#"{"urls":"turn:a","credential":{}}"#, Invalid::NoText("credential")),
            (r#"{"urls":"turn:a"}"#, Invalid::Credentials),
            (r#"{"urls":["stun:a","turns:a"],"username":"u"}"#, Invalid::Credentials),
            (r#"{"urls":"turn:a","username":"","password":"p"}"#, Invalid::Credentials),
            (r#"{"urls":"turn:a","username":"u","credential":""}"#, Invalid::Credentials),
        ] {
            let json = format!(r#"{{"iceServers":[{{"urls":"stun:a"}},{server}]}}"#);
            assert_eq!(wrong(&json), error, "{json}");
        }
        for (field, error) in [
            (r#""iceTransportPolicy":1"#, Invalid::NoText("iceTransportPolicy")),
            (r#""bundlePolicy":null"#, Invalid::NoText("bundlePolicy")),
            (r#""rtcpMuxPolicy":[]"#, Invalid::NoText("rtcpMuxPolicy")),
            (r#""iceTransportPolicy":"public""#, Invalid::Unknown("iceTransportPolicy")),
            (r#""bundlePolicy":"""#, Invalid::Unknown("bundlePolicy")),
            (r#""rtcpMuxPolicy":"Require""#, Invalid::Unknown("rtcpMuxPolicy")),
            (r#""iceCandidatePoolSize":"10""#, Invalid::PoolSize),
            (r#""iceCandidatePoolSize":1.5"#, Invalid::PoolSize),
            (r#""iceCandidatePoolSize":-1"#, Invalid::PoolSize),
            (r#""iceCandidatePoolSize":256"#, Invalid::PoolSize),
        ] {
            let json = format!(r#"{{"iceServers":[{{"urls":"stun:a"}}],{field}}}"#);
            assert_eq!(wrong(&json), error, "{json}");
        }
    }
}
