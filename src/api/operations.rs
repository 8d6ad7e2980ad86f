//! The process itself: its state, its configuration, its end.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use serde::Serialize;

use super::Context;
use super::caller::{Reader, Writer};
use super::extract::Params;
use super::nodes::names;
use super::problem::{Problem, ProblemDocument};
use crate::broker::ReplicaStatus;

/// The state of the cluster.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StatusReply {
    /// The replicas, the one that answers first.
    replicas: Vec<ReplicaStatus>,
    /// The replicas that did not reply in time.
    incomplete: Vec<String>,
}

/// A variable of the configuration.
#[derive(Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ShownSetting {
    /// The variable's name.
    pub(crate) name: &'static str,
    /// The value that is in force; `***` for a secret.
    pub(crate) value: String,
    /// Where the value comes from: `not set`, `default`, `environment` or `.env`.
    pub(crate) origin: String,
}

/// Describes all replicas and the state of their parts.
#[utoipa::path(
    get,
    path = "/status",
    responses(
        (status = 200, body = StatusReply),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn status(
    _: Reader,
    State(api): Context,
    params: Params,
) -> Result<Json<StatusReply>, Problem> {
    params.finish()?;
    let (replicas, incomplete) = api.broker.status().await;
    Ok(Json(StatusReply { replicas, incomplete: names(&incomplete) }))
}

/// Shows the configuration of this replica, with secrets masked.
#[utoipa::path(
    get,
    path = "/config",
    responses(
        (status = 200, body = Vec<ShownSetting>),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn config(
    _: Reader,
    State(api): Context,
    params: Params,
) -> Result<Json<Vec<ShownSetting>>, Problem> {
    params.finish()?;
    Ok(Json(api.config.clone()))
}

/// Shows the metrics of this replica, as Prometheus scrapes them.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, content_type = "application/openmetrics-text", body = String),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn metrics(
    _: Reader,
    State(api): Context,
    params: Params,
) -> Result<impl IntoResponse, Problem> {
    params.finish()?;
    let metrics = api.metrics.clone();
    let text = tokio::task::spawn_blocking(move || metrics.encode()).await;
    let text = text.map_err(|_| Problem::unavailable("failed", "the metrics cannot be read"))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}

/// Drains this replica as SIGTERM does: it closes its connections, and the process ends.
#[utoipa::path(
    post,
    path = "/drain",
    responses(
        (status = 202, description = "the drain begins"),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn drain(
    caller: Writer,
    State(api): Context,
    mut params: Params,
) -> Result<StatusCode, Problem> {
    let reason = params.take_reason()?;
    params.finish()?;
    caller.audit("drain", "", &reason);
    api.drain.cancel();
    Ok(StatusCode::ACCEPTED)
}
