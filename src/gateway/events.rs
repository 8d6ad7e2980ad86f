//! A connected node's events: to the broker, and the answer back.
//!
//! Synchronous on purpose. The library calls this where it reads the connection, one event after
//! the other; a task for each event would let them overtake each other. What cannot be answered
//! at once goes to the connection's `waits`, and so does everything behind it.

use std::sync::Arc;

use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::MessageHandler;
use socketioxide::socket::Socket;
use socketioxide_core::{Str, Value};

use super::answers::{Answer, AnswerSender};
use super::waits::{Step, Waits};
use crate::broker::{Admission, Broker, Presence, Relayed, Turn};
use crate::protocol::{ARE_NODES_CONNECTED_TO_BROKER, Ack, Event, EventPacket};

/// Handles every event of one connection.
pub(super) struct Events {
    broker: Arc<Broker>,
    admission: Admission,
    waits: Waits,
}

impl Events {
    pub(super) fn new(broker: Arc<Broker>, admission: Admission) -> Self {
        Self { broker, admission, waits: Waits::new() }
    }

    /// Takes an event as far as it can go in this turn.
    fn take(&self, value: &Value, is_answer_wanted: bool, turn: Turn) -> Step {
        let Value::Str(text, attachments) = value else { return Step::Answer(Ack::Error.into()) };
        let Ok(mut packet) = EventPacket::parse(text) else {
            return Step::Answer(Ack::Error.into());
        };
        if attachments.is_some() {
            packet.payload = None;
        }
        if let Some(event) = Event::from_name(&packet.name) {
            return match self.broker.relay(&self.admission, event, packet.payload, turn) {
                Relayed::Answered(ack) => Step::Answer(ack.into()),
                Relayed::Waits(pending) => {
                    let argument = packet.payload.map_or("", |payload| payload.json().as_str());
                    Step::Relay(pending, share(text, argument))
                }
            };
        }
        // Whoever does not listen to the answer needs none worked out.
        if packet.name == ARE_NODES_CONNECTED_TO_BROKER && is_answer_wanted {
            return match self.broker.presence(packet.payload) {
                Ok(Presence::Answered(text)) => Step::Answer(Answer::Presence(text)),
                Ok(Presence::Waits(question)) => Step::Find(question),
                Err(_) => Step::Answer(Ack::Error.into()),
            };
        }
        Step::Answer(Ack::Error.into())
    }
}

/// Keeps a part of a text, without a copy.
fn share(text: &Str, part: &str) -> Str {
    let start = part.as_ptr().addr().wrapping_sub(text.as_str().as_ptr().addr());
    let range = start..start.wrapping_add(part.len());
    if text.as_str().get(range.clone()) == Some(part) {
        text.slice(range)
    } else {
        Str::copy_from_slice(part)
    }
}

impl MessageHandler<LocalAdapter, Events> for Events {
    fn call(&self, _socket: Arc<Socket>, value: Value, ack_id: Option<i64>) {
        let turn = if self.admission.link.is_idle() { Turn::Now } else { Turn::Behind };
        let step = self.take(&value, ack_id.is_some(), turn);
        let sender = AnswerSender::new(ack_id);
        match step {
            Step::Answer(answer) if turn == Turn::Now => sender.send(&self.admission.link, &answer),
            step => self.waits.push(&self.broker, &self.admission, step, sender),
        }
    }
}
