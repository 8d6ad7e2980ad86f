//! The connected nodes: listed, looked up, disconnected.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;

use super::Context;
use super::caller::{Reader, Writer};
use super::extract::{NodePath, Params, cursor_after};
use super::problem::{Problem, ProblemDocument};
use crate::broker::{Node, NodesQuery};
use crate::node::ReplicaId;

/// A page of nodes.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct NodesReply {
    /// In the order of their IDs, by bytes.
    nodes: Vec<Node>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The replicas that did not reply in time: their nodes are missing.
    incomplete: Vec<String>,
}

/// Lists the connected nodes of all replicas.
#[utoipa::path(
    get,
    path = "/nodes",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "the most nodes; 100 by default"),
        ("search" = Option<String>, Query, description = "what the ID has to contain"),
        ("replica" = Option<String>, Query, description = "the only replica to ask"),
    ),
    responses(
        (status = 200, body = NodesReply),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn list(
    _: Reader,
    State(api): Context,
    mut params: Params,
) -> Result<Json<NodesReply>, Problem> {
    let (after, limit) = params.take_page()?;
    let search = params.take("search")?.unwrap_or_default();
    let replica = params.take("replica")?;
    params.finish()?;
    let replica = match replica {
        Some(id) => {
            let unknown = || Problem::not_found("there is no such replica");
            let replica: ReplicaId = id.parse().map_err(|_| unknown())?;
            if !api.broker.has_replica(replica).await {
                return Err(unknown());
            }
            Some(replica)
        }
        None => None,
    };
    let (page, incomplete) = api.broker.nodes(NodesQuery { after, limit, search }, replica).await;
    let last = page.nodes.last().filter(|_| page.has_more);
    Ok(Json(NodesReply {
        next: last.map(|node| cursor_after(&node.id)),
        nodes: page.nodes,
        incomplete: names(&incomplete),
    }))
}

/// Looks up a node.
#[utoipa::path(
    get,
    path = "/nodes/{id}",
    params(("id" = String, Path, description = "the node's ID")),
    responses(
        (status = 200, body = Node),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn look_up(
    _: Reader,
    State(api): Context,
    NodePath(id): NodePath,
    params: Params,
) -> Result<Json<Node>, Problem> {
    params.finish()?;
    Ok(Json(api.broker.node(&id).await?))
}

/// Disconnects a node. Socket.IO's own clients do not reconnect by themselves, official nodes may.
#[utoipa::path(
    delete,
    path = "/nodes/{id}",
    params(
        ("id" = String, Path, description = "the node's ID"),
        ("reason" = Option<String>, Query, description = "for the log; at most 256 bytes"),
    ),
    responses(
        (status = 204, description = "it is disconnected"),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn disconnect(
    caller: Writer,
    State(api): Context,
    NodePath(id): NodePath,
    mut params: Params,
) -> Result<StatusCode, Problem> {
    let reason = params.take_reason()?;
    params.finish()?;
    api.broker.disconnect(&id, &reason).await?;
    caller.audit("disconnect", id.as_str(), &reason);
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the IDs of replicas as texts.
pub(super) fn names(replicas: &[ReplicaId]) -> Vec<String> {
    replicas.iter().map(ToString::to_string).collect()
}
