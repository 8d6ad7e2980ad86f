//! A stream that reads all there is at once, for dialed channels: where the other side is a client,
//! the link does that.
//!
//! The WebSocket below a channel reads in portions of its own small buffer: a burst of messages, or
//! a long one, would be a system call for each. Here it is one, into a buffer that all channels of a
//! thread share; what the WebSocket has no room for yet is held, and nothing else is read before
//! that is handed on.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one read takes, in bytes. The buffer is on the stack.
const READ_BYTES: usize = 64 * 1024;

/// A stream `S` with what was read of it and not handed on.
pub(crate) struct ReadAhead<S> {
    stream: S,
    /// Has a buffer only while there is something.
    held: BytesMut,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, held: BytesMut::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
            let mut scratch = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch))?;
            let (fits, rest) = split(scratch.filled(), buf.remaining());
            buf.put_slice(fits);
            self.held.extend_from_slice(rest);
            return Poll::Ready(Ok(()));
        }
        let (fits, rest) = split(&self.held, buf.remaining());
        buf.put_slice(fits);
        if rest.is_empty() {
            self.held = BytesMut::new();
        } else {
            let taken = fits.len();
            self.held.advance(taken);
        }
        Poll::Ready(Ok(()))
    }
}

/// As much of `bytes` as there is room for, and the rest.
fn split(bytes: &[u8], room: usize) -> (&[u8], &[u8]) {
    bytes.split_at(room.min(bytes.len()))
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_comes_next_and_nothing_before_it() {
        let (mut far, near) = duplex(1024);
        let mut near = ReadAhead::new(near);
        far.write_all(b"abcdefg").await.unwrap();
        let mut three = [0; 3];
        assert_eq!(near.read(&mut three).await.unwrap(), 3);
        assert_eq!((&three, &near.held[..]), (b"abc", &b"defg"[..]));
        far.write_all(b"hij").await.unwrap();
        assert_eq!(near.read(&mut three).await.unwrap(), 3);
        assert_eq!((&three, &near.held[..]), (b"def", &b"g"[..]));
        assert_eq!(near.read(&mut three).await.unwrap(), 1);
        assert_eq!((three[0], near.held.capacity()), (b'g', 0));
        assert_eq!(near.read(&mut three).await.unwrap(), 3);
        assert_eq!(&three, b"hij");
        drop(far);
        assert_eq!(near.read(&mut three).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_written_goes_through() {
        let (mut far, near) = duplex(1024);
        let mut near = ReadAhead::new(near);
        near.write_all(b"abc").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abc");
    }
}
