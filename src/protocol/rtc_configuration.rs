//! The RTC configuration that a node is given when it is connected.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// A configuration for `RTCPeerConnection`, ready to be sent: JSON in a JSON string.
#[derive(Debug, Clone)]
pub struct RtcConfiguration(Box<RawValue>);

/// The fields in the order in which the nodes have always got them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    ice_servers: Vec<IceServer>,
    ice_transport_policy: &'static str,
    bundle_policy: &'static str,
    rtcp_mux_policy: &'static str,
    ice_candidate_pool_size: u8,
}

#[derive(Serialize)]
struct IceServer {
    urls: Vec<String>,
}

impl RtcConfiguration {
    /// Google's public STUN servers and no TURN: what a node gets where nothing is configured.
    pub fn public_stun() -> Self {
        let urls = ["", "1", "2", "3", "4"].map(|n| format!("stun:stun{n}.l.google.com:19302"));
        Self::indented(&Fields {
            ice_servers: vec![IceServer { urls: urls.into() }],
            ice_transport_policy: "all",
            bundle_policy: "max-bundle",
            rtcp_mux_policy: "require",
            ice_candidate_pool_size: 10,
        })
    }

    /// The event's argument: a JSON string whose content is JSON again, indented by two blanks,
    /// as the nodes have always got it.
    pub fn as_argument(&self) -> &RawValue {
        &self.0
    }

    fn indented(fields: &Fields) -> Self {
        // Strings and numbers only: writing them as JSON cannot fail.
        let text = serde_json::to_string_pretty(fields).unwrap_or_default();
        Self(to_raw_value(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_names_public_stun_servers() {
        let configuration = RtcConfiguration::public_stun();
        let text: String = serde_json::from_str(configuration.as_argument().get()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["iceServers"][0]["urls"][0], "stun:stun.l.google.com:19302");
        assert_eq!(value["iceServers"][0]["urls"][4], "stun:stun4.l.google.com:19302");
        assert_eq!(value["iceCandidatePoolSize"], 10);
        assert!(text.starts_with("{\n  \"iceServers\": [\n    {"));
    }
}
