//! When a link does not read on: others have their turn, or the peer sends too much.

use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::RateLimit;
use crate::frame::HEARTBEAT_REPLY;
use crate::incoming::Incoming;
use crate::stream::{Socket, Stream};

impl<S: Socket> Stream<S> {
    /// Counts what the peer's last messages have cost in addition.
    pub(crate) fn charge(&mut self) {
        let charged = &self.handle.0.charged_messages;
        if charged.load(Ordering::Relaxed) > 0
            && let Some(incoming) = &mut self.incoming
        {
            incoming.throttle.charge(charged.swap(0, Ordering::Relaxed));
        }
    }

    /// Lets others have their turn if this link has had its own.
    pub(crate) fn yields(&mut self, cx: &Context<'_>) -> bool {
        let Some(Incoming { throttle, .. }) = &mut self.incoming else { return false };
        let is_over = throttle.is_turn_over();
        if is_over {
            throttle.begin_turn();
            cx.waker().wake_by_ref();
        }
        is_over
    }

    /// Waits until the peer may send again; something of it waits to be passed on.
    pub(crate) fn pause(&mut self, cx: &mut Context<'_>, limit: RateLimit, time: Duration) {
        let pause = self.rate_pause.get_or_insert_with(|| {
            self.handle.0.is_rate_limited.store(true, Ordering::Relaxed);
            self.slot.rate_limited(limit);
            Box::pin(tokio::time::sleep(time))
        });
        if pause.as_mut().poll(cx).is_ready() {
            self.rate_pause = None;
            cx.waker().wake_by_ref();
        }
    }

    /// The peer may send.
    pub(crate) fn end_pause(&mut self) {
        self.rate_pause = None;
        self.handle.0.is_rate_limited.store(false, Ordering::Relaxed);
    }

    /// Answers a heartbeat for a peer that has sent something since, or may have, if its own reply may
    /// wait behind what the link does not pass on: the transport would take the pause for the peer's
    /// death. Where the peer's reply comes later, it counts for the next heartbeat. Returns whether
    /// there was one to answer.
    pub(crate) fn reply_to_heartbeat(&mut self, is_full: bool, buf: &mut ReadBuf<'_>) -> bool {
        let Some(incoming) = &mut self.incoming else { return false };
        let fits = buf.remaining() >= HEARTBEAT_REPLY.len() && incoming.is_between_messages();
        let replies = fits && incoming.throttle.take_heartbeat(is_full);
        if replies {
            buf.put_slice(&HEARTBEAT_REPLY);
        }
        replies
    }
}
