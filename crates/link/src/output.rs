//! What a stream writes: the transport's own frames, and the frames of the outbox between them.
//!
//! The transport writes the handshake, heartbeats, replies to CONNECT and control frames. The
//! outbox has everything else. Neither may begin within a frame of the other. Whichever side is
//! polled first writes; tokio keeps one write waker for a socket, which is enough because
//! tokio-tungstenite hands down a waker that wakes the reading and the writing task alike.
//!
//! Until the transport has accepted the node's CONNECT, the outbox is corked: the greeting must not
//! overtake the reply.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use crate::CloseReason;
use crate::frame::{FrameScanner, PING};
use crate::handle::{Phase, Shared};
use crate::outbox::Frames;
use crate::packet::Packet;
use crate::stream::{Socket, Stream};
use crate::write_deadline::WriteDeadline;

/// The most slices that one system call writes.
const MAX_SLICES: usize = 16;

/// The writing side of a stream that carries WebSocket frames.
#[derive(Default)]
pub(crate) struct Output {
    transport: Transport,
    /// Frames that were taken from the outbox and have not left.
    frames: Frames,
    /// The outbox was empty at the last look; pushes wake the stream from then on.
    is_asleep: bool,
}

/// How far the transport has come in its own output.
#[derive(Default, Clone)]
struct Transport {
    scanner: FrameScanner,
    connect_reply: Option<ConnectReply>,
    heartbeat_sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectReply {
    Accepted,
    Refused,
}

impl Transport {
    fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((taken, message)) = self.scanner.next_message(bytes) {
            bytes = &bytes[taken..];
            match message.packet() {
                Packet::Connect => self.connect_reply = Some(ConnectReply::Accepted),
                Packet::ConnectError => self.connect_reply = Some(ConnectReply::Refused),
                Packet::Ping => self.heartbeat_sent = true,
                Packet::ConnectElsewhere | Packet::Leave | Packet::Pong | Packet::Other => {}
            }
        }
    }

    /// Whether frames of the outbox may be written now.
    fn permits_frames(&self) -> bool {
        self.connect_reply == Some(ConnectReply::Accepted) && self.scanner.is_between_frames()
    }
}

impl Output {
    /// Whether the transport has replied to the node's CONNECT.
    pub(crate) fn has_connect_reply(&self) -> bool {
        self.transport.connect_reply.is_some()
    }

    /// The stream is polled, so that pushes need not wake it.
    pub(crate) fn wake_up(&mut self, shared: &Shared) {
        if std::mem::take(&mut self.is_asleep) {
            shared.outbox.wake_up();
        }
    }

    /// Takes what may be written now. Returns whether there is anything.
    fn take_frames(&mut self, shared: &Shared) -> bool {
        if !self.transport.scanner.is_between_frames() {
            return false;
        }
        let is_ping_due = shared.ping_due.load(Ordering::Acquire) && !self.frames.is_begun();
        if is_ping_due && shared.ping_due.swap(false, Ordering::AcqRel) {
            self.frames.push_front(&PING);
            shared.queued_bytes.fetch_add(PING.len(), Ordering::SeqCst);
        }
        self.take_queued_frames(self.transport.permits_frames(), shared)
    }

    /// Takes frames from the outbox if that is permitted. Returns whether there is anything to
    /// write.
    fn take_queued_frames(&mut self, is_permitted: bool, shared: &Shared) -> bool {
        if self.frames.is_empty() && is_permitted {
            match shared.outbox.take_or_sleep() {
                Some(frames) => self.frames = frames,
                None => self.is_asleep = true,
            }
        }
        !self.frames.is_empty()
    }
}

