//! What may wait to be written on a link, and what pauses its reading.
//!
//! An event is queued only if there is room for it, and whoever sent it is told. An answer is
//! always queued: instead, a link whose answers pile up reads no more questions.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::{LinkHandle, Phase, Shared};

/// What one queued packet costs beyond its text, in bytes: its place in the transport's queue and
/// its buffers. Counted so that many small packets are bounded too.
pub const PACKET_OVERHEAD_BYTES: usize = 256;

/// How many acknowledgements may wait to be written before the link pauses reading: a peer that
/// asks faster than it reads the answers is slowed down, not cut off.
const MAX_UNWRITTEN_ACKS: usize = 256;

/// How many of a link's events may wait for an answer from elsewhere before it pauses reading.
const MAX_WAITING_EVENTS: usize = 64;

/// Why a packet cannot be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The peer reads too slowly.
    #[error("the connection's queue is full")]
    Full,
    /// Nothing more is written to it.
    #[error("the connection has ended or is about to")]
    Over,
}

impl LinkHandle {
    /// Reserves room for an event whose packet text has `packet_bytes`. The stream gives it back
    /// when the packet has left; [`LinkHandle::unreserve`] does where it was not sent after all.
    ///
    /// # Errors
    /// [`NoRoom`] if the limit is reached already, or the connection is closing: what were queued
    /// then would be lost.
    pub fn reserve(&self, packet_bytes: usize) -> Result<(), NoRoom> {
        let cost = packet_bytes + PACKET_OVERHEAD_BYTES;
        // First reserved, then looked: a closing link does it the other way round, so either this
        // one sees that it closes, or that one sees that something is queued.
        let before = self.0.queued_bytes.fetch_add(cost, Ordering::SeqCst);
        let refused = if self.is_over() {
            NoRoom::Over
        } else if before >= self.0.limits.max_queued_bytes {
            NoRoom::Full
        } else {
            return Ok(());
        };
        self.unreserve(packet_bytes);
        Err(refused)
    }

    /// Gives back what [`LinkHandle::reserve`] took.
    pub fn unreserve(&self, packet_bytes: usize) {
        self.0.give_back(packet_bytes);
    }

    /// Whether at least half of what may wait does.
    pub fn is_half_full(&self) -> bool {
        self.0.queued_bytes.load(Ordering::Relaxed) >= self.0.limits.max_queued_bytes / 2
    }

    /// Counts an acknowledgement whose packet text has `packet_bytes` as queued. There is always
    /// room for one: the link stops reading questions before its answers pile up.
    pub fn reserve_ack(&self, packet_bytes: usize) {
        self.0.queued_bytes.fetch_add(packet_bytes + PACKET_OVERHEAD_BYTES, Ordering::AcqRel);
        self.0.queued_acks.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts Socket.IO's disconnect packet as queued, so that a closing link waits for it.
    pub fn reserve_disconnect(&self) {
        self.0.queued_bytes.fetch_add("41".len() + PACKET_OVERHEAD_BYTES, Ordering::AcqRel);
    }

    /// An event begins to wait for an answer from elsewhere. Many of them pause the reading.
    pub fn begin_wait(&self) {
        self.0.waiting_events.fetch_add(1, Ordering::AcqRel);
    }

    /// An event has been dealt with that had to wait.
    pub fn end_wait(&self) {
        let waiting = self.0.waiting_events.fetch_sub(1, Ordering::AcqRel) - 1;
        if waiting == MAX_WAITING_EVENTS / 2 || waiting == 0 {
            self.0.reader.wake();
        }
    }

    /// Whether the link does not read all that its peer sends for now; then its silence says
    /// nothing.
    pub fn is_paused(&self) -> bool {
        self.0.is_reading_paused()
    }

    /// Whether no event waits.
    pub fn is_waitless(&self) -> bool {
        self.0.waiting_events.load(Ordering::Acquire) == 0
    }
}

impl Shared {
    pub(super) fn is_reading_paused(&self) -> bool {
        self.queued_acks.load(Ordering::Acquire) >= MAX_UNWRITTEN_ACKS
            || self.waiting_events.load(Ordering::Acquire) >= MAX_WAITING_EVENTS
    }

    /// The end of a closing link's stream, once nothing is left to be written. An end that came
    /// sooner would make the transport drop what is queued.
    pub(super) fn poll_written(&self) -> Poll<io::Result<()>> {
        if self.queued_bytes.load(Ordering::SeqCst) > 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Gives back the room of a packet; a closing link may have waited for the last one.
    fn give_back(&self, packet_bytes: usize) {
        let cost = packet_bytes + PACKET_OVERHEAD_BYTES;
        let before = self.queued_bytes.fetch_sub(cost, Ordering::SeqCst);
        if before == cost && self.phase() == Phase::Closing {
            self.reader.wake();
        }
    }

    /// A parcel has left; what its stand-in holds of the room is given back with that.
    pub(super) fn parcel_left(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// A packet has left. The reader may have waited for room for more answers.
    pub(super) fn written(&self, packet_bytes: usize, is_ack: bool) {
        self.give_back(packet_bytes);
        if is_ack && self.queued_acks.fetch_sub(1, Ordering::AcqRel) - 1 == MAX_UNWRITTEN_ACKS / 2 {
            self.reader.wake();
        }
    }
}
