//! A message goes from one node to another.
//!
//! Most messages pass in one go: [`Broker::relay`]. Where the authorization webhook has to be
//! asked first, the same comes in three steps: [`Broker::relay`] gives a [`Pending`] message,
//! [`Broker::permission`] asks, [`Broker::resume`] hands over. Many may ask side by side; their
//! connection resumes them in the order in which they came.

use super::{Admission, Broker};
use crate::delivery::Delivered;
use crate::protocol::{Ack, Envelope, Event, Payload};
use crate::telemetry::EVENTS;
use crate::webhooks::SocketMessage;

/// What became of a message at first.
#[derive(Debug)]
pub enum Relayed {
    /// It was answered.
    Answered(Ack),
    /// It has to wait.
    Waits(Pending),
}

/// Whether anything of the same connection waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: the message may be handed over at once.
    Now,
    /// Something: it has to wait behind that, even if nothing has to be asked for it.
    Behind,
}

/// A message that waits, without its payload.
#[derive(Debug)]
pub struct Pending {
    event: Event,
    to: String,
    known: Option<Permission>,
}

/// The answer whether a message may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Granted,
    /// It may not.
    Denied,
    /// Nobody knows: the webhook gave no answer.
    Unknown,
}

impl Broker {
    /// Hands `payload` on to the node that it is addressed to and tells what to answer its
    /// sender, unless it has to wait. `None` stands for an event without exactly one string
    /// argument.
    ///
    /// The checks have a fixed order, which decides between two answers that would both fit.
    pub fn relay(
        &self,
        sender: &Admission,
        event: Event,
        payload: Option<Payload<'_>>,
        turn: Turn,
    ) -> Relayed {
        if !self.is_enabled(event) {
            return self.answered(event, Ack::Disabled);
        }
        let Some(payload) = payload else { return self.answered(event, Ack::Error) };
        let content = payload.content();
        let Ok(envelope) = Envelope::parse(&content) else {
            return self.answered(event, Ack::Error);
        };
        if envelope.from.is_some_and(|from| from != sender.node.as_str()) {
            return self.answered(event, Ack::Error);
        }
        let known = self.known_permission(sender, event, &envelope.to);
        match known {
            Some(Permission::Denied) if turn == Turn::Now => {
                self.answered(event, Ack::Unauthorized)
            }
            Some(_) if turn == Turn::Now => {
                let ack = self.hand_over(sender, event, &envelope.to, payload);
                self.answered(event, ack)
            }
            _ => Relayed::Waits(Pending { event, to: envelope.to.into_owned(), known }),
        }
    }

    /// Asks whether a waiting message may pass.
    pub async fn permission(&self, sender: &Admission, pending: &Pending) -> Permission {
        if let Some(known) = pending.known {
            return known;
        }
        let Some(authorization) = &self.webhooks.authorization else { return Permission::Granted };
        match authorization.ask(sender.node.as_str(), &pending.to).await {
            Ok(true) => Permission::Granted,
            Ok(false) => Permission::Denied,
            Err(_) => Permission::Unknown,
        }
    }

    /// Hands over a message that has waited, or tells why not.
    pub fn resume(
        &self,
        sender: &Admission,
        pending: &Pending,
        permission: Permission,
        payload: Payload<'_>,
    ) -> Ack {
        let Pending { event, ref to, .. } = *pending;
        // An attempt that was waiting before it may have opened the pair by now.
        let is_open =
            event != Event::ConnectionAttempt && event.is_signaling() && self.is_open(sender, to);
        let ack = match permission {
            Permission::Denied if !is_open => Ack::Unauthorized,
            Permission::Unknown if !is_open => Ack::Error,
            _ => self.hand_over(sender, event, to, payload),
        };
        self.metrics.message(event, ack);
        ack
    }

    fn answered(&self, event: Event, ack: Ack) -> Relayed {
        self.metrics.message(event, ack);
        Relayed::Answered(ack)
    }

    fn is_enabled(&self, event: Event) -> bool {
        if event.is_signaling() {
            self.settings.signaling_enabled
        } else {
            self.settings.relay_enabled
        }
    }

    /// Whether the message may pass, if that is known without asking.
    fn known_permission(&self, sender: &Admission, event: Event, to: &str) -> Option<Permission> {
        let Some(authorization) = &self.webhooks.authorization else {
            return Some(Permission::Granted);
        };
        let asks_always = matches!(event, Event::ConnectionAttempt | Event::SocketMessage);
        if !asks_always && self.is_open(sender, to) {
            return Some(Permission::Granted);
        }
        let remembered = authorization.remembered(sender.node.as_str(), to)?;
        Some(if remembered { Permission::Granted } else { Permission::Denied })
    }

    fn is_open(&self, sender: &Admission, to: &str) -> bool {
        let receiver = self.connections.owner(to);
        receiver.is_some_and(|owner| self.pairs.is_open((&sender.node, sender.owner), (to, owner)))
    }

    fn hand_over(&self, sender: &Admission, event: Event, to: &str, payload: Payload<'_>) -> Ack {
        let delivered = self.delivery.deliver(to, event, payload);
        tracing::info!(target: EVENTS, event = event.name(), from = ?sender.node, ?to, ?delivered, "event");
        if event == Event::SocketMessage
            && let Some(webhook) = &self.webhooks.socket_message
        {
            webhook.tell(SocketMessage {
                sender_id: sender.node.to_string(),
                receiver_id: to.to_owned(),
                is_receiver_connected: delivered != Delivered::NotConnected,
            });
        }
        if event == Event::ConnectionAttempt && delivered == Delivered::Yes {
            self.open_pair(sender, to);
        }
        match delivered {
            Delivered::Yes => Ack::Ok,
            Delivered::NotConnected => Ack::NotConnected,
            Delivered::QueueFull => Ack::Error,
        }
    }

    /// Lets the rest of the signaling pass. Without authorization everything does anyway.
    fn open_pair(&self, sender: &Admission, to: &str) {
        if self.webhooks.authorization.is_none() {
            return;
        }
        if let Some((node, owner)) = self.connections.node(to) {
            self.pairs.open((&sender.node, sender.owner), (&node, owner));
        }
    }
}
