//! Changes that are prepared: their quota is reserved, and they are invisible.
//!
//! A store that writes a file prepares a change here, which decides whether it is allowed, writes it
//! there, and then commits it. Dropping a prepared change releases its quota.

use std::sync::Arc;

use super::super::StoreError;
use super::{MemoryStore, StoredSession, lock};
use crate::model::{Answer, JsonText, SecretHash, Side, text_bytes};

/// A session to be created.
pub(in super::super) struct PendingSession {
    store: MemoryStore,
    stored: Arc<StoredSession>,
    is_committed: bool,
}

impl PendingSession {
    /// For a session whose quota is reserved.
    pub(super) fn new(store: MemoryStore, stored: Arc<StoredSession>) -> Self {
        Self { store, stored, is_committed: false }
    }

    /// Returns the session's number, which is greater than those of all sessions before.
    #[cfg(feature = "sqlite")]
    pub(in super::super) fn number(&self) -> u64 {
        self.stored.number
    }

    #[cfg(feature = "sqlite")]
    pub(in super::super) fn session(&self) -> &crate::model::NewSession {
        &self.stored.session
    }

    /// Makes the session visible.
    pub(in super::super) fn commit(mut self) {
        self.is_committed = true;
        self.store.insert(&self.stored);
    }
}

impl Drop for PendingSession {
    fn drop(&mut self) {
        if !self.is_committed {
            self.store.discard(&self.stored);
        }
    }
}

/// What a text is for its session.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Kind {
    /// The answer, which replaces an earlier one, with the secret that came with it.
    Answer(Option<SecretHash>),
    /// A candidate, which is appended to those of its side.
    Candidate(Side),
}

/// A text to be added to a session.
pub(in super::super) struct PendingText {
    store: MemoryStore,
    stored: Arc<StoredSession>,
    kind: Kind,
    text: JsonText,
    is_committed: bool,
}

impl PendingText {
    /// For a text whose quota is reserved.
    pub(super) fn new(
        store: MemoryStore,
        stored: Arc<StoredSession>,
        kind: Kind,
        text: JsonText,
    ) -> Self {
        Self { store, stored, kind, text, is_committed: false }
    }

    /// Returns the code of the session.
    #[cfg(feature = "sqlite")]
    pub(in super::super) fn code(&self) -> crate::model::Code {
        self.stored.code()
    }

    /// Returns the session's number and what is to be added; `None` if the session was removed.
    #[cfg(feature = "sqlite")]
    pub(in super::super) fn parts(&self) -> Option<(u64, Kind, &JsonText)> {
        let is_removed = lock(&self.stored.exchange).is_removed;
        (!is_removed).then_some((self.stored.number, self.kind, &self.text))
    }

    /// Makes the text visible.
    pub(in super::super) fn commit(mut self) -> Result<(), StoreError> {
        let mut exchange = lock(&self.stored.exchange);
        if exchange.is_removed {
            return Err(StoreError::NotFound);
        }
        let text = self.text.clone();
        match self.kind {
            Kind::Answer(secret) => {
                let replaced = exchange.answer.replace(Answer { text, secret });
                let replaced = replaced.map_or(0, |answer| text_bytes(&answer.text));
                exchange.answers += 1;
                exchange.bytes -= replaced;
                self.store.0.quota.release(replaced);
            }
            Kind::Candidate(side) => {
                exchange.pending_candidates -= 1;
                match side {
                    Side::Offerer => exchange.offer_candidates.push(text),
                    Side::Answerer => exchange.answer_candidates.push(text),
                }
            }
        }
        self.is_committed = true;
        drop(exchange);
        if let Kind::Answer(_) = self.kind {
            self.store.unlist(&self.stored);
        }
        Ok(())
    }
}

impl Drop for PendingText {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        let mut exchange = lock(&self.stored.exchange);
        // Otherwise its quota was released with the session's.
        if !exchange.is_removed {
            let bytes = text_bytes(&self.text);
            exchange.bytes -= bytes;
            self.store.0.quota.release(bytes);
            if let Kind::Candidate(_) = self.kind {
                exchange.pending_candidates -= 1;
            }
        }
    }
}
