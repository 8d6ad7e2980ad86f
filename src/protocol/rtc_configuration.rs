//! The RTC configuration that a node is given when it is connected.

use std::sync::Arc;

use super::json_string::{JsonString, JsonStringBuf};
use serde::Serialize;
use serde_json::Value;

/// A configuration for `RTCPeerConnection`, ready to be sent: JSON in a JSON string.
#[derive(Debug, Clone)]
pub struct RtcConfiguration(Arc<JsonStringBuf>);

/// The fields in the order in which the nodes have always got them.
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

    /// A configuration that somebody else wrote, with all its fields. `None` if no node could use
    /// it: without a server that has `urls` the official nodes give up for good. So they do if
    /// `urls` is one text, as it may be in browsers: it becomes a list, which both can read.
    pub fn from_json(mut configuration: Value) -> Option<Self> {
        let has_urls = |server: &Value| match server.get("urls") {
            Some(Value::String(url)) => !url.is_empty(),
            Some(Value::Array(urls)) => {
                !urls.is_empty()
                    && urls.iter().all(|url| url.as_str().is_some_and(|url| !url.is_empty()))
            }
            _ => false,
        };
        let servers = configuration.get_mut("iceServers")?.as_array_mut()?;
        if !servers.iter().any(has_urls) {
            return None;
        }
        for urls in servers.iter_mut().filter_map(|server| server.get_mut("urls")) {
            if urls.is_string() {
                *urls = Value::Array(vec![urls.take()]);
            }
        }
        Some(Self::indented(&configuration))
    }

    /// The event's argument: a JSON string whose content is JSON again, indented by two blanks,
    /// as the nodes have always got it.
    pub(crate) fn as_argument(&self) -> JsonString<'_> {
        self.0.as_json()
    }

    fn indented(configuration: &impl Serialize) -> Self {
        // Texts, numbers and the like only: writing them as JSON cannot fail.
        let text = serde_json::to_string_pretty(configuration).unwrap_or_default();
        Self(Arc::new(JsonStringBuf::new(&text)))
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
        let json = "{\n  \"x\": 1.0,\n  \"iceServers\": [\n    {\n      \"urls\": [],\n      \"b\": null\n    },\n    {\n      \"urls\": [\n        \"stun:a\"\n      ]\n    }\n  ]\n}";
        let configuration =
            RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(text(&configuration), json);
    }

    #[test]
    fn urls_become_a_list() {
        let json = r#"{"iceServers":[{"urls":"stun:a","x":"y"},{"urls":["stun:b"]},{}]}"#;
        let configuration =
            RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&text(&configuration)).unwrap();
        let expected = r#"{"iceServers":[{"urls":["stun:a"],"x":"y"},{"urls":["stun:b"]},{}]}"#;
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn a_configuration_without_usable_servers_is_none() {
        for json in [
            "null",
            "[]",
            "{}",
            r#"{"iceServers":{}}"#,
            r#"{"iceServers":[]}"#,
            r#"{"iceServers":[{}]}"#,
            r#"{"iceServers":[{"urls":""}]}"#,
            r#"{"iceServers":[{"urls":[]}]}"#,
            r#"{"iceServers":[{"urls":[1]}]}"#,
            r#"{"iceServers":["stun:a"]}"#,
            r#"{"iceServers":[{"url":"stun:a"}]}"#,
        ] {
            assert!(
                RtcConfiguration::from_json(serde_json::from_str(json).unwrap()).is_none(),
                "{json}"
            );
        }
    }
}
