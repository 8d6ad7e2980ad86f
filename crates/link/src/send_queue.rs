//! What may wait to be written to a peer, and what pauses reading from it.
//!
//! An event is queued only below the link's limit, and its sender learns that it was not. An ack is
//! always queued: instead, a link with many unwritten acks reads no more events.

use std::sync::atomic::Ordering;

use crate::handle::{LinkHandle, Phase, Shared};
use crate::outbox::Pushed;
use crate::packet::OutgoingPacket;

/// How many bytes of acks may wait to be written before the link pauses reading: a peer that asks
/// faster than it reads the acks is slowed down, not cut off.
const MAX_QUEUED_ACK_BYTES: usize = 64 * 1024;

/// How many events of a link may be pending before it pauses reading.
const MAX_PENDING_EVENTS: usize = 64;

/// How many bytes of events may be pending before the link pauses reading. What was read by then is
/// still passed on: a message, and a little more.
const MAX_PENDING_EVENT_BYTES: usize = 256 * 1024;

/// Why an event is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads too slowly.
    #[error("the send queue is full")]
    QueueFull,
    /// Nothing more is written to it.
    #[error("the connection has ended or is about to")]
    Closed,
}

/// Bytes that others than the link will write. Dropped once they are written.
#[derive(Debug)]
pub struct SendPermit {
    link: LinkHandle,
    bytes: usize,
}

/// An event that waits for a webhook or another replica. Dropped when it is done.
#[derive(Debug)]
pub struct PendingEvent {
    link: LinkHandle,
    bytes: usize,
}

impl LinkHandle {
    /// Queues the Socket.IO event `event` with one argument, given as JSON. The name of the event
    /// is written as it is, so it must need no escapes.
    ///
    /// # Errors
    /// [`SendError`] if the limit was reached before, or the connection is closing.
    pub fn send_event(&self, event: &str, argument: &str) -> Result<(), SendError> {
        let shared = &*self.0;
        let mut refused = SendError::Closed;
        let pushed = shared.outbox.push(&OutgoingPacket::Event { event, argument }, |bytes| {
            let admitted = shared.admit_event(bytes);
            admitted.map_err(|error| refused = error).is_ok()
        });
        match pushed {
            Pushed::Refused => return Err(refused),
            Pushed::MustWake => shared.reader.wake(),
            Pushed::Queued => {}
        }
        Ok(())
    }

    /// Queues the acknowledgement of the event with the ID `id`. Its argument is given as JSON.
    /// Does nothing once the connection has ended.
    pub fn send_ack(&self, id: i64, argument: &str) {
        let mut digits = itoa::Buffer::new();
        let packet = OutgoingPacket::Ack { id: digits.format(id), argument };
        self.push_always(&packet, |bytes| {
            self.0.queued_ack_bytes.fetch_add(bytes, Ordering::AcqRel);
        });
    }

    /// Queues Socket.IO's disconnect packet, after which clients do not reconnect.
    pub fn send_disconnect(&self) {
        self.push_always(&OutgoingPacket::Disconnect, |_| {});
    }

    fn push_always(&self, packet: &OutgoingPacket<'_>, count: impl FnOnce(usize)) {
        let shared = &*self.0;
        let pushed = shared.outbox.push(packet, |bytes| {
            shared.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
            count(bytes);
            true
        });
        if pushed == Pushed::MustWake {
            shared.reader.wake();
        }
    }

    /// Counts `bytes` that the caller will write by itself.
    ///
    /// # Errors
    /// As [`LinkHandle::send_event`].
    pub fn reserve(&self, bytes: usize) -> Result<SendPermit, SendError> {
        // First counted, then checked: a closing link does it the other way round, so either this
        // one sees that it closes, or that one sees that something is queued.
        let reserved = self.0.reserved_bytes.fetch_add(bytes, Ordering::SeqCst);
        let before = reserved + self.0.queued_bytes.load(Ordering::SeqCst);
        let permit = SendPermit { link: self.clone(), bytes };
        if self.is_closed() {
            Err(SendError::Closed)
        } else if before >= self.0.limits.max_queued_bytes {
            Err(SendError::QueueFull)
        } else {
            Ok(permit)
        }
    }

