//! The bridge: messages between nodes and peers of the peer-relay network.
//!
//! A node sends to the 40 digits of a peer's ID; a peer sends to the broker's own peer, and names
//! the node. On either side the sender's name is verified: the broker that admitted a node names
//! it, and a peer is named by the ID that its message is from. Messages of peers take the path of
//! all messages.
//!
//! - `message`: the format of the bridge's messages.

mod message;

pub(super) use message::FromNode;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::value::RawValue;

use super::Broker;
use super::authorize::Sender;
use super::dispatcher::{Dispatcher, QueuedMessage};
use crate::delivery::Outcome;
use crate::node::NodeId;
use crate::overlay::{Events, PeerEvent, PeerId};
use crate::protocol::Event;
use message::FromPeer;

/// The most messages of one peer that are not finished.
const MAX_OF_ONE: usize = 64;

/// The most messages of all peers.
const MAX_OF_ALL: usize = 1024;

/// The most bytes of their messages.
const MAX_BYTES_OF_ONE: usize = 4 * 1024 * 1024;
const MAX_BYTES_OF_ALL: usize = 64 * 1024 * 1024;

impl Broker {
    /// Hands what peers send to the broker's own peer to nodes. Ends with the peer.
    pub(crate) async fn serve_peers(self: Arc<Self>, mut events: Events) {
        let quotas = Quotas::default();
        let dispatcher = Dispatcher::new(self.clone(), None, MAX_OF_ALL);
        while let Some(event) = events.next().await {
            match event {
                PeerEvent::Message { from, data } => {
                    if let Err(label) = self.receive(&dispatcher, &quotas, from, &data) {
                        self.metrics.bridge_messages.inc([label]);
                    }
                }
                PeerEvent::Lost(events) => self.metrics.bridge_messages.inc_by(["lost"], events),
                PeerEvent::Connected(_) | PeerEvent::Gone(_) => {}
            }
        }
    }

    /// Accepts a message of a peer, or returns why not.
    fn receive(
        &self,
        dispatcher: &Dispatcher<Quota>,
        quotas: &Quotas,
        from: PeerId,
        data: &RawValue,
    ) -> Result<(), &'static str> {
        let message = FromPeer::parse(data).map_err(|_| "malformed")?;
        let event = Event::SocketMessage;
        if !self.is_enabled(event) {
            return Err(label(Outcome::Disabled));
        }
        if !self.memory.admits_message() {
            return Err(label(Outcome::NoMemory));
        }
        let guard = quotas.take(from, data.get().len()).ok_or("too_many")?;
        let name = NodeId::parse(&from.to_string()).map_err(|_| "malformed")?;
        let message = QueuedMessage {
            argument: message.argument(name.as_str()),
            sender: Sender { name, owner: None, grant: None },
            event,
            to: message.to.as_str().into(),
            permission: None,
            ack_id: None,
            began: Instant::now(),
            resolving: None,
            guard,
        };
        dispatcher.dispatch(message, None).map_err(|_| "too_many")
    }
}

/// The name of an outcome in the bridge's metrics.
pub(super) fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::NotConnected | Outcome::NotHere | Outcome::InTransition => "not_connected",
        Outcome::QueueFull | Outcome::TooLong => "queue_full",
        Outcome::Disabled => "disabled",
        Outcome::Unauthorized => "unauthorized",
        Outcome::NameOfANode => "name_of_a_node",
        Outcome::NoMemory => "memory_limit",
        _ => "error",
    }
}

/// What each peer has in the broker; a cheap handle.
#[derive(Clone, Default)]
struct Quotas(Arc<Mutex<HashMap<PeerId, Held>>>);

/// Messages that are not finished, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    messages: usize,
    bytes: usize,
}

/// The permit of one message of this peer, and its bytes; released by drop.
struct Quota(Quotas, PeerId, usize);

impl Quotas {
    fn take(&self, peer: PeerId, bytes: usize) -> Option<Quota> {
        let mut held = self.lock();
        let of_all = held.values().fold(Held::default(), |sum, held| Held {
            messages: sum.messages + held.messages,
            bytes: sum.bytes + held.bytes,
        });
        let of_one = held.get(&peer).copied().unwrap_or_default();
        let fits = of_one.fits(bytes, MAX_OF_ONE, MAX_BYTES_OF_ONE)
            && of_all.fits(bytes, MAX_OF_ALL, MAX_BYTES_OF_ALL);
        if !fits {
            return None;
        }
        let more = Held { messages: of_one.messages + 1, bytes: of_one.bytes + bytes };
        held.insert(peer, more);
        Some(Quota(self.clone(), peer, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether there may be one more message, of so many bytes.
    fn fits(self, bytes: usize, max_messages: usize, max_bytes: usize) -> bool {
        self.messages < max_messages && self.bytes + bytes <= max_bytes
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let Self(quotas, peer, bytes) = self;
        let mut held = quotas.lock();
        if let Some(of_one) = held.get_mut(peer) {
            of_one.messages -= 1;
            of_one.bytes -= *bytes;
            if of_one.messages == 0 {
                held.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PeerId {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::from_bytes(id)
    }

    #[test]
    fn neither_one_nor_all_can_fill_the_memory() {
        let quotas = Quotas::default();
        let mut taken: Vec<_> = (0..MAX_OF_ONE).map(|_| quotas.take(peer(0), 1).unwrap()).collect();
        assert!(quotas.take(peer(0), 1).is_none());
        taken.extend((MAX_OF_ONE..MAX_OF_ALL).map(|number| quotas.take(peer(number), 1).unwrap()));
        assert!(quotas.take(peer(MAX_OF_ALL), 1).is_none());
        taken.pop();
        assert!(quotas.take(peer(MAX_OF_ALL), 1).is_some());
        taken.clear();
        assert!(quotas.lock().is_empty());
    }

    #[test]
    fn their_bytes_are_limited_too() {
        let quotas = Quotas::default();
        let first = quotas.take(peer(0), MAX_BYTES_OF_ONE).unwrap();
        assert!(quotas.take(peer(0), 1).is_none());
        let others = MAX_BYTES_OF_ALL / MAX_BYTES_OF_ONE;
        let taken: Vec<_> = (1..others)
            .map(|number| quotas.take(peer(number), MAX_BYTES_OF_ONE).unwrap())
            .collect();
        assert!(quotas.take(peer(others), 1).is_none());
        drop(first);
        assert!(quotas.take(peer(0), 1).is_some());
        drop(taken);
        assert!(quotas.lock().is_empty());
    }
}
