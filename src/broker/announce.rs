//! Messages of the operator to nodes, in the name of a sender that no node can be.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Broker;
use super::authorize::{Passage, Sender};
use super::calls::{Gathered, Request};
use super::route::Route;
use crate::delivery::{OnReply, Outcome, ReplyTo, Ticket};
use crate::node::{Logged, NodeId, ReplicaId};
use crate::protocol::{Ack, Event, JsonStringBuf};
use crate::telemetry::EVENTS;

/// What official nodes read beside the addresses.
const PLATFORM: &str = "BROKER";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How many messages of one request are on their way at a time.
const MAX_IN_FLIGHT: usize = 64;

/// After how many messages to own nodes others have their turn.
const MESSAGES_PER_TURN: usize = 64;

/// What a message says, and the name that it comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) from: String,
    pub(crate) channel: String,
    pub(crate) content: String,
}

/// How many nodes a message was sent to, by ack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct AckCounts {
    /// Handed over to the node's connection.
    #[serde(rename = "OK")]
    pub(crate) ok: u64,
    /// Not connected any more.
    #[serde(rename = "NOT_CONNECTED")]
    pub(crate) not_connected: u64,
    /// Not handed over, or perhaps not.
    #[serde(rename = "ERROR")]
    pub(crate) error: u64,
}

impl AckCounts {
    fn count(&mut self, ack: Ack) {
        match ack {
            Ack::Ok => self.ok += 1,
            Ack::NotConnected => self.not_connected += 1,
            _ => self.error += 1,
        }
    }

    fn add(self, other: Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            not_connected: self.not_connected + other.not_connected,
            error: self.error + other.error,
        }
    }
}

impl Announcement {
    /// The argument of the event that a node gets.
    fn argument(&self, to: &str) -> JsonStringBuf {
        let message = serde_json::json!({
            "platformFrom": PLATFORM,
            "versionFrom": VERSION,
            "from": self.from,
            "to": to,
            "channel": self.channel,
            "content": self.content,
        });
        JsonStringBuf::new(&message.to_string())
    }
}

impl Broker {
    /// Sends a message to some nodes. Returns the ack for each, in their order.
    pub(crate) async fn announce_to(
        &self,
        announcement: &Announcement,
        nodes: &[NodeId],
    ) -> Vec<Ack> {
        let sent = nodes.iter().cloned();
        let sent = sent.map(async |node| self.announce_to_one(announcement, &node).await);
        stream::iter(sent).buffered(MAX_IN_FLIGHT).collect().await
    }

    /// Sends a message to all nodes of all replicas. Returns how many got it, and the replicas that
    /// did not reply: their nodes may have got it or not.
    pub(crate) async fn announce(&self, announcement: Announcement) -> (AckCounts, Vec<ReplicaId>) {
        let own = self.announce_here(&announcement).await;
        let request = Request::Announce(announcement);
        let Gathered { parts, incomplete } = self.gather(own, &request).await;
        (parts.into_iter().fold(AckCounts::default(), AckCounts::add), incomplete)
    }

    /// Sends a message to all nodes of this replica.
    pub(super) async fn announce_here(&self, announcement: &Announcement) -> AckCounts {
        let mut counts = AckCounts::default();
        for nodes in self.connections.connected().chunks(MESSAGES_PER_TURN) {
            for (node, _) in nodes {
                let outcome = match self.connections.connection(node.as_str()) {
                    _ if !self.is_enabled(Event::SocketMessage) => Outcome::Disabled,
                    _ if !self.memory.admits_message() => Outcome::NoMemory,
                    Some((_, connection)) => connection.send_event(
                        Event::SocketMessage.name(),
                        announcement.argument(node.as_str()).as_json(),
                    ),
                    None => Outcome::NotConnected,
                };
                counts.count(self.conclude_announcement(announcement, node, outcome));
            }
            tokio::task::yield_now().await;
        }
        counts
    }

    async fn announce_to_one(&self, announcement: &Announcement, node: &NodeId) -> Ack {
        let outcome = if !self.is_enabled(Event::SocketMessage) {
            Outcome::Disabled
        } else if !self.memory.admits_message() {
            Outcome::NoMemory
        } else {
            self.send_announcement(announcement, node).await
        };
        self.conclude_announcement(announcement, node, outcome)
    }

    async fn send_announcement(&self, announcement: &Announcement, node: &NodeId) -> Outcome {
        let Ok(name) = NodeId::parse(&announcement.from) else { return Outcome::Invalid };
        let sender = Sender { name, owner: None, grant: None };
        let passage = Passage { sender: &sender, event: Event::SocketMessage, to: node.as_str() };
        let argument = announcement.argument(node.as_str());
        let mut route = self.resolve(passage.to).await;
        let mut is_again = false;
        loop {
            if matches!(route, Route::Peer(_)) {
                return Outcome::NotConnected;
            }
            let (waiter, outcome) = Waiter::new();
            let waiter: Arc<dyn OnReply> = waiter;
            let reply_to = || ReplyTo { sender: Arc::downgrade(&waiter), ticket: (0, 0) };
            let outcome = match self.deliver(passage, argument.as_json(), &route, reply_to) {
                Some(outcome) => outcome,
                None => outcome.await.unwrap_or(Outcome::Unknown),
            };
            if is_again || !outcome.may_be_elsewhere() {
                return outcome;
            }
            is_again = true;
            route = self.resolve_again(passage.to, &route).await;
        }
    }

    fn conclude_announcement(
        &self,
        announcement: &Announcement,
        to: &NodeId,
        outcome: Outcome,
    ) -> Ack {
        let ack = match outcome.ack() {
            ack @ (Ack::Ok | Ack::NotConnected) => ack,
            _ => Ack::Error,
        };
        self.metrics.api_messages.inc([ack.as_str()]);
        let (event, from) = (Event::SocketMessage.name(), Logged(&announcement.from));
        tracing::info!(target: EVENTS, event, ?from, ?to, ?outcome, "event of an operator");
        ack
    }
}

/// Waits for the reply of another replica.
struct Waiter(Mutex<Option<oneshot::Sender<Outcome>>>);

impl Waiter {
    fn new() -> (Arc<Self>, oneshot::Receiver<Outcome>) {
        let (sender, outcome) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(sender)))), outcome)
    }
}

impl OnReply for Waiter {
    fn on_reply(&self, _: Ticket, outcome: Outcome) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.map(|sender| sender.send(outcome));
    }
}
