//! A session as it is stored in memory.

use std::sync::Mutex;

use super::lock;
use crate::model::{Answer, JsonText, NewSession, Session};

/// A session that is stored.
pub(in super::super) struct StoredSession {
    pub(super) session: NewSession,
    /// Distinguishes sessions of the same millisecond; a later session has a greater one.
    pub(super) number: u64,
    pub(super) exchange: Mutex<Exchange>,
}

/// What both sides have left.
#[derive(Default)]
pub(in super::super) struct Exchange {
    pub(in super::super) answer: Option<Answer>,
    pub(in super::super) answers: u32,
    pub(in super::super) offer_candidates: Vec<JsonText>,
    pub(in super::super) answer_candidates: Vec<JsonText>,
    /// The number of candidates that are prepared.
    pub(super) pending_candidates: usize,
    /// What the session takes of the quota, with what is prepared.
    pub(super) bytes: usize,
    /// The session has released its quota, and takes no more.
    pub(super) is_removed: bool,
}

impl Exchange {
    /// Returns the number of candidates of both sides, with those that are prepared.
    pub(super) fn candidates(&self) -> usize {
        self.offer_candidates.len() + self.answer_candidates.len() + self.pending_candidates
    }
}

impl StoredSession {
    #[cfg(feature = "sqlite")]
    pub(in super::super) fn number(&self) -> u64 {
        self.number
    }

    #[cfg(feature = "sqlite")]
    pub(in super::super) fn code(&self) -> crate::model::Code {
        self.session.code
    }

    pub(super) fn as_session(&self) -> Session {
        let exchange = lock(&self.exchange);
        Session {
            answer: exchange.answer.clone(),
            answers: exchange.answers,
            offer_candidates: exchange.offer_candidates.clone(),
            answer_candidates: exchange.answer_candidates.clone(),
            ..self.session.as_session()
        }
    }
}
