//! What the bridge's messages say. As user data of the peer-relay network they are
//! `{"from": node, "message": text}` and `{"to": node, "message": text}`, where the text is what
//! the node sends, or gets, as the argument of its event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::node::{NodeId, trim};
use crate::protocol::{JsonString, JsonStringBuf};

/// What official nodes read beside the addresses; messages of peers get these values.
const PLATFORM: &str = "PEER_RELAY";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node's message, as a peer gets it.
#[derive(Serialize)]
pub(in crate::broker) struct FromNode<'a> {
    /// The node that sent it.
    pub(in crate::broker) from: &'a str,
    /// The argument of its event, byte for byte.
    pub(in crate::broker) message: JsonString<'a>,
}

/// A peer's message for a node.
#[derive(Debug)]
pub(super) struct FromPeer {
    /// The node that it is for.
    pub(super) to: NodeId,
    /// The fields that the broker does not set, unchanged.
    fields: BTreeMap<String, Box<RawValue>>,
}

/// What a peer sent is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoMessage;

#[derive(Deserialize)]
struct Wire {
    to: String,
    message: String,
}

impl FromPeer {
    /// Reads the user data of a peer's message.
    ///
    /// # Errors
    /// [`NoMessage`] if it is anything else than an object with a node's ID as `to` and the text
    /// of an object as `message`. More fields do not matter.
    pub(super) fn parse(data: &RawValue) -> Result<Self, NoMessage> {
        // A derived reader would take an array too.
        if !data.get().starts_with('{') {
            return Err(NoMessage);
        }
        let wire: Wire = serde_json::from_str(data.get()).map_err(|_| NoMessage)?;
        let to = NodeId::parse(trim(&wire.to)).map_err(|_| NoMessage)?;
        let fields = serde_json::from_str(&wire.message).map_err(|_| NoMessage)?;
        Ok(Self { to, fields })
    }

    /// The argument of the event that the node gets. Whatever the peer wrote there, the addresses
    /// and the platform are what the broker knows.
    pub(super) fn argument(&self, from: &str) -> JsonStringBuf {
        let known = [
            ("from", from),
            ("to", self.to.as_str()),
            ("platformFrom", PLATFORM),
            ("versionFrom", VERSION),
        ]
        .map(|(name, value)| (name, to_json(value)));
        let written = self.fields.iter().map(|(name, value)| (name.as_str(), &**value));
        let mut fields: BTreeMap<&str, &RawValue> = written.collect();
        fields.extend(known.iter().map(|(name, value)| (*name, &**value)));
        JsonStringBuf::new(to_json(&fields).get())
    }
}

/// The JSON of strings and of maps of them, which cannot fail.
fn to_json(value: &(impl Serialize + ?Sized)) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(data: &Value) -> Result<FromPeer, NoMessage> {
        FromPeer::parse(&to_json(data))
    }

    fn argument(data: &Value) -> String {
        serde_json::from_str(parse(data).unwrap().argument("ab").as_json().as_str()).unwrap()
    }

    #[test]
    fn the_broker_says_from_whom_and_to_whom() {
        let forged = r#"{"from":"eve","from":"mallory","to":"carol","platformFrom":"JVM","versionFrom":[],"content":"hi"}"#;
        let text = argument(&json!({"to": " bob\n", "from": "eve", "message": forged}));
        let expected = json!({
            "from": "ab", "to": "bob", "content": "hi", "platformFrom": "PEER_RELAY", "versionFrom": VERSION,
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert_eq!(text.matches("from\":").count(), 1, "{text}");
    }

    #[test]
    fn what_is_not_read_stays_as_it_is() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for value in ["1.0", "1e999", r#""\ud800\/""#, "-0.0", &deep] {
            let message = format!(r#" {{"x" : {value} }} "#);
            let text = argument(&json!({"to": "bob", "message": message}));
            assert!(text.ends_with(&format!("\"x\":{value}}}")), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_message() {
        assert!(parse(&json!({"to": "bob", "message": "{}"})).is_ok());
        for data in [
            json!(null),
            json!("{}"),
            json!(["bob", "{}"]),
            json!({}),
            json!({"to": "bob"}),
            json!({"message": "{}"}),
            json!({"from": "bob", "message": "{}"}),
            json!({"to": null, "message": "{}"}),
            json!({"to": ["bob"], "message": "{}"}),
            json!({"to": " ", "message": "{}"}),
            json!({"to": "b\u{0}b", "message": "{}"}),
            json!({"to": "b".repeat(257), "message": "{}"}),
            json!({"to": "bob", "message": {}}),
            json!({"to": "bob", "message": ""}),
            json!({"to": "bob", "message": "[]"}),
            json!({"to": "bob", "message": "null"}),
            json!({"to": "bob", "message": "{} {}"}),
            json!({"to": "bob", "message": r#"{"\ud800":1}"#}),
        ] {
            assert_eq!(parse(&data).err(), Some(NoMessage), "{data}");
        }
        for text in
            [r#"{"to":"bob","to":"bob","message":"{}"}"#, r#"{"to":"bob","message":"\ud800"}"#]
        {
            let data: Box<RawValue> = serde_json::from_str(text).unwrap();
            assert_eq!(FromPeer::parse(&data).err(), Some(NoMessage), "{text}");
        }
    }
}
