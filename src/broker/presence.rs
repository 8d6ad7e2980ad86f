//! A node asks which others are connected.

use std::collections::HashSet;

use super::Broker;
use crate::directory::Unavailable;
use crate::protocol::{InvalidQuestion, Payload, Question};

/// The answer to a presence question, or what is needed to find it.
#[derive(Debug)]
pub(super) enum Presence {
    /// The answer, as JSON text.
    Answered(String),
    /// The directory has to be asked.
    Waits(Question),
}

impl Broker {
    /// The answer to a presence question, if it can be given at once.
    ///
    /// # Errors
    /// [`InvalidQuestion`] if the payload is none, or asks about too many IDs.
    pub(super) fn presence(
        &self,
        payload: Option<Payload<'_>>,
    ) -> Result<Presence, InvalidQuestion> {
        self.metrics.presence_question();
        let content = payload.ok_or(InvalidQuestion)?.json().content();
        let question = Question::parse(&content, self.settings.max_presence_ids)?;
        let is_here = |id: &str| self.connections.is_connected(id);
        if self.remote.is_some() && !question.ids.iter().all(|id| is_here(id)) {
            return Ok(Presence::Waits(question));
        }
        Ok(Presence::Answered(question.answer(is_here)))
    }

    /// The answer to a presence question for which the directory has to be asked.
    ///
    /// # Errors
    /// [`Unavailable`] if the directory does not answer. A node that may well be connected is
    /// never said not to be.
    pub(super) async fn find(&self, question: &Question) -> Result<String, Unavailable> {
        let not_here: Vec<&str> = question
            .ids
            .iter()
            .map(String::as_str)
            .filter(|id| !self.connections.is_connected(id))
            .collect();
        let are_elsewhere = self.directory.are_elsewhere(&not_here).await?;
        let elsewhere: HashSet<_> = not_here
            .into_iter()
            .zip(are_elsewhere)
            .filter(|(_, is)| *is)
            .map(|(id, _)| id)
            .collect();
        Ok(question.answer(|id| elsewhere.contains(id) || self.connections.is_connected(id)))
    }
}
