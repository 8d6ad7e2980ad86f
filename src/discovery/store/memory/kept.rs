//! A session as memory keeps it.

use std::sync::Mutex;

use super::super::{Code, JsonText, NewSession, Session};
use super::lock;

/// A session that is kept.
pub(in super::super) struct Kept {
    pub(super) session: NewSession,
    /// Tells apart what was made in the same millisecond.
    pub(super) number: u64,
    pub(super) exchange: Mutex<Exchange>,
}

/// What the two sides have left.
#[derive(Default)]
pub(in super::super) struct Exchange {
    pub(in super::super) answer: Option<JsonText>,
    pub(in super::super) answers: u32,
    pub(in super::super) offer_candidates: Vec<JsonText>,
    pub(in super::super) answer_candidates: Vec<JsonText>,
    /// How many more candidates have their room.
    pub(super) pending_candidates: usize,
    /// What the session takes of the store's room, with what is pending.
    pub(super) bytes: usize,
    /// It has given its room back, and takes no more.
    pub(super) is_gone: bool,
}

impl Exchange {
    /// How many candidates there are of both sides, with those that are pending.
    pub(super) fn candidates(&self) -> usize {
        self.offer_candidates.len() + self.answer_candidates.len() + self.pending_candidates
    }
}

impl Kept {
    /// Its number; of two sessions the one that was made later has the greater one.
    pub(in super::super) fn number(&self) -> u64 {
        self.number
    }

    /// Its code.
    pub(in super::super) fn code(&self) -> Code {
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
