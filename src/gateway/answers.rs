//! Answers to events, as acknowledgements.

use std::sync::Arc;

use serde::Serialize;
use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use crate::link::{CloseReason, LinkHandle};
use crate::protocol::{Ack, JsonStringBuf};

/// The answer to an event: a JSON string.
#[derive(Debug)]
pub(super) enum Answer {
    Ack(Ack),
    /// The string's content is JSON itself.
    Presence(String),
}

impl From<Ack> for Answer {
    fn from(ack: Ack) -> Self {
        Self::Ack(ack)
    }
}

/// Sends the answer to one event, if that asked for one.
pub(super) struct AnswerSender {
    socket: Arc<Socket>,
    ack_id: Option<i64>,
}

impl AnswerSender {
    pub(super) fn new(socket: Arc<Socket>, ack_id: Option<i64>) -> Self {
        Self { socket, ack_id }
    }

    /// Queues the answer on its connection. If that cannot be done the connection is ended: the
    /// node would wait for it for ever.
    pub(super) fn send(self, link: &LinkHandle, answer: &Answer) {
        let Some(id) = self.ack_id else { return };
        let is_queued = match answer {
            Answer::Ack(ack) => {
                self.queue(link, id, ack.as_str(), ack.as_str().len() + "\"\"".len())
            }
            Answer::Presence(text) => {
                let json = JsonStringBuf::new(text);
                self.queue(link, id, &json.as_json(), json.as_json().as_str().len())
            }
        };
        if !is_queued {
            link.kill(CloseReason::Overflow);
        }
    }

    /// Queues an answer whose JSON text has `json_bytes`. Returns whether it was queued.
    fn queue<T: Serialize + ?Sized>(
        &self,
        link: &LinkHandle,
        id: i64,
        answer: &T,
        json_bytes: usize,
    ) -> bool {
        let digits = id.checked_ilog10().unwrap_or(0) as usize + 1;
        // The packet's text is 43<id>[<answer>].
        link.reserve_ack(digits + json_bytes + "43[]".len());
        let mut unused = Value::Bytes(Default::default());
        let Ok(sender) = AckSender::from_message_parts(&self.socket, &mut unused, &self.ack_id);
        sender.send(answer).is_ok()
    }
}
