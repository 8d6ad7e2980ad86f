//! Everything that is served over HTTP: the routes of all parts, and those of the broker itself for
//! health, readiness and metrics.

mod health;

pub(crate) use health::{discovery_part, health_route};

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use rondevu::Discovery;
use tokio::runtime::Handle;

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

/// Builds the router of what is for operators: readiness and metrics.
pub(crate) fn operators_router(broker: &Arc<Broker>, metrics: &Metrics) -> Router {
    health::routes(broker.clone()).route("/metrics", get(scrape).with_state(metrics.clone()))
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    // Only this endpoint shows it, so it is counted here.
    let tasks = Handle::current().metrics().num_alive_tasks();
    metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}
