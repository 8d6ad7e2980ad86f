//! Messages to nodes, in the name of the operator.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Context;
use super::caller::Writer;
use super::extract::{Body, Params};
use super::nodes::names;
use super::problem::{Problem, ProblemDocument};
use crate::broker::{AckCounts, Announcement};
use crate::node::NodeId;
use crate::protocol::Ack;

/// The most receivers that a request may name.
const MAX_RECEIVERS: usize = 1000;

/// The longest content, in bytes.
const MAX_CONTENT_BYTES: usize = 64 * 1024;

/// The longest name of a channel, in bytes.
const MAX_CHANNEL_BYTES: usize = 256;

/// A message to nodes.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// The receivers.
    to: Receivers,
    /// The channel, as official nodes name it; at most 256 bytes.
    channel: String,
    /// What the message says; at most 64 KiB.
    content: String,
}

/// The ID of a node, up to 1000 IDs, or `*` for all nodes.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
enum Receivers {
    One(String),
    Many(Vec<String>),
}

/// What became of a message.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum MessageReply {
    /// For receivers that were named: the ack of each, in their order.
    Named { acks: Vec<NodeAck> },
    /// For all nodes: how many there were of each ack. Nodes of replicas in `incomplete`, which did
    /// not reply in time, may have got the message or not.
    All { counts: AckCounts, incomplete: Vec<String> },
}

/// The ack of one node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct NodeAck {
    /// The node's ID.
    to: String,
    /// `OK`, `NOT_CONNECTED` or `ERROR`.
    ack: &'static str,
}

/// Sends a message (SOCKET_MSG_EXCHANGE) to one, many or all nodes.
#[utoipa::path(
    post,
    path = "/messages",
    request_body = Message,
    responses(
        (status = 200, body = MessageReply),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn send(
    caller: Writer,
    State(api): Context,
    params: Params,
    Body(Message { to, channel, content }): Body<Message>,
) -> Result<Json<MessageReply>, Problem> {
    params.finish()?;
    let Some(from) = api.settings.sender.as_ref() else {
        return Err(Problem::conflict("no_sender", "API_SENDER_ID is not set"));
    };
    if channel.len() > MAX_CHANNEL_BYTES || content.len() > MAX_CONTENT_BYTES {
        return Err(Problem::bad_request("the channel or the content is too long"));
    }
    let announcement = Announcement { from: from.to_string(), channel, content };
    let ids = match to {
        Receivers::One(all) if all == "*" => {
            caller.audit("message", "*", "");
            let (counts, incomplete) = api.broker.announce(announcement).await;
            return Ok(Json(MessageReply::All { counts, incomplete: names(&incomplete) }));
        }
        Receivers::One(id) => vec![id],
        Receivers::Many(ids) => ids,
    };
    if ids.is_empty() || ids.len() > MAX_RECEIVERS {
        return Err(Problem::bad_request(format!("to names not 1 to {MAX_RECEIVERS} nodes")));
    }
    let target = match &*ids {
        [only] => only.clone(),
        many => format!("{} nodes", many.len()),
    };
    caller.audit("message", &target, "");
    let nodes: Vec<_> = ids.iter().filter_map(|id| NodeId::parse(id).ok()).collect();
    let acks = api.broker.announce_to(&announcement, &nodes).await;
    let mut acks = nodes.iter().map(NodeId::as_str).zip(acks).peekable();
    let acked = ids.iter().map(|id| {
        // What is no ID is not connected.
        let ack = acks.next_if(|(node, _)| node == id).map_or(Ack::NotConnected, |(_, ack)| ack);
        NodeAck { to: id.clone(), ack: ack.as_str() }
    });
    Ok(Json(MessageReply::Named { acks: acked.collect() }))
}
