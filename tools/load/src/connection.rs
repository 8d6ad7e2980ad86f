//! The side of a connection that reads: heartbeats are answered here, the rest is handed on.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::frame::{self, FrameError, Opcode};
use crate::outbox::Outbox;
use crate::packet::Packet;

/// The least room for one read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// One buffer for all connections: between two reads a connection keeps only what is not a
/// complete frame yet, so an idle one costs next to nothing.
#[derive(Clone, Default)]
pub struct Scratch(Rc<RefCell<Vec<u8>>>);

/// A connection of a node that is in.
pub struct Connection {
    read: OwnedReadHalf,
    outbox: Rc<Outbox>,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    scratch: Scratch,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The server closed.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What the server sent cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Takes what comes on a connection.
pub trait Listener {
    /// A packet that is no heartbeat.
    fn packet(&mut self, packet: Packet<'_>);

    /// Everything that was there has been handed over.
    fn idle(&mut self) {}
}

/// Takes nothing.
pub struct Deaf;

impl Listener for Deaf {
    fn packet(&mut self, _: Packet<'_>) {}
}

/// Sends a close; the server is the one to end the connection.
pub fn send_close(outbox: &Rc<Outbox>) {
    // 1000, a normal closure (RFC 6455, 7.4.1).
    outbox.put(|out| frame::write(Opcode::Close, &1000u16.to_be_bytes(), out));
    outbox.flush();
}

impl Connection {
    /// A connection of which `partial` has been read already.
    pub fn new(
        read: OwnedReadHalf,
        write: OwnedWriteHalf,
        partial: Vec<u8>,
        scratch: Scratch,
    ) -> Self {
        Self { read, outbox: Outbox::new(write), partial, scratch }
    }

    /// The side that writes.
    pub fn outbox(&self) -> Rc<Outbox> {
        self.outbox.clone()
    }

    /// Reads until the end.
    pub async fn run(&mut self, listener: &mut impl Listener) -> End {
        match poll_fn(|cx| self.poll(cx, listener)).await {
            Ok(()) => End::Closed,
            Err(end) => end,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        listener: &mut impl Listener,
    ) -> Poll<Result<(), End>> {
        let scratch = self.scratch.clone();
        let mut scratch = scratch.0.borrow_mut();
        // What came together with the greeting may be whole already.
        if !self.partial.is_empty() {
            let partial = std::mem::take(&mut self.partial);
            if self.take(&partial, listener)?.is_break() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let kept = self.partial.len();
            if scratch.len() < kept + READ_BYTES {
                scratch.resize(kept + READ_BYTES, 0);
            }
            let mut room = ReadBuf::new(&mut scratch[kept..]);
            ready!(Pin::new(&mut self.read).poll_read(cx, &mut room))?;
            let read = room.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            scratch[..kept].copy_from_slice(&self.partial);
            self.partial.clear();
            let ended = self.take(&scratch[..kept + read], listener)?.is_break();
            listener.idle();
            if ended {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes all complete frames and keeps the rest.
    fn take(
        &mut self,
        mut bytes: &[u8],
        listener: &mut impl Listener,
    ) -> Result<std::ops::ControlFlow<()>, End> {
        use std::ops::ControlFlow::{Break, Continue};
        let mut answers = false;
        while let Some((frame, taken)) = frame::parse(bytes)? {
            match frame.opcode {
                Opcode::Text => match Packet::parse(frame.payload) {
                    Packet::Ping => {
                        self.outbox.put(|out| frame::write(Opcode::Text, b"3", out));
                        answers = true;
                    }
                    Packet::Close => return Ok(Break(())),
                    packet => listener.packet(packet),
                },
                Opcode::Ping => {
                    self.outbox.put(|out| frame::write(Opcode::Pong, frame.payload, out));
                    answers = true;
                }
                Opcode::Close => return Ok(Break(())),
                Opcode::Binary | Opcode::Pong => {}
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        if answers {
            self.outbox.flush();
        }
        self.partial.extend_from_slice(bytes);
        Ok(Continue(()))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
