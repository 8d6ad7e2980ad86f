//! A message goes from one node to another.
//!
//! Most messages pass in one go: [`Broker::relay`]. Where the authorization webhook has to be
//! asked first, or the receiver is on another replica, the same comes in steps:
//! [`Broker::relay`] gives a [`Pending`] message, [`Broker::prepare`] asks whether it may pass
//! and where its receiver is, [`Broker::hand_over`] hands it over or sends it on, and
//! [`Broker::settle`] answers when the other replica has. Many may be prepared side by side;
//! their connection hands them over in the order in which they came.

use super::{Admission, Broker};
use crate::delivery::{Delivered, RemoteMessage, ReplyTo};
use crate::node::Owner;
use crate::protocol::{Ack, Event, JsonString, Payload};
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

/// A message that waits, without its event's argument.
#[derive(Debug)]
pub struct Pending {
    event: Event,
    to: String,
    known: Option<Permission>,
}

impl Pending {
    /// The receiver's ID.
    pub fn to(&self) -> &str {
        &self.to
    }
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

/// Where a receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// With this owner, on this replica or another.
    At(Owner),
    /// It is not connected.
    Nowhere,
    /// Nobody knows: the directory cannot be asked.
    Unknown,
}

/// All that has to be known before a message can be handed over.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    permission: Permission,
    /// Where the message is to be handed over.
    pub location: Location,
}

