//! A socket with a buffer of its own has the same deadline for what is left in it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use crate::{CloseReason, LinkLimits, LinkSet, Socket};

const LIMITS: LinkLimits = LinkLimits {
    write_timeout: Duration::from_secs(1),
    message_timeout: Duration::from_secs(10),
    max_queued_bytes: 1024,
    max_messages_per_second: None,
    max_bytes_per_second: None,
};

/// Takes a write at once and passes it on later, as TLS does.
struct Buffering {
    inner: DuplexStream,
    buffer: Vec<u8>,
}

impl Socket for Buffering {
    fn reset_on_drop(&self) {}
}

impl AsyncRead for Buffering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Buffering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, buffer } = &mut *self;
        while !buffer.is_empty() {
            let written = std::task::ready!(Pin::new(&mut *inner).poll_write(cx, buffer))?;
            buffer.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_socket_buffers_waits_no_longer_than_any_byte() {
    let (inner, mut peer) = duplex(4);
    let links = LinkSet::new(LIMITS, 1);
    let socket = Buffering { inner, buffer: Vec::new() };
    let Ok(mut link) = links.open(socket, ([127, 0, 0, 1], 1).into()) else { panic!("no slot") };
    // A peer that reads in time: each flush has the whole time.
    for _ in 0..3 {
        link.write_all(b"12345678").await.unwrap();
        let read = async {
            tokio::time::sleep(LIMITS.write_timeout * 3 / 4).await;
            peer.read_exact(&mut [0; 8]).await.unwrap();
        };
        let (flushed, ()) = tokio::join!(link.flush(), read);
        flushed.unwrap();
    }
    // One that does not, however often the stream is polled.
    link.write_all(b"12345678").await.unwrap();
    let handle = link.handle();
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(LIMITS.write_timeout * 2, link.read(&mut buffer)).await;
    assert_eq!(read.expect("the link ends").unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(handle.reason(), Some(CloseReason::WriteTimeout));
}
