//! Presence queries: a node asks which others are connected.

use std::collections::HashSet;

use super::Broker;
use crate::directory::Unavailable;
use crate::node::NodeId;
use crate::protocol::{InvalidQuestion, Payload, Question};

impl Broker {
    /// Reads a presence question.
    pub(super) fn question(
        &self,
        payload: Option<Payload<'_>>,
    ) -> Result<Question, InvalidQuestion> {
        self.metrics.presence_questions.inc();
        let content = payload.ok_or(InvalidQuestion)?.json().content();
        Question::parse(&content, self.settings.max_presence_ids)
    }

    /// The answer to a presence question as JSON text, if the directory need not be asked.
    pub(super) fn known_presence(&self, question: &Question) -> Option<String> {
        let is_here = |id: &str| self.connections.is_connected(id);
        // A text that is too long for an ID belongs to no node, on any replica.
        let is_known_of = |id: &String| is_here(id) || !NodeId::may_be(id);
        let is_known = self.remote.is_none() || question.ids.iter().all(is_known_of);
        is_known.then(|| question.answer(is_here))
    }

    /// The answer to a presence question as JSON text.
    ///
    /// # Errors
    /// [`Unavailable`] if the directory does not answer. A node that may well be connected is
    /// never said not to be.
    pub(super) async fn presence(&self, question: &Question) -> Result<String, Unavailable> {
        let mut not_here: Vec<&str> = question.ids.iter().map(String::as_str).collect();
        not_here.retain(|id| NodeId::may_be(id) && !self.connections.is_connected(id));
        let are_elsewhere = self.directory.are_elsewhere(&not_here).await?;
        let elsewhere =
            not_here.into_iter().zip(are_elsewhere).filter(|(_, is_elsewhere)| *is_elsewhere);
        let elsewhere: HashSet<_> = elsewhere.map(|(id, _)| id).collect();
        Ok(question.answer(|id| elsewhere.contains(id) || self.connections.is_connected(id)))
    }
}