    /// Whether at least half of the bytes wait that may wait.
    pub fn is_half_full(&self) -> bool {
        self.0.waiting_bytes() >= self.0.limits.max_queued_bytes / 2
    }

    /// Counts an event of `bytes` as pending. Many of them, or long ones, pause the reading.
    pub fn begin_event(&self, bytes: usize) -> PendingEvent {
        self.0.pending_event_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.0.pending_events.fetch_add(1, Ordering::AcqRel);
        PendingEvent { link: self.clone(), bytes }
    }

    /// Counts an event that costs as much as several messages as so many messages more.
    pub fn charge(&self, messages: u64) {
        self.0.charged_messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// Whether no event is pending.
    pub fn is_idle(&self) -> bool {
        self.0.pending_events.load(Ordering::Acquire) == 0
    }

    /// Whether the link does not read all that its peer sends for now; then its silence says
    /// nothing.
    pub fn is_reading_paused(&self) -> bool {
        self.0.is_reading_paused()
    }
}

impl Drop for SendPermit {
    fn drop(&mut self) {
        let shared = &*self.link.0;
        shared.reserved_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        shared.wake_if_drained();
    }
}

impl Drop for PendingEvent {
    fn drop(&mut self) {
        let shared = &*self.link.0;
        let bytes_before = shared.pending_event_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let pending = shared.pending_events.fetch_sub(1, Ordering::AcqRel) - 1;
        let was_paused_by_bytes = bytes_before >= MAX_PENDING_EVENT_BYTES
            && bytes_before - self.bytes < MAX_PENDING_EVENT_BYTES;
        if was_paused_by_bytes || pending == MAX_PENDING_EVENTS / 2 || pending == 0 {
            shared.reader.wake();
        }
    }
}

impl Shared {
    fn admit_event(&self, bytes: usize) -> Result<(), SendError> {
        if self.phase() > Phase::Open {
            return Err(SendError::Closed);
        }
        if self.waiting_bytes() >= self.limits.max_queued_bytes {
            return Err(SendError::QueueFull);
        }
        self.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the link does not pass on all that its peer sends for now.
    pub(crate) fn is_reading_paused(&self) -> bool {
        self.is_backpressured() || self.is_rate_limited.load(Ordering::Relaxed)
    }

    /// Whether too much is held for the link.
    pub(crate) fn is_backpressured(&self) -> bool {
        self.queued_ack_bytes.load(Ordering::Acquire) >= MAX_QUEUED_ACK_BYTES
            || self.pending_events.load(Ordering::Acquire) >= MAX_PENDING_EVENTS
            || self.pending_event_bytes.load(Ordering::Acquire) >= MAX_PENDING_EVENT_BYTES
            || self.is_paused_for_memory()
    }

    /// What waits to be written, by the link or by others, in bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::SeqCst) + self.reserved_bytes.load(Ordering::SeqCst)
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_drained(&self) -> bool {
        self.waiting_bytes() == 0
    }

    /// Counts queued bytes that have left.
    pub(crate) fn release_bytes(&self, bytes: usize) {
        let before = self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if before == bytes {
            self.wake_if_drained();
        }
    }

    /// A closing link may have waited for the last bytes.
    fn wake_if_drained(&self) {
        if self.phase() == Phase::Closing && self.is_drained() {
            self.reader.wake();
        }
    }

    /// Counts acks that have left. The reader may have paused for them.
    pub(crate) fn release_acks(&self, bytes: usize) {
        let before = self.queued_ack_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= MAX_QUEUED_ACK_BYTES && before - bytes < MAX_QUEUED_ACK_BYTES {
            self.reader.wake();
        }
    }
}
