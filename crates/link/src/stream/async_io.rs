//! Reading and writing of a link as tokio knows them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Link, Socket};
use crate::handle::Phase;

impl<S: Socket> AsyncRead for Link<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Link<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.get_mut().0;
        if stream.handle.0.phase() == Phase::Dead {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        stream.poll_write_transport(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.get_mut().0;
        if stream.handle.0.phase() == Phase::Dead {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if stream.output.is_none() {
            return stream.poll_write_slices(cx, slices);
        }
        // WebSocket libraries write one slice, in which the outbox finds the ends of frames.
        let first = slices.iter().find(|slice| !slice.is_empty());
        stream.poll_write_transport(cx, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Writes the frames of the outbox too: once the transport has stopped reading, its last flush
    /// is their only chance. An open link does not wait for them, so that heartbeats get out.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.get_mut().0;
        match stream.poll_send(cx) {
            Poll::Ready(sent) => sent?,
            Poll::Pending if stream.handle.0.phase() == Phase::Open => {}
            Poll::Pending => return Poll::Pending,
        }
        stream.poll_flush_socket(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0.socket).poll_shutdown(cx)
    }
}
