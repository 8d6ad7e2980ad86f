//! The plain HTTP side: health, readiness and metrics.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use rondevu::model::Timestamp;
use tokio::runtime::Handle;

use crate::metrics::Metrics;

/// Routes for those who watch over the broker. `ready` tells whether new clients should come
/// here; if not, why.
pub fn routes(
    ready: impl Fn() -> Result<(), &'static str> + Clone + Send + Sync + 'static,
    metrics: Metrics,
) -> Router {
    Router::new()
        .route("/readyz", get(async move || readiness(ready())))
        .route("/metrics", get(scrape).with_state(metrics))
}

/// The route that says that the broker is alive. Discovery has the same, with CORS headers.
pub fn health_route() -> Router {
    Router::new().route("/health", get(health))
}

/// Says that the process is alive, and its time in milliseconds since 1970.
async fn health() -> impl IntoResponse {
    let Timestamp(timestamp) = Timestamp::now();
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!(r#"{{"status":"ok","timestamp":{timestamp}}}"#),
    )
}

/// For load balancers.
fn readiness(ready: Result<(), &'static str>) -> impl IntoResponse {
    let (status, text) = match ready {
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
