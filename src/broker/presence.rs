//! A node asks which others are connected.

use super::Broker;
use crate::protocol::{InvalidQuestion, Payload, Question};

impl Broker {
    /// The answer to a presence question, as JSON text.
    ///
    /// # Errors
    /// [`InvalidQuestion`] if the payload is none, or asks about too many IDs.
    pub fn presence(&self, payload: Option<Payload<'_>>) -> Result<String, InvalidQuestion> {
        self.metrics.presence_question();
        let content = payload.ok_or(InvalidQuestion)?.content();
        let question = Question::parse(&content, self.settings.max_presence_ids)?;
        Ok(question.answer(|id| self.delivery.is_connected(id)))
    }
}
