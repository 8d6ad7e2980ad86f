//! Events of nodes, as readers get them in JSON.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::node::{ConnectionId, NodeId};

/// Something that happened to a node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeEvent {
    /// The number of the event; each is greater by one than the one before.
    pub(crate) sequence: u64,
    /// When it happened, in milliseconds since 1970.
    pub(super) time: u64,
    #[serde(flatten)]
    pub(super) change: Change,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(super) enum Change {
    /// The node can be reached.
    Connected(Arrival),
    /// The node's connection has ended.
    Disconnected(Departure),
    /// The node has connected again soon after its connection had ended.
    Reconnected {
        #[serde(flatten)]
        arrival: Arrival,
        /// How long it was not connected.
        away_ms: u64,
        previous: Departure,
    },
    /// A connection was refused for good.
    Refused {
        #[serde(serialize_with = "optional_id", skip_serializing_if = "Option::is_none")]
        node_id: Option<NodeId>,
        address: IpAddr,
        cause: &'static str,
        /// The number of refusals since the last event of this kind that became no events.
        #[serde(skip_serializing_if = "is_zero")]
        omitted: u64,
    },
}

impl Change {
    /// The name in metrics, and in JSON.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Connected(_) => "connected",
            Self::Disconnected(_) => "disconnected",
            Self::Reconnected { .. } => "reconnected",
            Self::Refused { .. } => "refused",
        }
    }
}

impl NodeEvent {
    /// The name of what happened.
    pub(crate) fn label(&self) -> &'static str {
        self.change.label()
    }
}

/// A connection that begins.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Arrival {
    #[serde(rename = "nodeId", serialize_with = "id")]
    pub(crate) node: NodeId,
    #[serde(serialize_with = "number")]
    pub(crate) connection: ConnectionId,
    pub(crate) address: IpAddr,
    pub(crate) runtime: Box<str>,
    pub(crate) version: Box<str>,
}

/// A connection that has ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Departure {
    #[serde(rename = "nodeId", serialize_with = "id")]
    pub(crate) node: NodeId,
    #[serde(serialize_with = "number")]
    pub(crate) connection: ConnectionId,
    pub(crate) reason: &'static str,
    /// Why an operator has disconnected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<Box<str>>,
    /// How long it was admitted.
    pub(crate) duration_ms: u64,
    /// Signaling events and messages that the node has sent.
    pub(crate) messages_in: u64,
    /// Signaling events and messages that were handed over to the node.
    pub(crate) messages_out: u64,
}

fn id<S: Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(node.as_str())
}

fn optional_id<S: Serializer>(node: &Option<NodeId>, serializer: S) -> Result<S::Ok, S::Error> {
    node.as_ref().map(NodeId::as_str).serialize(serializer)
}

fn number<S: Serializer>(connection: &ConnectionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(connection.number())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
