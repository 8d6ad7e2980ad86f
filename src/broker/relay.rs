//! A message goes from one node to another.

use super::Broker;
use crate::delivery::Delivered;
use crate::node::NodeId;
use crate::protocol::{Ack, Envelope, Event, Payload};
use crate::telemetry::EVENTS;

impl Broker {
    /// Hands `payload` on to the node that it is addressed to and tells what to answer its
    /// sender. `None` stands for an event without exactly one string argument.
    pub fn relay(&self, sender: &NodeId, event: Event, payload: Option<Payload<'_>>) -> Ack {
        let ack = self.route(sender, event, payload);
        self.metrics.message(event, ack);
        ack
    }

    /// The checks have a fixed order, which decides between two answers that would both fit.
    fn route(&self, sender: &NodeId, event: Event, payload: Option<Payload<'_>>) -> Ack {
        if !self.is_enabled(event) {
            return Ack::Disabled;
        }
        let Some(payload) = payload else { return Ack::Error };
        let content = payload.content();
        let Ok(envelope) = Envelope::parse(&content) else { return Ack::Error };
        if envelope.from.is_some_and(|from| from != sender.as_str()) {
            return Ack::Error;
        }
        let delivered = self.delivery.deliver(&envelope.to, event, payload);
        tracing::info!(target: EVENTS, event = event.name(), from = ?sender, to = ?envelope.to, ?delivered, "event");
        match delivered {
            Delivered::Yes => Ack::Ok,
            Delivered::NotConnected => Ack::NotConnected,
            Delivered::QueueFull => Ack::Error,
        }
    }

    fn is_enabled(&self, event: Event) -> bool {
        if event.is_signaling() {
            self.settings.signaling_enabled
        } else {
            self.settings.relay_enabled
        }
    }
}
