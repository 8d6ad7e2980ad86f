//! The stream that HTTP and WebSocket read and write.
//!
//! - `async_io`: its reading and writing as tokio knows them.

mod async_io;

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::CloseReason;
use crate::closing::Timers;
use crate::handle::{Gate, LinkHandle, Phase};
use crate::incoming::{Incoming, Received};
use crate::output::Output;
use crate::read_buffer::ReadBuffer;
use crate::set::Slot;
use crate::throttle::Throttle;
use crate::write_deadline::WriteDeadline;

/// What a link can stand on: a TCP connection, or anything that behaves like one. One with a buffer
/// of its own, such as TLS, writes it on a flush, and takes no more bytes until the buffer is empty.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Makes the coming drop reset the connection instead of closing it in good order.
    fn reset_on_drop(&self);
}

impl Socket for TcpStream {
    fn reset_on_drop(&self) {
        // Fails if the connection is gone, which is as good.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// A client's connection with everything that the [crate] promises of it. Boxed, because the task
/// that takes it over keeps space for it in several of its stages.
pub struct Link<S: Socket = TcpStream>(Box<Stream<S>>);

pub(crate) struct Stream<S: Socket> {
    pub(crate) socket: S,
    pub(crate) handle: LinkHandle,
    /// Both are set once the stream carries WebSocket frames.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) output: Option<Output>,
    /// The peer has said that it leaves. What it sent before is passed on all the same.
    pub(crate) is_leaving: bool,
    /// Bytes that were read and not recorded as received yet.
    unrecorded_bytes: usize,
    /// Runs while a write waits for the peer.
    pub(crate) write_deadline: Option<Box<WriteDeadline>>,
    /// Runs while the socket's own buffer waits for the peer.
    pub(crate) flush_deadline: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer is in the middle of a message; with the message's number.
    message_deadline: Option<(u32, Pin<Box<Sleep>>)>,
    /// Runs while the peer has sent as much as it may in a second.
    pub(crate) rate_pause: Option<Pin<Box<Sleep>>>,
    /// Runs while a closing link waits for something that may never come.
    pub(crate) closing: Timers,
    attached: Option<Box<dyn Send>>,
    pub(crate) slot: Slot,
}

impl<S: Socket> Link<S> {
    pub(crate) fn new(socket: S, handle: LinkHandle, slot: Slot) -> Self {
        Self(Box::new(Stream {
            socket,
            handle,
            incoming: None,
            output: None,
            is_leaving: false,
            unrecorded_bytes: 0,
            write_deadline: None,
            flush_deadline: None,
            message_deadline: None,
            rate_pause: None,
            closing: Timers::default(),
            attached: None,
            slot,
        }))
    }

    /// Keeps a value until the connection is closed, such as a permit to have it.
    pub fn attach(&mut self, value: impl Send + 'static) {
        let before = self.0.attached.take();
        self.0.attached = Some(Box::new((value, before)));
    }

    /// Returns the socket, to change what it is before any byte of it has been passed on.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.0.socket
    }

    /// Returns the handle by which the rest of the program knows this link.
    pub fn handle(&self) -> LinkHandle {
        self.0.handle.clone()
    }

    /// Makes the stream carry WebSocket frames from here on. `read_ahead` was read behind the
    /// upgrade request and comes first.
    pub fn upgrade(&mut self, read_ahead: Bytes) {
        self.carry_frames(true, read_ahead);
    }

    /// Makes the stream carry the WebSocket frames of a protocol without CONNECT packets: messages may
    /// be as long as any from the first one on.
    pub fn upgrade_without_connect(&mut self, read_ahead: Bytes) {
        self.carry_frames(false, read_ahead);
    }

    fn carry_frames(&mut self, awaits_connect: bool, read_ahead: Bytes) {
        let stream = &mut *self.0;
        let mut incoming = Incoming::new(Throttle::new(&stream.handle.0.limits), awaits_connect);
        incoming.receive(ReadBuffer::from(read_ahead));
        match incoming.observe() {
            Received::Ordinary => {}
            Received::Leave => stream.handle.close(CloseReason::NodeLeft),
            Received::Violation => stream.handle.kill(CloseReason::ProtocolViolation),
        }
        stream.incoming = Some(incoming);
        stream.output = Some(Output::default());
        stream.handle.0.is_upgraded.store(true, Ordering::SeqCst);
    }
}

impl<S: Socket> Stream<S> {
    /// Reads from the socket and takes note of its end.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                if read == 0 && buf.remaining() > 0 {
                    self.handle.0.finish(Phase::Closing, CloseReason::PeerClosed);
                    return self.poll_drained(cx);
                }
                self.unrecorded_bytes += read;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.handle.0.finish(Phase::Dead, CloseReason::Broken);
                Poll::Ready(Err(error))
            }
        }
    }

    /// Passes on what was read before, if nothing keeps it from the transport. Pending if there is
    /// nothing to pass on.
    pub(crate) fn pass_on(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.handle.0;
        let Some(incoming) = &mut self.incoming else { return Poll::Pending };
        if incoming.is_empty() || shared.is_backpressured() {
            return Poll::Pending;
        }
        let gate = shared.gate();
        let may_pass = match shared.phase() {
            Phase::Open => gate != Gate::Discard,
            Phase::Closing => self.is_leaving && gate == Gate::Open,
            Phase::Dead => false,
        };
        if !may_pass {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let received = incoming.pass_on(buf, gate == Gate::Open);
        self.take_note(received, true)?;
        if buf.filled().len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Ends what the peer ends, or loses. Only if `passes`, what came before it left is passed on.
    ///
    /// # Errors
    /// If nothing may be passed on any more.
    fn take_note(&mut self, received: Received, passes: bool) -> io::Result<()> {
        match received {
            Received::Ordinary => Ok(()),
            Received::Leave => {
                self.is_leaving |= passes;
                // It has left, although the transport will know only later: behind a full
                // queue, much later.
                self.handle.0.finish(Phase::Closing, CloseReason::NodeLeft);
                Ok(())
            }
            Received::Violation => {
                self.handle.0.finish(Phase::Dead, CloseReason::ProtocolViolation);
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Passes on what the transport may see, and buffers what it may not: so the peer's end, its
    /// leaving and its heartbeats are noticed all the same.
    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.handle.0.gate();
        if gate == Gate::Discard {
            return self.poll_discarding(cx, buf);
        }
        if self.yields(cx) {
            return Poll::Pending;
        }
        let exceeded = self.incoming.as_mut().and_then(|it| it.throttle.refill());
        let polled = self.poll_messages(cx, buf, gate, exceeded.is_some());
        match exceeded {
            Some((limit, time)) => {
                let waits = self.incoming.as_ref().is_some_and(|it| !it.is_empty());
                if polled.is_pending() && waits {
                    self.pause(cx, limit, time);
                }
            }
            None if self.handle.0.is_rate_limited.load(Ordering::Relaxed) => self.end_pause(),
            None => {}
        }
        polled
    }

    fn poll_messages(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        gate: Gate,
        is_rate_limited: bool,
    ) -> Poll<io::Result<()>> {
        let is_backpressured = self.handle.0.is_backpressured();
        let is_paused = is_rate_limited || is_backpressured;
        loop {
            if let Poll::Ready(passed) = self.pass_on(buf) {
                return Poll::Ready(passed);
            }
            let Some(incoming) = &mut self.incoming else { return Poll::Pending };
            let received = incoming.observe();
            let capacity = incoming.capacity();
            self.take_note(received, !is_backpressured || gate == Gate::Hold)?;
            if is_paused && gate == Gate::Open && self.reply_to_heartbeat(capacity == 0, buf) {
                return Poll::Ready(Ok(()));
            }
            if capacity == 0 {
                return Poll::Pending;
            }
            let mut read = ReadBuffer::shared();
            let mut space = ReadBuf::new(&mut read.space()[..capacity]);
            let polled = self.poll_socket(cx, &mut space);
            let length = space.filled().len();
            read.fill(length);
            let Some(incoming) = self.incoming.as_mut().filter(|_| length > 0) else {
                return polled;
            };
            incoming.throttle.record_received();
            incoming.receive(read);
        }
    }

    /// Reads only to notice the peer's end.
    fn poll_discarding(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            ready!(self.poll_socket(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.charge();
        if let Poll::Ready(passed) = self.pass_on(buf) {
            return Poll::Ready(passed);
        }
        // Before anything is looked at, so that no change after the look goes unnoticed.
        self.handle.0.reader.register(cx.waker());
        if let Some(output) = &mut self.output {
            output.wake_up(&self.handle.0);
        }
        match self.handle.0.phase() {
            Phase::Open => {}
            Phase::Closing => return self.poll_closing(cx, buf),
            Phase::Dead => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
        let polled = match self.incoming {
            Some(_) => self.poll_incoming(cx, buf),
            None => self.poll_socket(cx, buf),
        };
        // Only when a leaving peer has been noted: its last bytes would count as proof of life.
        if self.unrecorded_bytes > 0 && self.incoming.as_ref().is_none_or(Incoming::is_observed) {
            self.handle.0.record_received(std::mem::take(&mut self.unrecorded_bytes));
        }
        if polled.is_pending() {
            if let Some(incoming) = &mut self.incoming {
                incoming.throttle.begin_turn();
                incoming.park();
                self.handle.0.incoming_bytes.store(incoming.held_bytes(), Ordering::Relaxed);
            }
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if self.poll_message_deadline(cx).is_ready() {
                self.handle.0.finish(Phase::Dead, CloseReason::MessageTimeout);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }

    /// Ready when the peer takes too long for the rest of a message. A link that does not read all
    /// that comes cannot tell.
    fn poll_message_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &*self.handle.0;
        let begun = self.incoming.as_ref().and_then(Incoming::begun_message);
        let Some(number) = begun.filter(|_| !shared.is_reading_paused()) else {
            self.message_deadline = None;
            return Poll::Pending;
        };
        let timer = match &mut self.message_deadline {
            Some((known, timer)) if *known == number => timer,
            deadline => {
                let timer = Box::pin(tokio::time::sleep(shared.limits.message_timeout));
                &mut deadline.insert((number, timer)).1
            }
        };
        timer.as_mut().poll(cx)
    }
}

impl<S: Socket> Drop for Stream<S> {
    fn drop(&mut self) {
        self.handle.0.finish(Phase::Dead, CloseReason::Transport);
        if self.handle.0.is_abortive() {
            // Otherwise the kernel would go on for minutes to offer the peer what it never reads.
            self.socket.reset_on_drop();
        }
    }
}
