//! What an application is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

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

/// The most events that wait for a reader; above that the oldest are lost, which the reader is told.
const MAX_EVENTS: usize = 1024;

/// The most bytes of their messages; above that new messages are lost.
const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// Sends the events of one peer to all readers.
pub(crate) struct EventSender {
    events: broadcast::Sender<PeerEvent>,
    queued: Mutex<Queued>,
}

/// The bytes of the last events, at least of those that wait for a reader.
#[derive(Default)]
struct Queued {
    of_each: VecDeque<usize>,
    sum: usize,
    lost: u64,
}

impl Default for EventSender {
    fn default() -> Self {
        Self { events: broadcast::Sender::new(MAX_EVENTS), queued: Mutex::default() }
    }
}

impl EventSender {
    /// Sends an event to those who read now.
    pub(crate) fn send(&self, event: PeerEvent) {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.events.len();
        while queued.of_each.len() > waiting
            && let Some(bytes) = queued.of_each.pop_front()
        {
            queued.sum -= bytes;
        }
        let bytes = event.bytes();
        if queued.sum + bytes > MAX_EVENT_BYTES {
            queued.lost += 1;
            return;
        }
        let lost = std::mem::take(&mut queued.lost);
        for (event, bytes) in [(PeerEvent::Lost(lost), 0), (event, bytes)] {
            let is_news = !matches!(event, PeerEvent::Lost(0));
            // Fails if nobody reads.
            if is_news && self.events.send(event).is_ok() {
                queued.of_each.push_back(bytes);
                queued.sum += bytes;
            }
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }
}

impl PeerEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Message { data, .. } => data.get().len(),
            _ => 0,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> PeerEvent {
        let text = format!("\"{}\"", "x".repeat(bytes - 2));
        let data = RawValue::from_string(text).unwrap().into();
        PeerEvent::Message { from: PeerId::from_bytes([1; 20]), data }
    }

    #[tokio::test]
    async fn messages_that_wait_are_bounded_in_bytes_and_the_reader_is_told() {
        let sender = EventSender::default();
        // Nobody reads: nothing is kept.
        sender.send(message(MAX_EVENT_BYTES));
        let mut events = Events::new(sender.subscribe(), CancellationToken::new());
        let large = MAX_EVENT_BYTES / 4;
        (0..6).for_each(|_| sender.send(message(large)));
        for _ in 0..4 {
            assert!(matches!(events.next().await, Some(PeerEvent::Message { .. })));
        }
        sender.send(message(large));
        assert!(matches!(events.next().await, Some(PeerEvent::Lost(2))));
        assert!(matches!(events.next().await, Some(PeerEvent::Message { .. })));
        assert_eq!(sender.events.len(), 0);
    }
}
