//! May this node connect? Called once, before the broker checks anything else about its ID.
//!
//! Policy: fail closed, but not finally. If the call fails, the node is rejected and may reconnect.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::fair_queue::network;
use super::{CallError, Hook};
use crate::protocol::Handshake;

/// In which form a node's `data` is passed on (`AUTHENTICATION_DATA_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// Always as the text that the node sent, as the original broker does.
    String,
    /// As the object that it is, if it is the text of one.
    Object,
}

pub(crate) struct Authentication {
    hook: Hook,
    data_format: DataFormat,
}

/// The ID is in it twice: `nodeId` is documented, but servers were written for `id`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    id: &'a str,
    node_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Object(&'a RawValue),
    Text(&'a str),
}

impl Authentication {
    pub(super) fn new(hook: Hook, data_format: DataFormat) -> Self {
        Self { hook, data_format }
    }

    /// Whether the node may connect from this address: `{"authenticated":true}`.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer.
    pub(crate) async fn ask(
        &self,
        handshake: &Handshake,
        address: IpAddr,
    ) -> Result<bool, CallError> {
        let id = handshake.id.as_str();
        let data = handshake.data.as_deref().map(|text| data(text, self.data_format));
        let request = Request { id, node_id: id, data };
        self.hook.call(network(address), &request, |reply| reply.says_yes("authenticated")).await
    }
}

fn data(text: &str, format: DataFormat) -> Data<'_> {
    let object =
        || serde_json::from_str::<&RawValue>(text).ok().filter(|json| json.get().starts_with('{'));
    match format {
        DataFormat::Object => object().map_or(Data::Text(text), Data::Object),
        DataFormat::String => Data::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let body = |text, format| {
            let request = Request { id: "a\"", node_id: "a\"", data: Some(data(text, format)) };
            serde_json::to_string(&request).unwrap()
        };
        let start = r#"{"id":"a\"","nodeId":"a\"","data":"#;
        assert_eq!(body(r#" {"t":1.0} "#, DataFormat::Object), format!(r#"{start}{{"t":1.0}}}}"#));
        assert_eq!(
            body(r#"{"t":1.0}"#, DataFormat::String),
            format!(r#"{start}"{{\"t\":1.0}}"}}"#)
        );
        for text in ["[1]", "1", "null", "{", "x"] {
            assert_eq!(body(text, DataFormat::Object), format!(r#"{start}"{text}"}}"#));
        }
        assert_eq!(
            serde_json::to_string(&Request { id: "a", node_id: "a", data: None }).unwrap(),
            r#"{"id":"a","nodeId":"a"}"#
        );
    }
}
