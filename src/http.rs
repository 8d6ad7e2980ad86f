//! Everything that is served over HTTP: the routes of all parts, and those of the broker itself for
//! health, readiness and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use redis_session::Refusal;
use rondevu::Discovery;
use rondevu::model::Timestamp;
use serde_json::json;
use tokio::runtime::Handle;

use crate::broker::{Broker, NotReady};
use crate::gateway;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::overlay::Peer;

/// Builds the router of everything that is served to everybody. `peer_relay` is a path, and the peer
/// that is reached there; `for_operators` is what only operators should see, unless it has a listener
/// of its own.
pub(crate) fn router(
    broker: &Arc<Broker>,
    peer_relay: Option<(&str, Peer)>,
    discovery: Option<&Discovery>,
    for_operators: Option<Router>,
    memory: &MemoryBudget,
    metrics: &Metrics,
) -> Router {
    let mut router = gateway::socket_io_routes(broker.clone(), metrics.clone());
    if let Some(for_operators) = for_operators {
        router = router.merge(for_operators);
    }
    if let Some((path, peer)) = peer_relay {
        router =
            router.merge(gateway::peer_relay_route(path, peer, memory.clone(), metrics.clone()));
    }
    match discovery {
        Some(discovery) => router.merge(discovery.router()),
        None => router.merge(health_route()),
    }
}

/// Builds the router of what is for operators: readiness and metrics.
pub(crate) fn operators_router(
    broker: &Arc<Broker>,
    discovery: Option<&Discovery>,
    metrics: &Metrics,
) -> Router {
    let ready = {
        let (broker, discovery) = (broker.clone(), discovery.cloned());
        move || {
            broker.ready().map_err(|cause| match &cause {
                NotReady::RedisRefuses(refusal) => not_ready(&cause.to_string(), Some(refusal)),
                _ => not_ready(&cause.to_string(), None),
            })?;
            let Some(discovery) = &discovery else { return Ok(()) };
            match discovery.refusal() {
                Some(refusal) => Err(not_ready("discovery_redis_refuses", Some(&refusal))),
                None if discovery.is_available() => Ok(()),
                None => Err(not_ready("discovery_redis_unavailable", None)),
            }
        }
    };
    Router::new()
        .route("/readyz", get(async move || readiness(ready())))
        .route("/metrics", get(scrape).with_state(metrics.clone()))
}

/// The public health check. Discovery has the same, with CORS headers.
pub(crate) fn health_route() -> Router {
    Router::new().route("/health", get(health))
}

/// Responds that the process runs, with its time in milliseconds since 1970.
async fn health() -> impl IntoResponse {
    let Timestamp(timestamp) = Timestamp::now();
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!(r#"{{"status":"ok","timestamp":{timestamp}}}"#),
    )
}

/// For load balancers.
fn readiness(ready: Result<(), String>) -> impl IntoResponse {
    let (status, text) = match ready {
        Ok(()) => (StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
        Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, not_ready),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text)
}

/// Says why no nodes are admitted, and which command Redis refuses, if that is why.
fn not_ready(cause: &str, refusal: Option<&Refusal>) -> String {
    let mut text = json!({"status": "not ready", "cause": cause});
    if let Some(Refusal { command, code }) = refusal {
        text["command"] = json!(command);
        text["code"] = json!(code);
    }
    text.to_string()
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    // Only this endpoint shows it, so it is counted here.
    let tasks = Handle::current().metrics().num_alive_tasks();
    metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}