/// What became of a message that had waited.
#[derive(Debug)]
pub enum HandedOver {
    /// It was answered.
    Answered(Ack),
    /// It was sent to the replica of this owner, whose answer comes later.
    Sent(Owner),
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
        let Ok(envelope) = payload.envelope() else {
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
            Some(Permission::Granted) if turn == Turn::Now => {
                match self.deliver_here(event, &envelope.to, payload.json()) {
                    Some((owner, delivered)) => {
                        let ack = self.close(sender, event, &envelope.to, Some(owner), delivered);
                        self.answered(event, ack)
                    }
                    None if self.remote.is_none() => {
                        let delivered =
                            self.send_to_peer(sender, event, &envelope.to, payload.json());
                        let ack = self.close(sender, event, &envelope.to, None, delivered);
                        self.answered(event, ack)
                    }
                    None => Relayed::Waits(Pending { event, to: envelope.to.into_owned(), known }),
                }
            }
            _ => Relayed::Waits(Pending { event, to: envelope.to.into_owned(), known }),
        }
    }

    /// What has to be known of a message, if it is known without asking.
    pub fn prepared(&self, pending: &Pending) -> Option<Prepared> {
        let permission = pending.known?;
        let location = Location::At(self.known_owner(&pending.to)?);
        Some(Prepared { permission, location })
    }

    /// Asks where the receiver of a waiting message is, and whether the message may pass.
    pub async fn prepare(&self, sender: &Admission, pending: &Pending) -> Prepared {
        let location = match self.connections.owner(&pending.to) {
            Some(owner) => Location::At(owner),
            None => self.locate(&pending.to).await,
        };
        let permission = match pending.known {
            Some(known) => known,
            None => self.permission(sender, pending, location).await,
        };
        Prepared { permission, location }
    }

    pub(super) async fn locate(&self, to: &str) -> Location {
        match self.directory.locate(to).await {
            Ok(Some(owner)) => Location::At(owner),
            Ok(None) => Location::Nowhere,
            Err(_) => Location::Unknown,
        }
    }

    async fn permission(
        &self,
        sender: &Admission,
        pending: &Pending,
        location: Location,
    ) -> Permission {
        let Some(authorization) = &self.webhooks.authorization else { return Permission::Granted };
        if self.is_answer(sender, pending, location) {
            return Permission::Granted;
        }
        match authorization.ask(sender.node.as_str(), &pending.to).await {
            Ok(true) => Permission::Granted,
            Ok(false) => Permission::Denied,
            Err(_) => Permission::Unknown,
        }
    }

    /// The same, if the receiver has come to this replica since it was looked for.
    pub fn look_again(&self, pending: &Pending, prepared: Prepared) -> Prepared {
        let here = self.connections.owner(&pending.to);
        Prepared { location: here.map_or(prepared.location, Location::At), ..prepared }
    }

    /// Hands over a message that has waited, or tells why not. If its receiver is on another
    /// replica, the answer goes to `reply_to`. It goes nowhere else than `prepared` says: another
    /// one for the same receiver may still come back from there, and has to be before it.
    pub fn hand_over(
        &self,
        sender: &Admission,
        pending: &Pending,
        prepared: Prepared,
        argument: JsonString<'_>,
        reply_to: impl FnOnce() -> ReplyTo,
    ) -> HandedOver {
        let Pending { event, ref to, .. } = *pending;
        let Prepared { permission, location } = prepared;
        // An attempt that was waiting before it may have opened the pair by now.
        let may_pass =
            permission == Permission::Granted || self.is_answer(sender, pending, location);
        let ack = match (permission, location) {
            (Permission::Denied, _) if !may_pass => Ack::Unauthorized,
            (Permission::Unknown, _) if !may_pass => Ack::Error,
            (_, Location::Unknown) => Ack::Error,
            (_, Location::At(owner)) if owner.replica != self.replica => {
                return self.send_on(sender, pending, owner, argument, reply_to);
            }
            _ => {
                let (owner, delivered) = match self.deliver_here(event, to, argument) {
                    Some((owner, delivered)) => (Some(owner), delivered),
                    None if location == Location::Nowhere => {
                        (None, self.send_to_peer(sender, event, to, argument))
                    }
                    None => (None, Delivered::NotConnected),
                };
                self.close(sender, event, to, owner, delivered)
            }
        };
        self.metrics.message(event, ack);
        HandedOver::Answered(ack)
    }

    fn send_on(
        &self,
        sender: &Admission,
        pending: &Pending,
        owner: Owner,
        argument: JsonString<'_>,
        reply_to: impl FnOnce() -> ReplyTo,
    ) -> HandedOver {
        let Some(remote) = &self.remote else { return HandedOver::Answered(Ack::Error) };
        let opens = pending.event == Event::ConnectionAttempt;
        let message = RemoteMessage {
            to: &pending.to,
            connection: owner.connection,
            event: pending.event,
            argument,
            opener: opens.then_some((sender.node.as_str(), sender.owner)),
        };
        remote.send(owner.replica, &message, reply_to());
        HandedOver::Sent(owner)
    }

    /// Looks again for the receiver of a message that was not found where it was sent to. `None`
    /// if there is nowhere else to send it.
    pub async fn relocate(
        &self,
        sender: &Admission,
        pending: &Pending,
        owner: Owner,
    ) -> Option<Prepared> {
        self.directory.forget_location(&pending.to);
        let location = match self.connections.owner(&pending.to) {
            Some(here) => Location::At(here),
            None => self.locate(&pending.to).await,
        };
        if location == Location::At(owner) {
            return None;
        }
        let permission = match pending.event {
            Event::ConnectionAttempt | Event::SocketMessage => Permission::Granted,
            // It may have passed as part of a pair, which is not open to another connection.
            _ => self.permission(sender, pending, location).await,
        };
        Some(Prepared { permission, location })
    }

    /// Answers a message that was sent to the replica of `owner`.
    pub fn settle(
        &self,
        sender: &Admission,
        pending: &Pending,
        owner: Owner,
        delivered: Delivered,
    ) -> Ack {
        let ack = self.close(sender, pending.event, &pending.to, Some(owner), delivered);
        self.metrics.message(pending.event, ack);
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
        if !asks_always && self.is_open(sender, to, self.known_owner(to)) {
            return Some(Permission::Granted);
        }
        let remembered = authorization.remembered(sender.node.as_str(), to)?;
        Some(if remembered { Permission::Granted } else { Permission::Denied })
    }

    /// Whether the message belongs to a pair that an authorized attempt has opened.
    fn is_answer(&self, sender: &Admission, pending: &Pending, location: Location) -> bool {
        let Location::At(owner) = location else { return false };
        pending.event != Event::ConnectionAttempt
            && pending.event.is_signaling()
            && self.is_open(sender, &pending.to, Some(owner))
    }

    fn is_open(&self, sender: &Admission, to: &str, receiver: Option<Owner>) -> bool {
        receiver.is_some_and(|owner| self.pairs.is_open((&sender.node, sender.owner), (to, owner)))
    }

    /// Who owns the ID, if that is known without asking.
    fn known_owner(&self, to: &str) -> Option<Owner> {
        self.connections.owner(to).or_else(|| self.directory.known_location(to))
    }

    /// Hands the argument to the receiver's connection; `None` if it is not on this replica.
    fn deliver_here(
        &self,
        event: Event,
        to: &str,
        argument: JsonString<'_>,
    ) -> Option<(Owner, Delivered)> {
        let (owner, receiver) = self.connections.receiver(to)?;
        Some((owner, receiver.deliver(event.name(), argument)))
    }

    /// What is done when a message has come to its end, and what its sender is answered.
    fn close(
        &self,
        sender: &Admission,
        event: Event,
        to: &str,
        receiver: Option<Owner>,
        delivered: Delivered,
    ) -> Ack {
        tracing::info!(target: EVENTS, event = event.name(), from = ?sender.node, ?to, ?delivered, "event");
        if event == Event::SocketMessage {
            self.tell(sender.node.as_str(), to, delivered);
        }
        if event == Event::ConnectionAttempt
            && delivered == Delivered::Yes
            && let Some(receiver) = receiver
        {
            self.open_pair(sender, to, receiver);
        }
        match delivered {
            Delivered::Yes => Ack::Ok,
            Delivered::NotConnected | Delivered::Passing => Ack::NotConnected,
            Delivered::QueueFull
            | Delivered::TooLong
            | Delivered::Unreachable
            | Delivered::Unknown => Ack::Error,
        }
    }

    /// Tells the on-message webhook, if there is one.
    pub(super) fn tell(&self, sender: &str, receiver: &str, delivered: Delivered) {
        let Some(webhook) = &self.webhooks.socket_message else { return };
        let is_away = matches!(delivered, Delivered::NotConnected | Delivered::Passing);
        webhook.tell(SocketMessage {
            sender_id: sender.to_owned(),
            receiver_id: receiver.to_owned(),
            is_receiver_connected: !is_away,
        });
    }

    /// Lets the rest of the signaling pass. Without authorization everything does anyway. Each
    /// replica knows the pairs of its own nodes.
    fn open_pair(&self, sender: &Admission, to: &str, receiver: Owner) {
        if self.webhooks.authorization.is_none() {
            return;
        }
        self.pairs.open((&sender.node, sender.owner), (to, receiver));
        if receiver.replica == self.replica
            && let Some((to, owner)) = self.connections.node(to)
        {
            self.pairs.open((&to, owner), (sender.node.as_str(), sender.owner));
        }
    }
}
