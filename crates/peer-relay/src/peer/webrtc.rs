//! Channels over WebRTC: how they are negotiated through the network, and their life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::channels::Registered;
use super::{ChannelPermit, Inner};
use crate::channel::End;
use crate::id::PeerId;
use crate::message::{self, Signal};
use crate::webrtc::{Description, Line, MAX_WEBRTC_MESSAGE_BYTES, NegotiationPermit, WebRtc};

/// The longest time until a channel is open.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(20);

impl Inner {
    /// Begins to negotiate a channel.
    pub(super) fn call(self: &Arc<Self>, id: PeerId) {
        self.negotiate(id, None);
    }

    /// Goes on negotiating a channel.
    pub(super) fn take_signal(self: &Arc<Self>, id: PeerId, signal: Signal) {
        let Some(webrtc) = &self.webrtc else { return };
        match signal {
            Signal::Offer(sdp) => match Description::parse(&sdp) {
                Ok(offer) => self.negotiate(id, Some(offer)),
                Err(_) => self.membership().unreachable(Instant::now(), id),
            },
            Signal::Answer(sdp) => webrtc.take_answer(&id, Description::parse(&sdp).ok()),
            Signal::Other => {}
        }
    }

    fn negotiate(self: &Arc<Self>, id: PeerId, offer: Option<Description>) {
        let reserved = self.webrtc.as_ref().and_then(WebRtc::reserve).zip(self.reserve());
        let Some((negotiation, channel)) = reserved else {
            return self.membership().unreachable(Instant::now(), id);
        };
        let inner = self.clone();
        // Boxed by the spawn: it is large, and lives as long as the channel.
        self.tasks.spawn(async move { inner.run_webrtc(id, offer, negotiation, channel).await });
    }

    async fn run_webrtc(
        self: &Arc<Self>,
        id: PeerId,
        offer: Option<Description>,
        negotiation: NegotiationPermit,
        _channel: ChannelPermit,
    ) {
        let Some(webrtc) = &self.webrtc else { return };
        let negotiated = tokio::select! {
            negotiated = timeout(NEGOTIATION_TIMEOUT, self.open_line(webrtc, id, offer)) => negotiated.ok(),
            () = self.leaving.cancelled() => None,
        };
        drop(negotiation);
        let Some((line, address)) = negotiated.flatten() else {
            tracing::debug!(peer = %id, "no WebRTC channel came of a negotiation");
            self.metrics.channel_ended("dial_failed");
            return self.membership().unreachable(Instant::now(), id);
        };
        let Some(link) = self.links.open_bare(address) else { return };
        let end = self.serve_webrtc(line, &link, id).await;
        self.ended(link.handle(), Some(id), end);
    }

    async fn open_line(
        self: &Arc<Self>,
        webrtc: &WebRtc,
        id: PeerId,
        offer: Option<Description>,
    ) -> Option<(Line, std::net::SocketAddr)> {
        let mut line = match offer {
            Some(offer) => {
                let (line, sdp) = Line::answer(webrtc, &offer).await?;
                self.send_signal(id, "answer", &sdp);
                line
            }
            None => {
                let (mut line, sdp) = Line::offer(webrtc).await?;
                let answer = webrtc.expect_answer(id);
                self.send_signal(id, "offer", &sdp);
                line.take_answer(&answer.await?)?;
                line
            }
        };
        let address = line.open().await?;
        Some((line, address))
    }

    async fn serve_webrtc(
        self: &Arc<Self>,
        mut line: Line,
        link: &link::BareLink,
        id: PeerId,
    ) -> End {
        let Some(registered) = self.register(link.handle(), id, MAX_WEBRTC_MESSAGE_BYTES) else {
            line.close();
            return End::Duplicate;
        };
        let Registered { channel, mut queued, is_duplicate } = registered;
        let exchange = async {
            loop {
                match line.next_message(&mut queued, link.handle()).await {
                    Ok(message) => self.receive(&channel, message).await,
                    Err(end) => return end,
                }
            }
        };
        let end = tokio::select! {
            end = exchange => end,
            end = self.wait_to_take_over(&channel), if is_duplicate => end,
            () = self.stop.cancelled() => End::Stopped,
        };
        line.close();
        end
    }

    fn send_signal(self: &Arc<Self>, to: PeerId, kind: &'static str, sdp: &str) {
        let data = message::signal(kind, sdp);
        let actions = self.membership().send_signal(Instant::now(), to, data);
        self.perform(actions);
    }
}
