//! The end of a link that need not end at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Sleep;

use crate::handle::Gate;
use crate::incoming::Incoming;
use crate::output::Output;
use crate::stream::{Socket, Stream};

/// How long a closing link waits for the peer to close too, and before that for what the rest of
/// the program or the transport still has to do.
const LINGER: Duration = Duration::from_secs(1);

/// One timer for each step of closing; it starts when the step does.
#[derive(Default)]
pub(crate) struct Timers {
    admission: Option<Pin<Box<Sleep>>>,
    connect_reply: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

fn poll_timer(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER))).as_mut().poll(cx)
}

impl<S: Socket> Stream<S> {
    /// Shows the end of the stream, once all that is queued has been written and the peer has
    /// closed its side too. To close before that would reset the connection if the peer has sent
    /// anything more, and a reset may take from it what it has not read yet.
    pub(crate) fn poll_closing(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_admission(cx));
        if let Some(incoming) = &mut self.incoming {
            incoming.throttle.lift();
            incoming.park();
        }
        if let Poll::Ready(passed) = self.pass_on(buf) {
            return Poll::Ready(passed);
        }
        if self.yields(cx) {
            return Poll::Pending;
        }
        ready!(self.poll_drained(cx))?;
        if self.handle.0.is_closed_by_peer() {
            return Poll::Ready(Ok(()));
        }
        if self.closing.linger.is_none() {
            self.handle.0.outbox.finish();
        }
        if poll_timer(&mut self.closing.linger, cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Has no effect from the second time on. If it fails, the next read fails too.
        let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
        let before = buf.filled().len();
        loop {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }

    /// Waits for the admission of a peer that is already leaving: its bytes follow the greeting.
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_held_back = self.incoming.as_ref().is_some_and(Incoming::is_held_back);
        if !self.is_leaving || !is_held_back || self.handle.0.gate() != Gate::Hold {
            return Poll::Ready(());
        }
        poll_timer(&mut self.closing.admission, cx)
    }

    /// Writes what is queued. An end that the transport saw sooner would make it drop its own
    /// reply to CONNECT, without which the peer takes the end for a refusal.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let is_connect_passed = self.incoming.as_ref().is_some_and(Incoming::is_connect_passed);
        let is_replied = self.output.as_ref().is_none_or(Output::has_connect_reply);
        if is_connect_passed && !is_replied {
            return poll_timer(&mut self.closing.connect_reply, cx).map(Ok);
        }
        if self.handle.0.is_drained() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
