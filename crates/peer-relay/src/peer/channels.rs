//! The life of a channel: from a connection whose other side is unknown to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;

use super::{Inner, PeerEvent};
use crate::channel::{self, BACKPRESSURE_PAUSE, Channel, End, Outgoing};
use crate::id::PeerId;
use crate::membership::{Closed, Opened};
use crate::message::Message;
use link::{CloseReason, LinkHandle};

/// The longest time that a peer may take to close one of two channels to it.
const DUPLICATE_TIMEOUT: Duration = Duration::from_secs(6);

/// A channel in the table of neighbours, or one that waits for the first channel to its peer to
/// end.
pub(super) struct Registered {
    pub(super) channel: Channel,
    pub(super) queued: mpsc::Receiver<Outgoing>,
    /// Whether there is another channel to the same peer.
    pub(super) is_duplicate: bool,
}

/// A channel's entry in the table; removed by drop.
struct Entry {
    peer: Arc<Inner>,
    channel: Channel,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.peer.unregister(&self.channel);
    }
}

impl Inner {
    /// Runs a channel to its end. Returns the ID of the other side, if it sent one, and the reason.
    pub(super) async fn run<S>(
        self: &Arc<Self>,
        mut socket: WebSocketStream<S>,
        link: LinkHandle,
        expected: Option<PeerId>,
    ) -> (Option<PeerId>, End)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let exchanged = tokio::select! {
            exchanged = channel::exchange_ids(&mut socket, self.own) => exchanged,
            () = self.leaving.cancelled() => return (None, End::Stopped),
        };
        let (id, end) = match exchanged {
            Err(end) => (None, end),
            Ok(id) if id == self.own => (Some(id), End::OwnId),
            Ok(id) if expected.is_some_and(|expected| expected != id) => (Some(id), End::WrongId),
            Ok(id) => (Some(id), self.serve(&mut socket, &link, id).await),
        };
        if end != End::Link {
            channel::close(&mut socket, end).await;
        }
        self.ended(&link, id, end);
        (id, end)
    }

    async fn serve<S>(
        self: &Arc<Self>,
        socket: &mut WebSocketStream<S>,
        link: &LinkHandle,
        id: PeerId,
    ) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(Registered { channel, queued, is_duplicate }) =
            self.register(link, id, self.max_message_bytes)
        else {
            return End::Duplicate;
        };
        let (mut sink, mut stream) = socket.split();
        let read = async {
            loop {
                match channel::next_message(&mut stream).await {
                    Ok(message) => self.receive(&channel, message).await,
                    Err(end) => return end,
                }
            }
        };
        tokio::select! {
            end = read => end,
            end = channel::write(&channel, queued, &mut sink) => end,
            end = channel::keep_alive(&channel) => end,
            end = self.wait_to_take_over(&channel), if is_duplicate => end,
            () = self.stop.cancelled() => End::Stopped,
        }
    }

    /// Makes a channel of a link whose other side is known; `None` if it has to be closed.
    /// Whatever ends the link takes the channel out of the table.
    /// Frames have at most `max_frame_bytes`.
    pub(super) fn register(
        self: &Arc<Self>,
        link: &LinkHandle,
        id: PeerId,
        max_frame_bytes: usize,
    ) -> Option<Registered> {
        let (channel, queued) = Channel::new(id, link.clone(), max_frame_bytes);
        let mut membership = self.membership();
        let holder = membership.router().neighbours().get(&id).cloned();
        let opened = membership.open(Instant::now(), id, channel.clone());
        drop(membership);
        // If the first channel is dead, its end makes room for the next attempt.
        if let Some(holder) = holder {
            holder.probe();
        }
        let is_duplicate = match opened {
            Opened::Neighbour(actions) => {
                self.metrics.neighbours().inc();
                tracing::info!(target: "peer_relay::channels", peer = %id, "a peer connected");
                self.events.send(PeerEvent::Connected(id));
                self.perform(actions);
                false
            }
            Opened::Duplicate => true,
            Opened::Refused => return None,
        };
        let entry = Entry { peer: self.clone(), channel: channel.clone() };
        link.on_close(move |_| drop(entry));
        // Leaving closes the channels that are in the table; this one may have come just after.
        if self.leaving.is_cancelled() {
            channel.close(CloseReason::Draining);
        }
        Some(Registered { channel, queued, is_duplicate })
    }

    fn unregister(self: &Arc<Self>, channel: &Channel) {
        let closed = self.membership().close(Instant::now(), &channel.id(), channel);
        if let Closed::Gone(actions) = closed {
            self.metrics.neighbours().dec();
            self.events.send(PeerEvent::Gone(channel.id()));
            self.perform(actions);
        }
    }

    /// Handles a message, and pauses if it met a queue that is half full.
    pub(super) async fn receive(self: &Arc<Self>, channel: &Channel, message: Message) {
        let actions = self.membership().receive(Instant::now(), channel.id(), message);
        if self.perform(actions).is_half_full {
            sleep(BACKPRESSURE_PAUSE).await;
        }
    }

    /// Waits until a duplicate channel is the only one, but not for long.
    pub(super) async fn wait_to_take_over(&self, channel: &Channel) -> End {
        tokio::select! {
            () = sleep(DUPLICATE_TIMEOUT) => {}
            () = self.leaving.cancelled() => {}
        }
        if self.membership().router().neighbours().get(&channel.id()) != Some(channel) {
            return End::Duplicate;
        }
        std::future::pending().await
    }

    /// Ends the link of a channel, or of a connection that never became one.
    pub(super) fn ended(&self, link: &LinkHandle, id: Option<PeerId>, end: End) {
        link.kill(if end == End::Link { CloseReason::PeerClosed } else { CloseReason::Transport });
        let reason = match (end, link.reason()) {
            // A reason that the link knows already is the first one.
            (End::Link, Some(reason)) => reason.label(),
            _ => end.label(),
        };
        self.metrics.channel_ended(reason);
        let id = id.map(tracing::field::display);
        tracing::info!(target: "peer_relay::channels", peer = id, remote_addr = %link.remote_addr(), reason, "a channel ended");
    }
}
