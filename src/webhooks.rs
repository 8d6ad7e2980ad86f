//! The operator's own servers, asked and told by HTTP.
//!
//! One small file for each hook, over one client:
//!
//! - `authentication`: may this node connect?
//! - `authorization`: may these two nodes communicate?
//! - `validity`: which of the connected nodes may not stay?
//! - `rtc_configuration`: how does this node reach others?
//! - `socket_message`: a message was sent.
//!
//! A hook that cannot be asked is not a no: every file says what happens then. What the servers
//! see and may answer is in `doc/webhooks.md`.

mod authentication;
mod authorization;
mod client;
mod failure_log;
mod rtc_configuration;
mod signature;
mod socket_message;
mod validity;

pub use authentication::{Authentication, DataFormat};
pub use authorization::Authorization;
pub use client::{CallError, Client, ClientError, ClientSettings, ExtraRoots, Hook};
pub use rtc_configuration::RtcConfigurations;
pub use signature::{InvalidSecret, Signer};
pub use socket_message::{SocketMessage, SocketMessages};
pub use validity::Validity;

/// The hooks that are set.
#[derive(Default)]
pub struct Webhooks {
    /// Asked once for each node that connects.
    pub authentication: Option<Authentication>,
    /// Asked before two nodes communicate.
    pub authorization: Option<Authorization>,
    /// Asked from time to time.
    pub validity: Option<Validity>,
    /// Asked once for each node that is connected.
    pub rtc_configuration: Option<RtcConfigurations>,
    /// Told of every message.
    pub socket_message: Option<SocketMessages>,
}

/// An answer: whatever the JSON object in it says.
pub type Answer = serde_json::Map<String, serde_json::Value>;

/// Whether `answer` says yes under `key`. Only the JSON value `true` does: a text "true" may come
/// from a server that says "false" the same way.
fn says_yes(answer: &Answer, key: &str) -> bool {
    answer.get(key) == Some(&serde_json::Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_is_yes() {
        let answer = |text| serde_json::from_str::<Answer>(text).unwrap();
        assert!(says_yes(&answer(r#"{"a":1,"authorized":true}"#), "authorized"));
        for text in [
            r#"{"authorized":"true"}"#,
            r#"{"authorized":1}"#,
            r#"{"authorized":[true]}"#,
            r#"{"Authorized":true}"#,
            "{}",
        ] {
            assert!(!says_yes(&answer(text), "authorized"), "{text}");
        }
    }
}
