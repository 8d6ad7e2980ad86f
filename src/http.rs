//! Everything that is served over HTTP: the routes of all parts, and those of the broker itself for
//! health, readiness and metrics.

mod health;

pub(crate) use health::{discovery_part, health_route};

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use rondevu::Discovery;

use crate::broker::Broker;
use crate::gateway;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::overlay::Peer;

/// Builds the router of everything that is served to everybody. `peer_relay` is a path, and the peer
/// that is reached there; `for_operators` is what only operators should use, unless it has a listener
/// of its own.
pub(crate) fn router(
    broker: &Arc<Broker>,
    peer_relay: Option<(&str, Peer)>,
    discovery: Option<&Discovery>,
    for_operators: impl IntoIterator<Item = Router>,
    memory: &MemoryBudget,
    metrics: &Metrics,
) -> Router {
    let mut router = gateway::socket_io_routes(broker.clone(), metrics.clone());
    for for_operators in for_operators {
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

/// Builds the router of what is for operators, but for the metrics: how the parts are.
pub(crate) fn operators_router(broker: &Arc<Broker>) -> Router {
    health::routes(broker.clone())
}

/// Builds the route of the metrics.
pub(crate) fn metrics_route(metrics: &Metrics) -> Router {
    Router::new().route("/metrics", get(scrape).with_state(metrics.clone()))
}

async fn scrape(State(metrics): State<Metrics>) -> Result<impl IntoResponse, StatusCode> {
    let encoded = tokio::task::spawn_blocking(move || metrics.encode()).await;
    let text = encoded.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}
