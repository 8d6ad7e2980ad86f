//! Sessions: an offer, and everything that is left for it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, Code, JsonText, Origin, SecretHash, Timestamp, Topic};

/// One of the two who meet in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Created the session.
    Offerer,
    /// Found the session.
    Answerer,
}

impl Side {
    /// Parses the name of a side.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Offerer, Self::Answerer].into_iter().find(|side| side.name() == name)
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offerer => "offerer",
            Self::Answerer => "answerer",
        }
    }
}

/// A session to be stored.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// By what both sides name the session.
    pub code: Code,
    /// Who can see the session.
    pub origin: Origin,
    /// Where the session is listed.
    pub topic: Topic,
    /// What the offerer says about itself.
    pub info: JsonText,
    /// The offerer's description.
    pub offer: JsonText,
    /// The secret that the offerer has asked for.
    pub secret: Option<SecretHash>,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the session expires; from then on it is invisible.
    pub expires_at: Timestamp,
}

/// What a session takes beside its texts in bytes: names, times, entries of indexes.
const SESSION_OVERHEAD_BYTES: usize = 512;

/// What an answer or a candidate takes beside its text in bytes.
pub(crate) const TEXT_OVERHEAD_BYTES: usize = 64;

impl NewSession {
    /// Returns what the session takes of a store's quota, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.info.as_json().len() + self.offer.as_json().len();
        SESSION_OVERHEAD_BYTES + self.origin.as_str().len() + self.topic.as_str().len() + texts
    }

    /// Returns the session as it is before anything is left for it.
    pub fn as_session(&self) -> Session {
        Session {
            code: self.code,
            info: self.info.clone(),
            offer: self.offer.clone(),
            secret: self.secret,
            answer: None,
            answers: 0,
            offer_candidates: Vec::new(),
            answer_candidates: Vec::new(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

/// Returns what an answer or a candidate takes of a store's quota, in bytes.
pub(crate) fn text_bytes(text: &JsonText) -> usize {
    TEXT_OVERHEAD_BYTES + text.as_json().len()
}

/// A session as a store returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// By what both sides name the session.
    pub code: Code,
    /// What the offerer says about itself.
    pub info: JsonText,
    /// The offerer's description.
    pub offer: JsonText,
    /// The secret that the offerer has asked for. Lists do not have it.
    pub secret: Option<SecretHash>,
    /// The last answer.
    pub answer: Option<Answer>,
    /// The number of answers, each of which replaced the one before.
    pub answers: u32,
    /// The offerer's candidates in order of arrival.
    pub offer_candidates: Vec<JsonText>,
    /// The answerer's candidates in order of arrival.
    pub answer_candidates: Vec<JsonText>,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the session expires.
    pub expires_at: Timestamp,
}

impl Session {
    /// Whether the answer came with the session's secret; `None` for a session without one.
    pub fn is_answer_verified(&self) -> Option<bool> {
        let given = self.answer.as_ref().and_then(|answer| answer.secret);
        self.secret.map(|secret| given == Some(secret))
    }

    /// Returns the number of changes that concern `side`; it never decreases. The offer does not
    /// count: an answerer knows it from the list.
    pub fn revision(&self, side: Side) -> u32 {
        match side {
            Side::Offerer => self.answers + self.answer_candidates.len() as u32,
            Side::Answerer => self.offer_candidates.len() as u32,
        }
    }
}
