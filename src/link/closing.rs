//! How a link ends that need not end at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::Gate;
use super::incoming::Incoming;
use super::stream::Stream;

/// How long a closing link waits for the peer to close too, and before that for the admission of a
/// peer that is leaving already.
const LINGER: Duration = Duration::from_secs(1);

impl Stream {
    /// Waits for the admission of a peer that is leaving: it follows the greeting.
    pub(super) fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_held_back = self.incoming.as_ref().is_some_and(Incoming::is_held_back);
        if !self.is_parting || !is_held_back || self.handle.0.gate() != Gate::Hold {
            return Poll::Ready(());
        }
        let limit = self.admission.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        limit.as_mut().poll(cx)
    }

    /// Shows the end of the stream, once all that is queued has been written and the peer has
    /// closed its side too. To close before that would reset the connection if the peer has sent
    /// anything more, and a reset may take from it what it has not read yet.
    pub(super) fn poll_closing(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.handle.0.poll_written())?;
        if self.handle.0.is_closed_by_peer() {
            return Poll::Ready(Ok(()));
        }
        let linger = self.linger.get_or_insert_with(|| {
            // Fails if the connection is gone, which the next read tells.
            let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write);
            Box::pin(tokio::time::sleep(LINGER))
        });
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}
