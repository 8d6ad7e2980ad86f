//! What an application is told.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::id::PeerId;

/// Something that happened to a peer.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// A message for this peer.
    Message {
        /// Its sender, as the message says; nothing in the network proves it.
        from: PeerId,
        /// Its JSON.
        data: Arc<RawValue>,
    },
    /// There is a channel to this peer now.
    Connected(PeerId),
    /// There is none any more.
    Gone(PeerId),
    /// The reader was too slow, and so many events were lost.
    Lost(u64),
}

/// The events of one peer, for one reader.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<PeerEvent>,
    stop: CancellationToken,
}

impl Events {
    pub(crate) fn new(events: broadcast::Receiver<PeerEvent>, stop: CancellationToken) -> Self {
        Self { events, stop }
    }

    /// The next event; `None` once the peer has ended.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        tokio::select! {
            biased;
            event = self.events.recv() => match event {
                Ok(event) => Some(event),
                Err(RecvError::Lagged(lost)) => Some(PeerEvent::Lost(lost)),
                Err(RecvError::Closed) => None,
            },
            () = self.stop.cancelled() => None,
        }
    }
}
