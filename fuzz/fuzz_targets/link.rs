//! The bytes of a connection after its upgrade: frames, cut into pieces of any length. What comes out is read like a
//! WebSocket library does.
#![no_main]

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use link::{LinkLimits, LinkSet, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

const LIMITS: LinkLimits = LinkLimits {
    write_timeout: Duration::from_secs(10),
    message_timeout: Duration::from_secs(10),
    max_queued_bytes: 1 << 20,
    max_messages_per_second: NonZeroU32::new(50_000),
    max_bytes_per_second: NonZeroU32::new(256 << 20),
};

/// One end of a connection in memory.
struct InMemory(DuplexStream);

impl Socket for InMemory {
    fn reset_on_drop(&self) {}
}

impl AsyncRead for InMemory {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for InMemory {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

libfuzzer_sys::fuzz_target!(|input: (bool, u8, Vec<u8>)| {
    let (is_node, piece, bytes) = input;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let links = LinkSet::new(LIMITS, 1);
        let Ok(mut link) = links.open(InMemory(near), SocketAddr::from(([127, 0, 0, 1], 1))) else { return };
        let read_ahead = bytes.len() % 7;
        let (first, rest) = bytes.split_at(read_ahead.min(bytes.len()));
        if is_node {
            link.upgrade(Bytes::copy_from_slice(first));
            link.handle().admit();
        } else {
            link.upgrade_without_connect(Bytes::copy_from_slice(first));
        }
        let write = async {
            for piece in rest.chunks(usize::from(piece).max(1)) {
                if far.write_all(piece).await.is_err() {
                    return;
                }
            }
            let _ = far.shutdown().await;
            let _ = tokio::io::copy(&mut far, &mut tokio::io::sink()).await;
        };
        let read = async {
            let mut buffer = [0; 512];
            while let Ok(1..) = link.read(&mut buffer).await {}
            drop(link);
        };
        tokio::join!(write, read);
    });
});
