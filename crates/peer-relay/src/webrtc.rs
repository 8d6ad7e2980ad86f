//! WebRTC data channels, negotiated as the npm package `simple-peer` does it: both sides send their
//! description in `signal` messages through the network.
//!
//! This side is what ICE (RFC 8445, 2.5) calls a lite agent: it announces one address and replies
//! to anyone who comes there with the right password. It contacts no address that another peer
//! names, and resolves none of the mDNS names that browsers announce instead of theirs. Of a
//! description only what [`description`] lets through is used.
//!
//! - `description`: what one side says about itself.
//! - `connection`: the protocols, without I/O.
//! - `socket`: the UDP socket of one connection, and which datagrams pass.
//! - `line`: a connection with its socket, negotiated and then carrying messages.

mod connection;
mod description;
mod line;
mod socket;

pub(crate) use description::Description;
pub(crate) use line::Line;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::id::PeerId;
use connection::Identity;
use link::LinkLimits;

/// The longest message of a channel, in bytes. Browsers take longer ones, but in their own ways.
pub(crate) const MAX_WEBRTC_MESSAGE_BYTES: usize = 64 * 1024;

/// The most channels that are negotiated at a time.
const MAX_NEGOTIATIONS: usize = 64;

/// What the WebRTC channels of one peer share.
pub(crate) struct WebRtc {
    address: IpAddr,
    identity: Identity,
    write_timeout: Duration,
    negotiations: Arc<Semaphore>,
    answers: Mutex<Answers>,
}

/// The negotiations that wait for the other side's answer.
type Answers = HashMap<PeerId, oneshot::Sender<Description>>;

/// The permit for one negotiation; released by drop.
pub(crate) struct NegotiationPermit(
    #[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
);

impl WebRtc {
    /// # Errors
    /// If no certificate can be made.
    pub(crate) fn new(address: IpAddr, limits: LinkLimits) -> io::Result<Self> {
        Ok(Self {
            address,
            identity: Identity::generate().map_err(io::Error::other)?,
            write_timeout: limits.write_timeout,
            negotiations: Arc::new(Semaphore::new(MAX_NEGOTIATIONS)),
            answers: Mutex::default(),
        })
    }

    /// Reserves one more negotiation, unless there are too many.
    pub(crate) fn reserve(&self) -> Option<NegotiationPermit> {
        self.negotiations.clone().try_acquire_owned().ok().map(NegotiationPermit)
    }

    /// Waits for the answer of a peer, from this call on. `None` if it cannot be read, or if a
    /// later negotiation with this peer replaces this one.
    pub(crate) fn expect_answer(&self, id: PeerId) -> impl Future<Output = Option<Description>> {
        let (sender, answer) = oneshot::channel();
        self.answers().insert(id, sender);
        async move {
            let _entry = AnswerEntry(self, id);
            answer.await.ok()
        }
    }

    /// Hands the answer of a peer to the negotiation that waits for it. An answer that cannot be
    /// read ends that negotiation.
    pub(crate) fn take_answer(&self, id: &PeerId, answer: Option<Description>) {
        let awaited = self.answers().remove(id);
        if let Some((awaited, answer)) = awaited.zip(answer) {
            // Fails if nobody waits any more.
            let _ = awaited.send(answer);
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a negotiation that ended without an answer; by drop.
struct AnswerEntry<'a>(&'a WebRtc, PeerId);

impl Drop for AnswerEntry<'_> {
    fn drop(&mut self) {
        let mut answers = self.0.answers();
        // A later negotiation with the same peer has an entry of its own.
        if answers.get(&self.1).is_some_and(oneshot::Sender::is_closed) {
            answers.remove(&self.1);
        }
    }
}