impl<S: Socket> Stream<S> {
    /// Writes the frames of the outbox. Ready when none may be written now, pending while the peer
    /// has to read first, also what the socket itself still holds. (tokio makes a task that goes on for long pause here now and then.)
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let shared = &*self.handle.0;
            let has_frames = self.output.as_mut().is_some_and(|output| output.take_frames(shared));
            if !has_frames {
                return self.poll_flush_socket(cx);
            }
            ready!(self.poll_write_frames(cx, &[]))?;
        }
    }

    /// Writes what the socket holds in a buffer of its own, which may wait for the peer as long as any
    /// byte. TCP has no such buffer, and is always ready.
    pub(crate) fn poll_flush_socket(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.handle.0;
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.flush_deadline = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => {
                shared.finish(Phase::Dead, CloseReason::Broken);
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {}
        }
        shared.writer.register(cx.waker());
        if shared.phase() == Phase::Dead {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let timeout = shared.limits.write_timeout;
        let deadline =
            self.flush_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        shared.finish(Phase::Dead, CloseReason::WriteTimeout);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes bytes of the transport, and frames of the outbox behind them in the same system call
    /// where a frame of the transport ends with them. Returns how many bytes of the transport have
    /// left.
    pub(crate) fn poll_write_transport(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        while self.output.as_ref().is_some_and(|output| output.frames.is_begun()) {
            ready!(self.poll_write_frames(cx, &[]))?;
        }
        let Some(output) = &mut self.output else { return self.poll_write_plain(cx, bytes) };
        let mut behind = output.transport.clone();
        behind.advance(bytes);
        let is_permitted = behind.permits_frames();
        if is_permitted && output.take_queued_frames(is_permitted, &self.handle.0) {
            return self.poll_write_frames(cx, bytes);
        }
        let written = ready!(self.poll_write_plain(cx, bytes))?;
        self.advance_transport(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    /// Writes once: bytes of the transport, then taken frames. Returns how many bytes of the
    /// transport have left.
    fn poll_write_frames(
        &mut self,
        cx: &mut Context<'_>,
        transport: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(output) = &mut self.output else { return Poll::Ready(Ok(0)) };
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        slices[0] = IoSlice::new(transport);
        let skipped = usize::from(transport.is_empty());
        let filled = 1 + output.frames.fill(&mut slices[1..]);
        let socket = Pin::new(&mut self.socket);
        let polled = match &slices[skipped..filled] {
            // The system call for one slice is the cheaper one.
            [slice] => socket.poll_write(cx, slice),
            slices => socket.poll_write_vectored(cx, slices),
        };
        let written = ready!(self.poll_progress(cx, polled, transport.len()))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_transport = written.min(transport.len());
        self.advance_transport(&transport[..of_transport]);
        let Some(output) = &mut self.output else { return Poll::Ready(Ok(0)) };
        let ack_bytes = output.frames.advance(written - of_transport);
        let shared = &*self.handle.0;
        shared.release_bytes(written - of_transport);
        if ack_bytes > 0 {
            shared.release_acks(ack_bytes);
        }
        Poll::Ready(Ok(of_transport))
    }

    /// Follows bytes of the transport that have left.
    fn advance_transport(&mut self, written: &[u8]) {
        let Some(output) = &mut self.output else { return };
        output.transport.advance(written);
        if std::mem::take(&mut output.transport.heartbeat_sent)
            && let Some(incoming) = &mut self.incoming
        {
            incoming.throttle.heartbeat_sent();
            // While it pauses, it may be the link that has to reply.
            self.handle.0.reader.wake();
        }
    }

    fn poll_write_plain(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.poll_progress(cx, polled, bytes.len())
    }

    /// Writes what is not WebSocket.
    pub(crate) fn poll_write_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.poll_progress(cx, polled, slices.iter().map(|slice| slice.len()).sum())
    }

    /// Watches the progress of writing: counts what has left, and waits for the peer to read, but
    /// not for ever. `transport_bytes` of the transport's own wait beside what is queued.
    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
        transport_bytes: usize,
    ) -> Poll<io::Result<usize>> {
        let shared = &*self.handle.0;
        match polled {
            Poll::Ready(Ok(written)) => {
                let before = shared.bytes_written.fetch_add(written as u64, Ordering::Relaxed);
                self.write_deadline.take_if(|it| it.is_over(before + written as u64));
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => {
                shared.finish(Phase::Dead, CloseReason::Broken);
                Poll::Ready(Err(error))
            }
            Poll::Pending => self.poll_write_deadline(cx, transport_bytes).map(Err),
        }
    }

    fn poll_write_deadline(
        &mut self,
        cx: &mut Context<'_>,
        transport_bytes: usize,
    ) -> Poll<io::Error> {
        let shared = &*self.handle.0;
        shared.writer.register(cx.waker());
        if shared.phase() == Phase::Dead {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        let waiting = transport_bytes + shared.queued_bytes.load(Ordering::Relaxed);
        let end = shared.bytes_written.load(Ordering::Relaxed) + waiting as u64;
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::new(WriteDeadline::new(shared.limits.write_timeout)));
        ready!(deadline.poll(cx, end));
        shared.finish(Phase::Dead, CloseReason::WriteTimeout);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

#[cfg(test)]
mod tests;
