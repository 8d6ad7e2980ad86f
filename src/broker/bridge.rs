//! The bridge: nodes and the peers of the peer-relay network send to each other.
//!
//! A node writes to the 40 digits of a peer's ID; a peer writes to the broker's own peer, and
//! names the node. Either has its own name at the other side, and no other: a node is named by
//! the broker that admitted it, a peer by the ID that its message is from.
//!
//! - `letter`: what the bridge's messages say.
//! - `lanes`: messages of peers that wait, each behind those of the same peer.

mod lanes;
mod letter;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{Admission, Broker, Location};
use crate::delivery::{Delivered, RemoteMessage, ReplyTo};
use crate::node::Owner;
use crate::overlay::{Events, PeerEvent, PeerId, SendError};
use crate::protocol::{Event, JsonString};
use crate::telemetry::EVENTS;
use lanes::Lanes;
use letter::{FromNode, Letter};

impl Broker {
    /// Sends a message on to the peer that it is addressed to. For whatever is not for a peer,
    /// nobody is connected.
    pub(super) fn send_to_peer(
        &self,
        sender: &Admission,
        event: Event,
        to: &str,
        argument: JsonString<'_>,
    ) -> Delivered {
        let Some(peer) = &self.peer else { return Delivered::NotConnected };
        let Some(id) = peer_named(to) else { return Delivered::NotConnected };
        // A node that has such an ID goes first, also while it is on its way in or out.
        if event != Event::SocketMessage || id == peer.id() || self.connections.is_held(to) {
            return Delivered::NotConnected;
        }
        if !self.knows_all_names() {
            return Delivered::Unknown;
        }
        let letter = FromNode { from: sender.node.as_str(), message: argument };
        match peer.send_now(id, &letter) {
            Ok(()) => Delivered::Yes,
            Err(SendError::NoNeighbour | SendError::Ended) => Delivered::NotConnected,
            Err(SendError::TooLong) => Delivered::TooLong,
            Err(SendError::QueueFull | SendError::NoJson(_)) => Delivered::QueueFull,
        }
    }

