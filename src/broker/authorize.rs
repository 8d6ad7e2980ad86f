//! Whether a message may pass: the operator's switches, its addresses, the authorization webhook
//! and the pairs that it has opened.

use std::sync::Arc;

use super::Broker;
use super::route::Route;
use crate::delivery::Outcome;
use crate::login::Grant;
use crate::node::{NodeId, Owner};
use crate::protocol::{Envelope, Event, Payload};

/// The sender of a message.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// The name that the receiver knows it by.
    pub(super) name: NodeId,
    /// The connection that it sends from, if it is a node and not an overlay peer.
    pub(super) owner: Option<Owner>,
    /// What it may do by its token, if it logged in with one.
    pub(super) grant: Option<Arc<Grant>>,
}

impl Sender {
    /// Whether its token lets it send to this one.
    fn may_send_to(&self, to: &str) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.may_send_to(to))
    }
}

/// Whether a message may pass; if not, why.
pub(super) type Permission = Result<(), Outcome>;

/// An event with its sender and receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passage<'a> {
    pub(super) sender: &'a Sender,
    pub(super) event: Event,
    pub(super) to: &'a str,
}

impl Broker {
    /// Checks what needs no lookup, in this order: the switches, the form of the message, its
    /// sender, and whether its receiver can exist. `None` is an event without exactly one string
    /// argument.
    pub(super) fn check<'a>(
        &self,
        sender: &Sender,
        event: Event,
        payload: Option<Payload<'a>>,
    ) -> Result<(Envelope<'a>, Payload<'a>), Outcome> {
        if !self.is_enabled(event) {
            return Err(Outcome::Disabled);
        }
        let payload = payload.ok_or(Outcome::Invalid)?;
        let envelope = payload.envelope().map_err(|_| Outcome::Invalid)?;
        match &envelope.from {
            Some(from) if from != sender.name.as_str() => Err(Outcome::Invalid),
            // No node has such an ID, so it never reaches a webhook, cache or log.
            _ if !NodeId::may_be(&envelope.to) => Err(Outcome::NotConnected),
            _ if !self.memory.admits_message() => Err(Outcome::NoMemory),
            _ => Ok((envelope, payload)),
        }
    }

    /// Whether the operator lets events of this kind pass.
    pub(super) fn is_enabled(&self, event: Event) -> bool {
        if event.is_signaling() {
            self.settings.signaling_enabled
        } else {
            self.settings.relay_enabled
        }
    }

    /// Whether a message may pass, if that is known without a lookup.
    pub(super) fn known_permission(
        &self,
        passage: Passage<'_>,
        route: Option<&Route>,
    ) -> Option<Permission> {
        // Whether a peer's name is a node's has to be asked.
        passage.sender.owner?;
        let is_granted = passage.sender.may_send_to(passage.to);
        if is_granted && self.webhooks.authorization.is_none() {
            return Some(Ok(()));
        }
        if route.is_some_and(|route| self.is_of_open_pair(passage, route)) {
            return Some(Ok(()));
        }
        if !is_granted {
            // It may still be part of an open pair; the route will tell.
            let is_known = route.is_some() || !passage.event.follows_attempt();
            return is_known.then_some(Err(Outcome::Unauthorized));
        }
        let authorization = self.webhooks.authorization.as_ref()?;
        let is_authorized = authorization.remembered(passage.sender.name.as_str(), passage.to)?;
        Some(if is_authorized { Ok(()) } else { Err(Outcome::Unauthorized) })
    }

    /// Finds out whether a message may pass.
    pub(super) async fn permission(&self, passage: Passage<'_>, route: &Route) -> Permission {
        let name = passage.sender.name.as_str();
        let is_open = self.is_of_open_pair(passage, route);
        if !is_open && !passage.sender.may_send_to(passage.to) {
            return Err(Outcome::Unauthorized);
        }
        if let Some(authorization) = &self.webhooks.authorization
            && !is_open
        {
            match authorization.ask(name, passage.to).await {
                Ok(true) => {}
                Ok(false) => return Err(Outcome::Unauthorized),
                Err(_) => return Err(Outcome::AuthorizationFailed),
            }
        }
        if passage.sender.owner.is_some() {
            return Ok(());
        }
        // Nothing proves who sent a peer's message. If the ID is a node's, it is not a peer's.
        // Checked last, because a node may connect while the webhook is called.
        match self.resolve(name).await {
            Route::Here(..) | Route::Replica(_) => Err(Outcome::NameOfANode),
            Route::Peer(_) | Route::Nowhere if self.knows_all_names() => Ok(()),
            Route::Peer(_) | Route::Nowhere | Route::Unknown => Err(Outcome::NotLocated),
        }
    }

    /// The permission at the moment of delivery.
    pub(super) fn permission_now(
        &self,
        passage: Passage<'_>,
        route: &Route,
        permission: Permission,
    ) -> Permission {
        if passage.sender.owner.is_none()
            && self.connections.is_registered(passage.sender.name.as_str())
        {
            return Err(Outcome::NameOfANode);
        }
        // An attempt that was waiting before it may have opened the pair by now.
        permission.or_else(
            |refused| {
                if self.is_of_open_pair(passage, route) { Ok(()) } else { Err(refused) }
            },
        )
    }

    /// Lets the rest of the signaling between a sender and the receiver of its attempt pass.
    /// Without authorization everything does anyway. Each replica knows the pairs of its nodes.
    pub(super) fn open_pair(&self, passage: Passage<'_>, receiver: Owner) {
        let Passage { sender, to, .. } = passage;
        let Some(owner) = sender.owner.filter(|_| self.opens_pairs()) else { return };
        self.pairs.open((&sender.name, owner), (to, receiver));
        if receiver.replica == self.replica
            && let Some((to, receiver)) = self.connections.node(to)
        {
            self.pairs.open((&to, receiver), (sender.name.as_str(), owner));
        }
    }

    /// Whether anything may be refused that an open pair lets pass.
    pub(super) fn opens_pairs(&self) -> bool {
        self.webhooks.authorization.is_some() || self.login.is_some()
    }

    /// Whether an ID that was not found is no node's. That is uncertain after Redis has lost data,
    /// until all replicas have had time to assert their leases again.
    pub(super) fn knows_all_names(&self) -> bool {
        self.directory.is_ready()
    }

    /// Whether a message belongs to a pair that an authorized attempt has opened.
    fn is_of_open_pair(&self, passage: Passage<'_>, route: &Route) -> bool {
        let Passage { sender, event, to } = passage;
        let (Some(owner), Some(receiver)) = (sender.owner, route.owner()) else { return false };
        event.follows_attempt() && self.pairs.is_open((&sender.name, owner), (to, receiver))
    }
}
