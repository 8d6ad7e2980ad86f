//! The plain HTTP side: health, readiness and metrics.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::runtime::Handle;

use crate::broker::Broker;
use crate::metrics::Metrics;

/// Routes for those who watch over the broker.
pub fn routes(broker: Arc<Broker>, metrics: Metrics) -> Router {
    Router::new()
        .route("/readyz", get(ready).with_state(broker))
        .route("/metrics", get(scrape).with_state(metrics))
}

/// The route that tells everybody that the broker is there, below `prefix`.
pub fn health_route(prefix: &str) -> Router {
    Router::new().route(&format!("{prefix}/health"), get(health))
}

/// Tells that the process is alive, and its time in milliseconds since 1970.
async fn health() -> impl IntoResponse {
    let timestamp =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!(r#"{{"status":"ok","timestamp":{timestamp}}}"#),
    )
}

/// Tells whether nodes are let in now; if not, why. For load balancers.
async fn ready(State(broker): State<Arc<Broker>>) -> impl IntoResponse {
    let (status, text) = match broker.ready() {
        Ok(()) => (StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
        Err(cause) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(r#"{{"status":"not ready","cause":"{cause}"}}"#),
        ),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text)
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    // Nobody else reads it, so it is counted when it is asked for.
    metrics.tasks(Handle::current().metrics().num_alive_tasks());
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}
