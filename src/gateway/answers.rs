//! Answers to events, as acknowledgements.

use link::{LinkHandle, PendingEvent};

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
    ack_id: Option<i64>,
    pending: Option<PendingEvent>,
}

impl AnswerSender {
    pub(super) fn new(ack_id: Option<i64>) -> Self {
        Self { ack_id, pending: None }
    }

    /// Counts the event as pending until it is answered.
    pub(super) fn begin(&mut self, link: &LinkHandle) {
        self.pending = Some(link.begin_event());
    }

    /// Queues the answer on its connection.
    pub(super) fn send(self, link: &LinkHandle, answer: &Answer) {
        let Some(id) = self.ack_id else { return };
        match answer {
            Answer::Ack(ack) => link.send_ack(id, ack.as_json()),
            Answer::Presence(text) => {
                link.send_ack(id, JsonStringBuf::new(text).as_json().as_str())
            }
        }
    }
}
