//! A connected node's events: to the broker, and the answer back.
//!
//! Synchronous on purpose. The library calls this where it reads the connection, one event after
//! the other; a task for each event would let them overtake each other.

use std::sync::Arc;

use serde::Serialize;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, MessageHandler};
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use crate::broker::{Admission, Broker};
use crate::link::CloseReason;
use crate::protocol::{ARE_NODES_CONNECTED_TO_BROKER, Ack, Event, EventPacket};

/// Handles every event of one connection.
pub(super) struct Events {
    broker: Arc<Broker>,
    admission: Admission,
}

impl Events {
    pub(super) fn new(broker: Arc<Broker>, admission: Admission) -> Self {
        Self { broker, admission }
    }

    /// The answer to an event: the JSON text of a string.
    fn answer(&self, value: &Value, wanted: bool) -> Answer {
        let Value::Str(text, attachments) = value else { return Answer::Ack(Ack::Error) };
        let Ok(mut packet) = EventPacket::parse(text) else { return Answer::Ack(Ack::Error) };
        if attachments.is_some() {
            packet.payload = None;
        }
        if let Some(event) = Event::from_name(&packet.name) {
            return Answer::Ack(self.broker.relay(&self.admission.node, event, packet.payload));
        }
        // Whoever does not listen to the answer needs none worked out.
        if packet.name == ARE_NODES_CONNECTED_TO_BROKER && wanted {
            return match self.broker.presence(packet.payload) {
                Ok(answer) => Answer::Presence(answer),
                Err(_) => Answer::Ack(Ack::Error),
            };
        }
        Answer::Ack(Ack::Error)
    }
}

enum Answer {
    Ack(Ack),
    Presence(String),
}

impl MessageHandler<LocalAdapter, Events> for Events {
    fn call(&self, socket: Arc<Socket>, mut value: Value, ack_id: Option<i64>) {
        let answer = self.answer(&value, ack_id.is_some());
        let Some(id) = ack_id else { return };
        let Ok(sender) = AckSender::from_message_parts(&socket, &mut value, &ack_id);
        let sent = match &answer {
            Answer::Ack(ack) => self.send(sender, id, ack.as_str(), ack.as_str().len() + 2),
            Answer::Presence(text) => {
                let escaped = serde_json::value::to_raw_value(text).unwrap_or_default();
                self.send(sender, id, &escaped, escaped.get().len())
            }
        };
        if !sent {
            // An answer that cannot be queued must not be lost in silence: the node waits for it.
            self.admission.link.kill(CloseReason::Overflow);
        }
    }
}

impl Events {
    /// Queues an answer whose JSON text has `json_bytes`. Returns whether it was queued.
    fn send<T: Serialize + ?Sized>(
        &self,
        sender: AckSender,
        id: i64,
        answer: &T,
        json_bytes: usize,
    ) -> bool {
        let digits = id.checked_ilog10().unwrap_or(0) as usize + 1;
        // The packet's text is 43<id>[<answer>].
        self.admission.link.reserve_ack(digits + json_bytes + "43[]".len());
        sender.send(answer).is_ok()
    }
}
