//! The stream that HTTP and WebSocket read and write.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::frames::FrameScanner;
use super::incoming::Incoming;
use super::parcels::Outgoing;
use super::set::Place;
use super::{CloseReason, Gate, LinkHandle, Phase, Shared};

/// A WebSocket ping without a payload, as a server sends it.
const PING: [u8; 2] = [0x89, 0x00];

/// How many bytes a link reads before it lets other tasks go on: a sender in full flow must not
/// fill its receiver's queue before the receiver's writer had a turn.
const TURN_BYTES: usize = 64 * 1024;

/// The most that one read takes from the socket, in bytes. The buffer is on the stack: all
/// connections of a thread share it.
const READ_BYTES: usize = 64 * 1024;

/// A client's TCP stream with everything that [`super`] promises of it. Boxed, because whoever
/// takes it over keeps places for it in several stages of its own task.
pub struct Link(Box<Stream>);

pub(super) struct Stream {
    pub(super) socket: TcpStream,
    pub(super) handle: LinkHandle,
    turn_bytes: usize,
    /// Bytes that were read and not yet taken for a sign of life.
    unheard_bytes: usize,
    /// The peer has said goodbye: what it said before that is handed on all the same.
    pub(super) is_parting: bool,
    /// Both are set once the stream carries WebSocket frames.
    pub(super) incoming: Option<Incoming>,
    pub(super) outgoing: Option<FrameScanner>,
    /// Bytes of a ping that still have to be written before anything else.
    ping_left: usize,
    /// Messages that are written past the transport.
    pub(super) parcels: Outgoing,
    /// Runs while a write waits for the peer.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    /// Runs while a closing link waits for the peer to close too.
    pub(super) linger: Option<Pin<Box<Sleep>>>,
    /// Runs while a parting peer's admission may still come.
    pub(super) admission: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Link {
    pub(super) fn new(socket: TcpStream, handle: LinkHandle, place: Place) -> Self {
        Self(Box::new(Stream {
            socket,
            handle,
            turn_bytes: 0,
            unheard_bytes: 0,
            is_parting: false,
            incoming: None,
            outgoing: None,
            ping_left: 0,
            parcels: Outgoing::default(),
            deadline: None,
            linger: None,
            admission: None,
            _place: place,
        }))
    }

    /// The handle by which the rest of the broker knows this link.
    pub fn handle(&self) -> LinkHandle {
        self.0.handle.clone()
    }

    /// From here on the stream carries WebSocket frames; `read_ahead` was read behind the upgrade
    /// request and comes first.
    pub fn upgrade(&mut self, read_ahead: Bytes) {
        let stream = &mut *self.0;
        let mut incoming = Incoming::default();
        stream.handle.0.note_incoming(incoming.take_in(&read_ahead, None));
        stream.incoming = Some(incoming);
        stream.outgoing = Some(FrameScanner::default());
        stream.handle.0.upgraded.store(true, Ordering::SeqCst);
    }
}

impl Stream {
    /// Reads from the peer and takes note of its end.
    fn poll_peer(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let shared = &*self.handle.0;
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending => {
                self.turn_bytes = 0;
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                if read == 0 && buf.remaining() > 0 {
                    shared.finish(Phase::Closing, CloseReason::PeerClosed);
                    return shared.poll_written();
                }
                self.turn_bytes += read;
                self.unheard_bytes += read;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                shared.finish(Phase::Dead, CloseReason::Broken);
                Poll::Ready(Err(error))
            }
        }
    }

