//! Bans: set, listed, lifted.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Context;
use super::caller::{Reader, Writer};
use super::extract::{BanPath, Body, Params, check_reason, cursor_after};
use super::nodes::names;
use super::problem::{Problem, ProblemDocument};
use crate::bans::{Ban, Target};
use crate::node::NodeId;

/// The longest ban, in seconds: ten years.
const MAX_SECONDS: u32 = 315_360_000;

/// A ban to be set.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    /// The ID of a node. Either this or `address` is required.
    node: Option<String>,
    /// An IP address or a network like 10.0.0.0/8. An IPv6 address stands for its network of 64 bits.
    address: Option<String>,
    /// How long it holds, in seconds.
    #[schema(minimum = 1, maximum = 315_360_000)]
    seconds: u32,
    /// Why, for the log and the list; at most 256 bytes.
    #[serde(default)]
    reason: String,
}

/// A ban that was set.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BanReply {
    ban: Ban,
    /// The replicas that did not reply in time: they learn of the ban within seconds.
    incomplete: Vec<String>,
}

/// A page of bans.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BansReply {
    /// In the order of their names.
    bans: Vec<Ban>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the bans that hold.
#[utoipa::path(
    get,
    path = "/bans",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "the most bans; 100 by default"),
    ),
    responses(
        (status = 200, body = BansReply),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn list(
    _: Reader,
    State(api): Context,
    mut params: Params,
) -> Result<Json<BansReply>, Problem> {
    let (after, limit) = params.take_page()?;
    params.finish()?;
    let (bans, has_more) = api.broker.list_bans(&after, limit);
    let last = bans.last().filter(|_| has_more);
    Ok(Json(BansReply { next: last.map(|ban| cursor_after(&ban.name)), bans }))
}

/// Bans a node or an address for a time, and disconnects whom that concerns.
#[utoipa::path(
    post,
    path = "/bans",
    request_body = NewBan,
    responses(
        (status = 201, body = BanReply),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn set(
    caller: Writer,
    State(api): Context,
    params: Params,
    Body(NewBan { node, address, seconds, reason }): Body<NewBan>,
) -> Result<(StatusCode, Json<BanReply>), Problem> {
    params.finish()?;
    check_reason(&reason)?;
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(Problem::bad_request(format!("seconds is not from 1 to {MAX_SECONDS}")));
    }
    let target = match (node, address) {
        (Some(id), None) => NodeId::parse(&id).ok().map(Target::Node),
        (None, Some(address)) => Target::address(&address),
        _ => return Err(Problem::bad_request("either node or address is required")),
    };
    let target =
        target.ok_or_else(|| Problem::bad_request("that is no ID of a node, or no address"))?;
    let lasts = Duration::from_secs(seconds.into());
    let (ban, incomplete) = api.broker.ban(target, lasts, reason).await?;
    caller.audit("ban", &ban.name, &ban.reason);
    Ok((StatusCode::CREATED, Json(BanReply { ban, incomplete: names(&incomplete) })))
}

/// Lifts a ban.
#[utoipa::path(
    delete,
    path = "/bans/{name}",
    params(
        ("name" = String, Path, description = "the ban's name: `node:<ID>` or `address:<network>`"),
        ("reason" = Option<String>, Query, description = "for the log; at most 256 bytes"),
    ),
    responses(
        (status = 204, description = "it is lifted"),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn lift(
    caller: Writer,
    State(api): Context,
    BanPath(target): BanPath,
    mut params: Params,
) -> Result<StatusCode, Problem> {
    let reason = params.take_reason()?;
    params.finish()?;
    api.broker.unban(&target).await?;
    caller.audit("unban", &target.to_string(), &reason);
    Ok(StatusCode::NO_CONTENT)
}
