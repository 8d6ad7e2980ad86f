//! The application sends something.

use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Peer;
use crate::id::PeerId;
use crate::membership::Action;
use crate::message::{self, MAX_OVERHEAD_BYTES};
use crate::outcome::Outcome;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It has no JSON.
    #[error("the value has no JSON: {0}")]
    NoJson(#[from] serde_json::Error),
    /// It is longer than [`PeerSettings::max_message_bytes`](super::PeerSettings::max_message_bytes)
    /// allows.
    #[error("the message is too long")]
    TooLong,
    /// There is no neighbour yet, and too much waits for the first one already; or no neighbour
    /// takes it now.
    #[error("the queue is full")]
    QueueFull,
    /// There is no neighbour, and it was not to wait for one.
    #[error("there is no neighbour")]
    NoNeighbour,
    /// The peer has ended.
    #[error("the peer has ended")]
    Ended,
}

impl Peer {
    /// Sends a value to a peer. Nothing tells whether it arrives. Before there is a neighbour, up
    /// to 256 messages wait.
    ///
    /// # Errors
    /// [`SendError`] if it is certain that it does not arrive.
    pub fn send(&self, to: PeerId, data: &(impl Serialize + ?Sized)) -> Result<(), SendError> {
        let data = self.readable(data)?;
        let actions = self.inner.membership().send_user(Instant::now(), to, &data);
        let is_lost = |action: &Action<_>| matches!(action, Action::Count(Outcome::QueueFull));
        let is_refused = actions.iter().any(is_lost);
        self.inner.perform(actions);
        if is_refused { Err(SendError::QueueFull) } else { Ok(()) }
    }

    /// As [`Peer::send`], to another peer, but at once or not at all: no error means that a
    /// channel has it.
    ///
    /// # Errors
    /// [`SendError`] if no channel took it.
    pub fn send_now(&self, to: PeerId, data: &(impl Serialize + ?Sized)) -> Result<(), SendError> {
        let data = self.readable(data)?;
        let mut membership = self.inner.membership();
        // Under the same lock as the rest: otherwise the last neighbour could go in between.
        if membership.router().neighbours().is_empty() {
            return Err(SendError::NoNeighbour);
        }
        let actions = membership.send_user(Instant::now(), to, &data);
        drop(membership);
        if self.inner.perform(actions).is_sent { Ok(()) } else { Err(SendError::QueueFull) }
    }

    /// The JSON of a value that can be sent.
    fn readable(&self, data: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, SendError> {
        let data = serde_json::value::to_raw_value(data)?;
        if message::user(&data).get().len() > self.inner.max_message_bytes - MAX_OVERHEAD_BYTES {
            return Err(SendError::TooLong);
        }
        if self.inner.leaving.is_cancelled() {
            return Err(SendError::Ended);
        }
        Ok(data)
    }
}
