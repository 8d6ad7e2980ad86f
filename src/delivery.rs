//! Hands a message to the connection that owns its receiver's ID.

mod local;

pub use local::{LocalConnections, Receiver};

use crate::protocol::{Event, Payload};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver's connection has it.
    Yes,
    /// No connection has the receiver's ID.
    NotConnected,
    /// The receiver's connection reads too slowly: it has too much queued already.
    QueueFull,
}

/// The ways to all connections of the cluster.
#[derive(Clone)]
pub struct Delivery {
    local: LocalConnections,
}

impl Delivery {
    /// Delivery to the connections of this replica.
    pub fn new(local: LocalConnections) -> Self {
        Self { local }
    }

    /// Hands `payload` to the connection of the node `to`.
    pub fn deliver(&self, to: &str, event: Event, payload: Payload<'_>) -> Delivered {
        match self.local.receiver(to) {
            Some(receiver) => receiver.deliver(event.name(), payload.raw()),
            None => Delivered::NotConnected,
        }
    }

    /// Whether a connection has the ID and can be sent to.
    pub fn is_connected(&self, node: &str) -> bool {
        self.local.is_connected(node)
    }
}
