//! One channel to another peer: what the rest of the crate holds of it, and the WebSocket below.
//!
//! Both sides send their ID at once; every later frame is a message. Below is a [`Link`], for
//! accepted and dialed channels alike, so that all have the same deadlines and limits. Only the time
//! of one message is not limited on dialed channels, whose link may carry TLS. Each queued frame
//! holds a permit of the link. A message that gets none is dropped instead of delayed: one
//! slow peer must not slow down the others.
//!
//! A channel knows nothing of the peer that owns it: the owner reads messages from it.
//!
//! - `websocket`: the frames of a channel that is a WebSocket.
//! - `read_ahead`: reads a burst of frames of a dialed channel in one system call.
//! - `end`: why channels end.
//!
//! [`Link`]: link::Link

mod end;
mod read_ahead;
mod websocket;

pub(crate) use end::End;
pub(crate) use read_ahead::ReadAhead;
pub(crate) use websocket::{close, config, exchange_ids, keep_alive, next_message, write};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::id::PeerId;
use super::outcome::Outcome;
use link::{CloseReason, LinkHandle, SendError, SendPermit};

/// The longest time that the close handshake may take.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most frames in a channel's queue; the link limits their bytes.
const MAX_QUEUED_FRAMES: usize = 4096;

/// How long a sender pauses whose message met a queue that is half full: enough for a receiver
/// that reads to catch up, and little for others who share the sender's channel.
pub(crate) const BACKPRESSURE_PAUSE: Duration = Duration::from_millis(1);

/// A handle to a channel.
#[derive(Clone, Debug)]
pub(crate) struct Channel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: PeerId,
    link: LinkHandle,
    /// The longest frame that the channel carries.
    max_frame_bytes: usize,
    queue: mpsc::Sender<Outgoing>,
    probe: Notify,
    /// Notified when a ping has been written.
    pinged: Notify,
}

/// An entry of a channel's queue.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// The permit is dropped when the frame has been written.
    Frame(Utf8Bytes, SendPermit),
    Ping,
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Channel {
    /// Creates the channel of a link to the peer `id`, and its queue.
    pub(crate) fn new(
        id: PeerId,
        link: LinkHandle,
        max_frame_bytes: usize,
    ) -> (Self, mpsc::Receiver<Outgoing>) {
        let (queue, queued) = mpsc::channel(MAX_QUEUED_FRAMES);
        let (probe, pinged) = (Notify::new(), Notify::new());
        let shared = Shared { id, link, max_frame_bytes, queue, probe, pinged };
        (Self(Arc::new(shared)), queued)
    }

    /// The peer at the other side.
    pub(crate) fn id(&self) -> PeerId {
        self.0.id
    }

    /// Queues a frame.
    pub(crate) fn send(&self, frame: Utf8Bytes) -> Outcome {
        if frame.len() > self.0.max_frame_bytes {
            return Outcome::TooLong;
        }
        let permit = match self.0.link.reserve(frame.len()) {
            Ok(permit) => permit,
            Err(SendError::QueueFull) => return Outcome::QueueFull,
            Err(SendError::Closed) => return Outcome::Closing,
        };
        match self.0.queue.try_send(Outgoing::Frame(frame, permit)) {
            Ok(()) => Outcome::Relayed,
            Err(mpsc::error::TrySendError::Full(_)) => Outcome::QueueFull,
            Err(mpsc::error::TrySendError::Closed(_)) => Outcome::Closing,
        }
    }

    /// Whether its queue is half full.
    pub(crate) fn is_half_full(&self) -> bool {
        self.0.queue.capacity() < MAX_QUEUED_FRAMES / 2 || self.0.link.is_half_full()
    }

    /// Checks soon that the other side is alive.
    pub(crate) fn probe(&self) {
        self.0.probe.notify_one();
    }

    /// Closes the channel after what is queued.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.0.link.close(reason);
    }
}
