//! The last step of a message: it is handed over, and its outcome is counted, logged and published.

use super::authorize::Passage;
use super::route::Route;
use super::{Broker, bridge};
use crate::delivery::{Outcome, RemoteMessage, ReplyTo};
use crate::node::{Logged, Owner};
use crate::overlay::{PeerId, SendError};
use crate::protocol::{Event, JsonString};
use crate::telemetry::EVENTS;
use crate::webhooks::SocketMessage;

impl Broker {
    /// Delivers a message that may pass. `None` means that it was sent to another replica, whose
    /// reply goes to `reply_to`.
    pub(super) fn deliver(
        &self,
        passage: Passage<'_>,
        argument: JsonString<'_>,
        route: &Route,
        reply_to: impl FnOnce() -> ReplyTo,
    ) -> Option<Outcome> {
        let Route::Replica(owner) = route else {
            return self.deliver_now(passage, argument, route);
        };
        self.send_to_replica(passage, argument, *owner, reply_to).err()
    }

    /// Delivers a message that may pass, unless it has to go to another replica.
    pub(super) fn deliver_now(
        &self,
        passage: Passage<'_>,
        argument: JsonString<'_>,
        route: &Route,
    ) -> Option<Outcome> {
        Some(match route {
            Route::Here(_, connection) => connection.send_event(passage.event.name(), argument),
            Route::Replica(_) => return None,
            Route::Peer(id) => self.send_to_peer(passage, argument, *id),
            Route::Nowhere => Outcome::NotConnected,
            Route::Unknown => Outcome::NotLocated,
        })
    }

    fn send_to_replica(
        &self,
        passage: Passage<'_>,
        argument: JsonString<'_>,
        owner: Owner,
        reply_to: impl FnOnce() -> ReplyTo,
    ) -> Result<(), Outcome> {
        let Passage { sender, event, to } = passage;
        let remote = self.remote.as_ref().ok_or(Outcome::Unknown)?;
        let opener = sender.owner.filter(|_| event == Event::ConnectionAttempt);
        let message = RemoteMessage {
            to,
            connection: owner.connection,
            event,
            argument,
            opener: opener.map(|opener| (sender.name.as_str(), opener)),
        };
        remote.send(owner.replica, &message, reply_to())
    }

    /// Sends a node's message on to an overlay peer.
    fn send_to_peer(&self, passage: Passage<'_>, argument: JsonString<'_>, id: PeerId) -> Outcome {
        let Passage { sender, event, to } = passage;
        let Some(peer) = &self.peer else { return Outcome::NotConnected };
        // A node that has such an ID goes first, also while it is on its way in or out. Peers
        // reach each other without the broker.
        if event.is_signaling() || sender.owner.is_none() || self.connections.is_registered(to) {
            return Outcome::NotConnected;
        }
        if !self.knows_all_names() {
            return Outcome::Unknown;
        }
        let message = bridge::FromNode { from: sender.name.as_str(), message: argument };
        match peer.send_now(id, &message) {
            Ok(()) => Outcome::Delivered,
            Err(SendError::NoNeighbour | SendError::Ended) => Outcome::NotConnected,
            Err(SendError::TooLong) => Outcome::TooLong,
            Err(SendError::QueueFull | SendError::NoJson(_)) => Outcome::QueueFull,
        }
    }

    /// Counts, logs and publishes the outcome of a message. `receiver` is the connection that it
    /// was sent to.
    pub(super) fn conclude(&self, passage: Passage<'_>, outcome: Outcome, receiver: Option<Owner>) {
        let Passage { sender, event, to } = passage;
        let is_of_node = sender.owner.is_some();
        if is_of_node {
            self.metrics.message(event, outcome.ack());
        } else {
            self.metrics.bridge_messages.inc([bridge::label(outcome)]);
        }
        if !outcome.was_tried() {
            return;
        }
        let (from, to, event_name) = (&sender.name, Logged(to), event.name());
        tracing::info!(target: EVENTS, event = event_name, ?from, ?to, is_of_node, ?outcome, "event");
        if event == Event::SocketMessage {
            self.notify_webhook(passage, outcome);
        }
        if event == Event::ConnectionAttempt
            && outcome == Outcome::Delivered
            && let Some(receiver) = receiver
        {
            self.open_pair(passage, receiver);
        }
    }

    /// Notifies the on-message webhook, if there is one.
    fn notify_webhook(&self, passage: Passage<'_>, outcome: Outcome) {
        let Some(webhook) = &self.webhooks.socket_message else { return };
        let is_away =
            matches!(outcome, Outcome::NotConnected | Outcome::NotHere | Outcome::InTransition);
        webhook.tell(SocketMessage {
            sender_id: passage.sender.name.as_str().to_owned(),
            receiver_id: passage.to.to_owned(),
            is_receiver_connected: !is_away,
        });
    }
}