    /// Hands on what was read before, if nothing keeps it from the transport.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let shared = &*self.handle.0;
        match &mut self.incoming {
            Some(incoming) if !incoming.is_empty() => {
                match shared.phase() {
                    Phase::Open => {}
                    Phase::Closing if self.is_parting && shared.gate() == Gate::Open => {}
                    _ => return false,
                }
                if shared.is_reading_paused() {
                    return false;
                }
                match shared.gate() {
                    Gate::Open => incoming.release(),
                    Gate::Hold => {}
                    Gate::Discard => return false,
                }
                incoming.hand_on(buf)
            }
            _ => false,
        }
    }

    /// Hands on what the transport may see, and reads ahead what it may not: then the peer's end,
    /// its goodbye and its signs of life are noticed all the same.
    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.handle.0.gate();
        if gate == Gate::Discard {
            return self.poll_discarding(cx, buf);
        }
        let before = buf.filled().len();
        let is_paused = self.handle.0.is_reading_paused();
        loop {
            if self.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            let room = self.incoming.as_ref().map_or(0, Incoming::room);
            if room == 0 {
                return Poll::Pending;
            }
            let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
            let mut scratch = ReadBuf::uninit(&mut scratch[..room.min(READ_BYTES)]);
            let polled = self.poll_peer(cx, &mut scratch);
            let (read, Some(incoming)) = (scratch.filled(), &mut self.incoming) else {
                return polled;
            };
            if read.is_empty() {
                return polled;
            }
            // What is held comes first; as long as there is any, all else goes behind it.
            let space = (gate == Gate::Open && !is_paused).then_some(&mut *buf);
            let flows = space.is_some();
            let is_goodbye = incoming.take_in(read, space);
            self.is_parting |= is_goodbye && (flows || gate == Gate::Hold);
            self.handle.0.note_incoming(is_goodbye);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
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
            ready!(self.poll_peer(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }

    /// Writes a ping that is due, if the stream stands between two frames and takes it at once. A
    /// stream that does not is waiting for its peer already, which says as much.
    fn try_ping(&mut self) {
        if self.ping_left == 0 {
            let between = self.outgoing.as_ref().is_some_and(FrameScanner::is_between_frames);
            if !between
                || self.parcels.is_under_way()
                || !self.handle.0.ping_due.swap(false, Ordering::AcqRel)
            {
                return;
            }
            self.ping_left = PING.len();
        }
        match self.socket.try_write(&PING[PING.len() - self.ping_left..]) {
            Ok(written) => self.ping_left -= written,
            // Nothing of it has left: it is due again at the next chance.
            Err(_) if self.ping_left == PING.len() => {
                self.ping_left = 0;
                self.handle.0.ping_due.store(true, Ordering::Release);
            }
            Err(_) => {}
        }
    }

    /// Writes frames, behind the rest of a ping where one was cut in two.
    fn poll_frames(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.ping_left > 0 {
            let rest = &PING[PING.len() - self.ping_left..];
            self.ping_left -= ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
        }
        self.parcels.fetch(&self.handle.0);
        if !self.parcels.is_empty() {
            return self.poll_parcels(cx, bytes);
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    /// Takes note of bytes that have left and gives back the room of whole packets.
    fn wrote(&mut self, bytes: &[u8]) {
        let shared = &*self.handle.0;
        shared.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(scanner) = &mut self.outgoing else { return };
        let mut rest = bytes;
        while let Some((taken, message)) = scanner.next_message(rest) {
            if message.is_event() || message.is_ack() || message.is_disconnect() {
                shared.written(message.bytes as usize, message.is_ack());
            }
            rest = &rest[taken..];
        }
    }

    /// Waits for the peer to read, but not for ever.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let shared = &*self.handle.0;
        shared.writer.register(cx.waker());
        if shared.phase() == Phase::Dead {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        let patience = shared.limits.write_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        shared.finish(Phase::Dead, CloseReason::WriteTimeout);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut *self.get_mut().0;
        if stream.hand_on(buf) {
            return Poll::Ready(Ok(()));
        }
        // Before anything is looked at, so that no change after the look goes unnoticed.
        stream.handle.0.reader.register(cx.waker());
        match stream.handle.0.phase() {
            Phase::Open => {}
            Phase::Closing => {
                ready!(stream.poll_admission(cx));
                // It may have come just now.
                let is_handed_on = stream.hand_on(buf);
                return if is_handed_on {
                    Poll::Ready(Ok(()))
                } else {
                    stream.poll_closing(cx, buf)
                };
            }
            Phase::Dead => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
        if stream.ping_left > 0 || stream.handle.0.ping_due.load(Ordering::Acquire) {
            stream.try_ping();
        }
        let polled = match stream.incoming {
            Some(_) => stream.poll_incoming(cx, buf),
            None => stream.poll_peer(cx, buf),
        };
        // Only now that a goodbye among them has been noted: it would count as a sign of life.
        if stream.unheard_bytes > 0 {
            stream.handle.0.heard(std::mem::take(&mut stream.unheard_bytes));
        }
        polled
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.get_mut().0;
        let shared = &*stream.handle.0;
        if shared.phase() == Phase::Dead {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if shared.ping_due.load(Ordering::Acquire) {
            stream.try_ping();
        }
        match stream.poll_frames(cx, bytes) {
            Poll::Ready(Ok(written)) => {
                stream.deadline = None;
                stream.wrote(&bytes[..written]);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => {
                stream.handle.0.finish(Phase::Dead, CloseReason::Broken);
                Poll::Ready(Err(error))
            }
            Poll::Pending => stream.poll_deadline(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0.socket).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let shared: &Shared = &self.handle.0;
        shared.finish(Phase::Dead, CloseReason::Transport);
        if shared.is_abortive() {
            // Otherwise the kernel would go on for minutes to offer the peer what it never reads.
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
