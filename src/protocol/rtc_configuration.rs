//! The RTC configuration that a node is given when it is connected.

use serde::Serialize;

/// A configuration for `RTCPeerConnection`, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtcConfiguration(String);

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

    /// The text that is sent: JSON, indented by two blanks, as the contract shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn indented(fields: &Fields) -> Self {
        // Strings and numbers only: writing them as JSON cannot fail.
        Self(serde_json::to_string_pretty(fields).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_names_public_stun_servers() {
        let configuration = RtcConfiguration::public_stun();
        let value: serde_json::Value = serde_json::from_str(configuration.as_str()).unwrap();
        assert_eq!(value["iceServers"][0]["urls"][0], "stun:stun.l.google.com:19302");
        assert_eq!(value["iceServers"][0]["urls"][4], "stun:stun4.l.google.com:19302");
        assert_eq!(value["iceCandidatePoolSize"], 10);
        assert!(configuration.as_str().starts_with("{\n  \"iceServers\": [\n    {"));
    }
}
