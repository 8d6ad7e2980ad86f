//! Changes that have their room and that nobody sees yet.
//!
//! Whoever keeps sessions elsewhere too asks for a change here first, which decides whether it may
//! be made; keeps it there; and makes it then. One that is dropped gives its room back and leaves
//! no trace.

use std::sync::Arc;

use super::super::super::session::text_bytes;
use super::super::{Code, JsonText, NewSession, Side, StoreError};
use super::{Kept, MemoryStore, lock};

/// A session that is to be made.
pub(in super::super) struct PendingSession {
    store: MemoryStore,
    kept: Arc<Kept>,
    is_made: bool,
}

impl PendingSession {
    /// For a session that has its room.
    pub(super) fn new(store: MemoryStore, kept: Arc<Kept>) -> Self {
        Self { store, kept, is_made: false }
    }

    /// Its number: greater than those of all that were made before.
    pub(in super::super) fn number(&self) -> u64 {
        self.kept.number
    }

    /// What is to be made.
    pub(in super::super) fn session(&self) -> &NewSession {
        &self.kept.session
    }

    /// From now on everybody sees it.
    pub(in super::super) fn make(mut self) {
        self.is_made = true;
        self.store.insert(&self.kept);
    }
}

impl Drop for PendingSession {
    fn drop(&mut self) {
        if !self.is_made {
            let bytes = lock(&self.kept.exchange).bytes;
            self.store.0.room.free_session(&self.kept.session.origin, bytes);
        }
    }
}

/// What a text is for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// The answer, in the place of an earlier one.
    Answer,
    /// A candidate behind those that a side has left.
    Candidate(Side),
}

/// A text that is to be left in a session.
pub(in super::super) struct PendingText {
    store: MemoryStore,
    kept: Arc<Kept>,
    kind: Kind,
    text: JsonText,
    is_made: bool,
}

impl PendingText {
    /// For a text that has its room.
    pub(super) fn new(store: MemoryStore, kept: Arc<Kept>, kind: Kind, text: JsonText) -> Self {
        Self { store, kept, kind, text, is_made: false }
    }

    /// The code of its session.
    pub(in super::super) fn code(&self) -> Code {
        self.kept.code()
    }

    /// The number of its session, and what is to be left there; none if that is gone by now.
    pub(in super::super) fn parts(&self) -> Option<(u64, Kind, &JsonText)> {
        let is_gone = lock(&self.kept.exchange).is_gone;
        (!is_gone).then_some((self.kept.number, self.kind, &self.text))
    }

    /// From now on everybody sees it.
    pub(in super::super) fn make(mut self) -> Result<(), StoreError> {
        let mut exchange = lock(&self.kept.exchange);
        if exchange.is_gone {
            return Err(StoreError::NotFound);
        }
        let text = self.text.clone();
        match self.kind {
            Kind::Answer => {
                let replaced = exchange.answer.replace(text).map_or(0, |text| text_bytes(&text));
                exchange.answers += 1;
                exchange.bytes -= replaced;
                self.store.0.room.free(replaced);
            }
            Kind::Candidate(side) => {
                exchange.pending_candidates -= 1;
                match side {
                    Side::Offerer => exchange.offer_candidates.push(text),
                    Side::Answerer => exchange.answer_candidates.push(text),
                }
            }
        }
        self.is_made = true;
        drop(exchange);
        if self.kind == Kind::Answer {
            self.store.unlist(&self.kept);
        }
        Ok(())
    }
}

impl Drop for PendingText {
    fn drop(&mut self) {
        if self.is_made {
            return;
        }
        let mut exchange = lock(&self.kept.exchange);
        // Else its room was given back with all that the session took.
        if !exchange.is_gone {
            let bytes = text_bytes(&self.text);
            exchange.bytes -= bytes;
            self.store.0.room.free(bytes);
            if let Kind::Candidate(_) = self.kind {
                exchange.pending_candidates -= 1;
            }
        }
    }
}
