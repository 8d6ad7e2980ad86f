//! Whether the process lives, and whether it can do what newcomers ask of it: for health checks, load
//! balancers and people.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use redis_session::Refusal;
use rondevu::Discovery;
use rondevu::model::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::broker::{Broker, RedisProblem};

/// The public health check. Discovery has the same, with CORS headers.
pub(crate) fn health_route() -> Router {
    Router::new().route("/health", get(health))
}

/// Builds the routes for supervisors and load balancers. If Redis is not `required`, a replica that
/// has lost it stays ready.
pub(super) fn routes(
    broker: Arc<Broker>,
    discovery: Option<Discovery>,
    is_redis_required: bool,
) -> Router {
    let ready = async move || {
        readiness(&parts(&broker, discovery.as_ref(), is_redis_required)).into_response()
    };
    Router::new().route("/livez", get(health)).route("/readyz", get(ready))
}

/// Responds that the process runs, with its time in milliseconds since 1970.
async fn health() -> impl IntoResponse {
    let Timestamp(timestamp) = Timestamp::now();
    as_json(StatusCode::OK, &json!({"status": "ok", "timestamp": timestamp}))
}

/// A part of the broker.
struct Part {
    name: String,
    /// Whether the broker is not ready without it.
    is_required: bool,
    problem: Option<Problem>,
}

/// Why a part cannot do its work.
#[derive(Serialize)]
struct Problem {
    cause: &'static str,
    /// The command that Redis refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The code of its error.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl Problem {
    fn new(cause: &'static str) -> Self {
        Self { cause, command: None, code: None }
    }

    fn refused(cause: &'static str, Refusal { command, code }: Refusal) -> Self {
        Self { cause, command: Some(command), code: Some(code) }
    }
}

fn parts(broker: &Broker, discovery: Option<&Discovery>, is_redis_required: bool) -> Vec<Part> {
    let part = |name: &str, is_required, problem| Part { name: name.into(), is_required, problem };
    let draining = broker.is_draining().then(|| Problem::new("draining"));
    let mut parts = vec![part("broker", true, draining)];
    if broker.is_replica() {
        let problem = broker.redis_problem().map(|problem| match problem {
            RedisProblem::Unavailable => Problem::new("redis_unavailable"),
            RedisProblem::Refuses(refusal) => Problem::refused("redis_refuses", refusal),
        });
        parts.push(part("redis", is_redis_required, problem));
    }
    if let Some(discovery) = discovery {
        let problem = match discovery.refusal() {
            Some(refusal) => Some(Problem::refused("discovery_redis_refuses", refusal)),
            None if discovery.is_available() => None,
            None => Some(Problem::new("discovery_redis_unavailable")),
        };
        parts.push(part("discovery", is_redis_required, problem));
    }
    // What follows passes by itself, and would be the same with another replica.
    let full = (!broker.has_memory()).then(|| Problem::new("memory_limit"));
    parts.push(part("memory", false, full));
    parts.extend(broker.webhooks().map(|(hook, is_called)| {
        let problem = (!is_called).then(|| Problem::new("circuit_open"));
        part(&format!("{hook}_webhook"), false, problem)
    }));
    parts
}

/// Responds with the state of every part. The first one that is required and not ready is the cause.
fn readiness(parts: &[Part]) -> impl IntoResponse {
    let problem = parts.iter().filter(|part| part.is_required).find_map(|it| it.problem.as_ref());
    let states: Map<_, _> =
        parts.iter().map(|part| (part.name.clone(), state(part.problem.as_ref()))).collect();
    let mut body = state(problem);
    body["parts"] = states.into();
    let status = if problem.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    as_json(status, &body)
}

fn state(problem: Option<&Problem>) -> Value {
    let Some(problem) = problem else { return json!({"status": "ready"}) };
    let mut state = json!(problem);
    state["status"] = json!("not ready");
    state
}

fn as_json(status: StatusCode, body: &Value) -> impl IntoResponse + use<> {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
