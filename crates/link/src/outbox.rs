//! What waits to be written to a peer: finished WebSocket frames, in order.
//!
//! Anybody may push; only the stream takes. Small frames are appended to a buffer that is reused,
//! a large frame keeps its own. An idle link holds no buffer.
//!
//! A push wakes the stream only if it sleeps. The stream goes to sleep under the same lock under
//! which it finds nothing queued, so that either it sees a frame or the frame's push sees it
//! asleep: no wake-up is lost. `tests` checks that in every order of the steps, with loom.

mod frames;
mod pool;

pub(crate) use frames::Frames;

#[cfg(feature = "loom")]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
use std::sync::{Mutex, MutexGuard};

use std::sync::PoisonError;

use crate::packet::OutgoingPacket;
use frames::TextFrame;

/// The frames that the stream has not taken yet.
pub(crate) struct Outbox(Mutex<Queue>);

struct Queue {
    frames: Frames,
    /// The stream looks here by itself before it sleeps.
    is_awake: bool,
    /// Nothing is written any more.
    is_finished: bool,
}

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The stream takes the frame without being woken.
    Queued,
    /// The stream sleeps and has to be woken.
    MustWake,
    /// The caller's condition does not hold, or nothing is written any more.
    Refused,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Queue { frames: Frames::default(), is_awake: true, is_finished: false }))
    }

    /// Queues a packet as a text frame if `admits` takes it, given the length of the frame in
    /// bytes. `admits` runs under the lock: what it reads there cannot change before the frame is
    /// queued without the stream seeing the frame.
    pub(crate) fn push(
        &self,
        packet: &OutgoingPacket<'_>,
        admits: impl FnOnce(usize) -> bool,
    ) -> Pushed {
        let frame = TextFrame::new(packet);
        let mut queue = self.lock();
        if queue.is_finished || !admits(frame.bytes()) {
            return Pushed::Refused;
        }
        queue.frames.push(frame);
        if std::mem::replace(&mut queue.is_awake, true) { Pushed::Queued } else { Pushed::MustWake }
    }

    /// The stream is polled: it looks here before it sleeps, so that pushes need not wake it.
    pub(crate) fn wake_up(&self) {
        self.lock().is_awake = true;
    }

    /// Takes all frames. If there are none, the stream sleeps from here on.
    pub(crate) fn take_or_sleep(&self) -> Option<Frames> {
        let mut queue = self.lock();
        if queue.frames.is_empty() {
            queue.is_awake = false;
            return None;
        }
        Some(std::mem::take(&mut queue.frames))
    }

    /// Refuses all frames from here on.
    pub(crate) fn finish(&self) {
        self.lock().is_finished = true;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
