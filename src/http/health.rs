//! Whether the process lives, and whether it can do what newcomers ask of it: for health checks, load
//! balancers and people.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use rondevu::Discovery;
use rondevu::model::Timestamp;
use serde_json::{Map, Value, json};

use crate::broker::{Broker, Need, Part, PartState, Problem, state};

/// The public health check. Discovery has the same, with CORS headers.
pub(crate) fn health_route() -> Router {
    Router::new().route("/health", get(health))
}

/// Builds the routes for supervisors and load balancers.
pub(super) fn routes(broker: Arc<Broker>) -> Router {
    let ready = async move || readiness(&broker).into_response();
    Router::new().route("/livez", get(health)).route("/readyz", get(ready))
}

/// Responds that the process runs, with its time in milliseconds since 1970.
async fn health() -> impl IntoResponse {
    let Timestamp(timestamp) = Timestamp::now();
    as_json(StatusCode::OK, &json!({"status": "ok", "timestamp": timestamp}))
}

/// Returns the state of discovery as a part of the broker.
pub(crate) fn discovery_part(discovery: Discovery) -> PartState {
    Box::new(move || {
        let problem = match discovery.refusal() {
            Some(refusal) => Some(Problem::refused("discovery_redis_refuses", refusal)),
            None if discovery.is_available() => None,
            None => Some(Problem::new("discovery_redis_unavailable")),
        };
        Part { name: "discovery".into(), need: Need::Redis, problem }
    })
}

/// Responds with the state of every part. The first one that is required and not ready is the cause.
fn readiness(broker: &Broker) -> impl IntoResponse + use<> {
    let parts = broker.parts();
    let problem = broker.not_ready(&parts);
    let states: Map<_, _> =
        parts.iter().map(|part| (part.name.clone(), state(part.problem.as_ref()))).collect();
    let mut body = state(problem);
    body["parts"] = states.into();
    let status = if problem.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    as_json(status, &body)
}

fn as_json(status: StatusCode, body: &Value) -> impl IntoResponse + use<> {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
