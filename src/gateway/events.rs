//! Passes the events of a connected node to its session.
//!
//! Synchronous on purpose: the library calls this where it reads the connection, one event after
//! the other. With a task for each event, events could overtake each other.

use std::borrow::Cow;
use std::sync::Arc;

use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::MessageHandler;
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use crate::broker::Session;
use crate::protocol::EventPacket;

/// Handles every event of one connection.
pub(super) struct Events(pub(super) Arc<Session>);

impl MessageHandler<LocalAdapter, Events> for Events {
    fn call(&self, _socket: Arc<Socket>, value: Value, ack_id: Option<i64>) {
        self.0.receive(read(&value), ack_id);
    }
}

fn read(value: &Value) -> Option<EventPacket<'_>> {
    let Value::Str(text, attachments) = value else { return None };
    let mut packet = EventPacket::parse(text).ok()?;
    if packet.name.bytes().any(|byte| char::from(byte) == link::ESCAPE) {
        let json = format!("\"{}\"", link::json_name(&packet.name));
        packet.name = Cow::Owned(serde_json::from_str(&json).ok()?);
    }
    if attachments.is_some() {
        packet.payload = None;
    }
    Some(packet)
}