    /// Hands what peers send to the broker's own peer to nodes. Ends with the peer.
    pub async fn serve_peers(self: Arc<Self>, mut events: Events) {
        let mut lanes = Lanes::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            let next = tokio::select! {
                event = events.next() => match event {
                    Some(PeerEvent::Message { from, data }) => {
                        self.sort(&mut lanes, from, &data).map(|letter| (from, letter))
                    }
                    Some(PeerEvent::Lost(events)) => {
                        self.metrics.bridge_messages("lost", events);
                        None
                    }
                    Some(PeerEvent::Connected(_) | PeerEvent::Gone(_)) => None,
                    None => return,
                },
                Some((from, outcome)) = under_way.next(), if !under_way.is_empty() => {
                    self.metrics.bridge_messages(outcome, 1);
                    lanes.end(&from).map(|letter| (from, letter))
                }
            };
            if let Some((from, letter)) = next {
                under_way.push(self.take_from(from, letter));
            }
        }
    }

    /// Reads what a peer sent. Gives it back if its turn is now; otherwise it waits, or is
    /// dropped.
    fn sort(&self, lanes: &mut Lanes<Letter>, from: PeerId, data: &RawValue) -> Option<Letter> {
        let Ok(letter) = Letter::parse(data) else {
            self.metrics.bridge_messages("malformed", 1);
            return None;
        };
        lanes.begin(from, letter).unwrap_or_else(|_full| {
            self.metrics.bridge_messages("too_many", 1);
            None
        })
    }

    async fn take_from(&self, peer: PeerId, letter: Letter) -> (PeerId, &'static str) {
        let from = peer.to_string();
        let to = letter.to.as_str();
        let outcome = match self.refusal(&from, to).await {
            Some(refusal) => refusal,
            None => {
                let delivered = self.deliver_anywhere(to, letter.argument(&from).as_json()).await;
                self.tell(&from, to, delivered);
                match delivered {
                    Delivered::Yes => "delivered",
                    Delivered::NotConnected | Delivered::Passing => "not_connected",
                    Delivered::QueueFull | Delivered::TooLong => "queue_full",
                    Delivered::Unreachable | Delivered::Unknown => "error",
                }
            }
        };
        tracing::info!(target: EVENTS, event = Event::SocketMessage.name(), from, ?to, outcome, "event of a peer");
        (peer, outcome)
    }

    /// Why a peer's message must not pass, if it must not.
    async fn refusal(&self, from: &str, to: &str) -> Option<&'static str> {
        if !self.settings.relay_enabled {
            return Some("disabled");
        }
        if let Some(authorization) = &self.webhooks.authorization {
            match authorization.ask(from, to).await {
                Ok(true) => {}
                Ok(false) => return Some("unauthorized"),
                Err(_) => return Some("error"),
            }
        }
        // Nothing proves whom a peer's message is from. Where the ID is a node's, it is no peer's.
        // Looked at last, because a node may come while the webhook is asked.
        if self.connections.is_held(from) {
            return Some("name_of_a_node");
        }
        match self.locate(from).await {
            Location::Nowhere if self.connections.is_held(from) => Some("name_of_a_node"),
            Location::Nowhere if self.knows_all_names() => None,
            Location::At(_) => Some("name_of_a_node"),
            Location::Nowhere | Location::Unknown => Some("error"),
        }
    }

    /// Whether an ID that nobody has found is no node's. Not if Redis has lost what it had, until
    /// all replicas have had the time to tell it their nodes again.
    fn knows_all_names(&self) -> bool {
        self.directory.is_ready()
    }

    /// Delivers the argument of a message to a node, on whichever replica it is. What is not
    /// found where it should be is looked for once more.
    async fn deliver_anywhere(&self, to: &str, argument: JsonString<'_>) -> Delivered {
        let mut tried: Option<(Owner, Delivered)> = None;
        loop {
            if let Some((_, receiver)) = self.connections.receiver(to) {
                return receiver.deliver(Event::SocketMessage.name(), argument);
            }
            let owner = match (self.locate(to).await, tried) {
                (Location::At(owner), None) => owner,
                (Location::At(owner), Some((before, _))) if owner != before => owner,
                (Location::Unknown, _) => return Delivered::Unknown,
                (_, tried) => return tried.map_or(Delivered::NotConnected, |(_, it)| it),
            };
            let delivered = self.deliver_to(owner, to, argument).await;
            if tried.is_some() || !delivered.may_be_elsewhere() {
                return delivered;
            }
            self.directory.forget_location(to);
            tried = Some((owner, delivered));
        }
    }

    async fn deliver_to(&self, owner: Owner, to: &str, argument: JsonString<'_>) -> Delivered {
        let Some(remote) = &self.remote else { return Delivered::NotConnected };
        if owner.replica == self.replica {
            return Delivered::Passing;
        }
        let (sender, mut reply) = mpsc::channel(1);
        let event = Event::SocketMessage;
        let message =
            RemoteMessage { to, connection: owner.connection, event, argument, opener: None };
        remote.send(owner.replica, &message, ReplyTo { sender, ticket: 0 });
        reply.recv().await.map_or(Delivered::Unknown, |(_, delivered)| delivered)
    }
}

/// The peer that `to` names. There is one way to write a name, the bridge's own, so that whoever
/// authorizes needs to know only one.
fn peer_named(to: &str) -> Option<PeerId> {
    let is_upper = to.bytes().any(|digit| digit.is_ascii_uppercase());
    PeerId::parse(to).ok().filter(|_| !is_upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_name() {
        let name = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(peer_named(name).map(|id| id.to_string()).as_deref(), Some(name));
        for other in [&name.to_uppercase(), &name[1..], &format!("{name}0"), &format!(" {name}")] {
            assert_eq!(peer_named(other), None, "{other}");
        }
    }
}
