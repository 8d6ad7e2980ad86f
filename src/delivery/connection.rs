//! A node's connection: what is sent to it, and what is known about it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Outcome;
use super::clients::Client;
use crate::lifecycle::{Arrival, Departure};
use crate::node::{ConnectionId, NodeId};
use crate::protocol::JsonString;
use link::{CloseReason, LinkHandle, SendError};

/// A cheap handle for sending to a node's connection. It does not keep the connection open.
#[derive(Clone)]
pub(crate) struct Connection(Arc<State>);

struct State {
    link: LinkHandle,
    client: Arc<Client>,
    since: u64,
    began: Instant,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    /// Why an operator has disconnected the node.
    note: OnceLock<Box<str>>,
}

/// What has passed over a connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Signaling events and messages that the node has sent.
    pub(crate) messages_in: u64,
    /// Signaling events and messages that were handed over to the node.
    pub(crate) messages_out: u64,
    /// Bytes read from the node.
    pub(crate) bytes_in: u64,
    /// Bytes written to the node.
    pub(crate) bytes_out: u64,
}

impl Connection {
    /// Creates a connection, as of now, whose frames leave by `link`.
    pub(crate) fn new(link: LinkHandle, client: Arc<Client>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(State {
            link,
            client,
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            began: Instant::now(),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            note: OnceLock::new(),
        }))
    }

    /// The link below.
    pub(crate) fn link(&self) -> &LinkHandle {
        &self.0.link
    }

    /// The program that the node runs.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// When the node was admitted, in milliseconds since 1970.
    pub(crate) fn since(&self) -> u64 {
        self.0.since
    }

    /// Returns what has passed so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let (bytes_in, bytes_out) = self.0.link.traffic();
        Traffic {
            messages_in: self.0.messages_in.load(Ordering::Relaxed),
            messages_out: self.0.messages_out.load(Ordering::Relaxed),
            bytes_in,
            bytes_out,
        }
    }

    /// Returns why an operator has disconnected the node, if one has.
    pub(crate) fn note(&self) -> Option<&str> {
        self.0.note.get().map(|note| &**note)
    }

    /// Describes the connection as that of a node that has come.
    pub(super) fn arrival(&self, node: &NodeId, connection: ConnectionId) -> Arrival {
        let Client { runtime, version } = self.client();
        let address = self.0.link.remote_addr().ip();
        let (runtime, version) = (runtime.clone(), version.clone());
        Arrival { node: node.clone(), connection, address, runtime, version }
    }

    /// Describes the connection as that of a node that has left.
    pub(super) fn departure(
        &self,
        node: &NodeId,
        connection: ConnectionId,
        reason: CloseReason,
    ) -> Departure {
        let Traffic { messages_in, messages_out, .. } = self.traffic();
        Departure {
            node: node.clone(),
            connection,
            reason: reason.label(),
            note: self.note().map(Into::into),
            duration_ms: u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            messages_in,
            messages_out,
        }
    }

    /// Counts a signaling event or a message that the node has sent.
    pub(crate) fn record_message(&self) {
        self.0.messages_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Queues a signaling event or a message.
    pub(crate) fn send_event(&self, event: &str, argument: JsonString<'_>) -> Outcome {
        let outcome = self.notify(event, argument);
        if outcome == Outcome::Delivered {
            self.0.messages_out.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Queues an event of the broker itself.
    pub(crate) fn notify(&self, event: &str, argument: JsonString<'_>) -> Outcome {
        match self.0.link.send_event(event, argument.as_str()) {
            Ok(()) => Outcome::Delivered,
            Err(SendError::QueueFull) => Outcome::QueueFull,
            Err(SendError::Closed) => Outcome::NotHere,
        }
    }

    /// Queues an acknowledgement.
    pub(crate) fn send_ack(&self, ack_id: i64, argument: JsonString<'_>) {
        self.0.link.send_ack(ack_id, argument.as_str());
    }

    /// Disconnects a node: sends Socket.IO's disconnect packet, then closes the connection.
    /// Socket.IO's own client does not reconnect after it.
    pub(crate) fn disconnect(&self, reason: CloseReason) {
        self.0.link.send_disconnect();
        self.0.link.close(reason);
    }

    /// Disconnects a node as an operator says, who gives this reason.
    pub(crate) fn kick(&self, note: &str) {
        // The first reason is the one that ends the connection.
        let _ = self.0.note.set(note.into());
        self.disconnect(CloseReason::Kicked);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("link", &self.0.link).finish_non_exhaustive()
    }
}
