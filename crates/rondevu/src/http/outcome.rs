//! Counts and logs each request by its endpoint and outcome. Rejects those for which the process has
//! no memory.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::{Admits, Demand};
use crate::metrics::Metrics;

/// The target of the log lines on requests.
const TARGET: &str = "rondevu::requests";

/// The outcome of a request that failed, as an extension of its response.
#[derive(Clone, Copy)]
pub(super) struct Outcome(pub(super) &'static str);

/// An endpoint that is counted.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) name: &'static str,
    pub(super) metrics: Metrics,
    pub(super) admits: Admits,
}

impl Endpoint {
    fn demand(&self) -> Demand {
        if matches!(self.name, "answer" | "poll") { Demand::Ongoing } else { Demand::New }
    }
}

/// Counts a request when it ends, also if its client disconnects before.
pub(super) async fn count(
    State(endpoint): State<Endpoint>,
    request: Request,
    next: Next,
) -> Response {
    let mut counted = Counted { endpoint, outcome: "client_left" };
    let response = match (counted.endpoint.admits)(counted.endpoint.demand()) {
        true => next.run(request).await,
        false => ApiError::NoMemory.into_response(),
    };
    counted.outcome = response.extensions().get().map_or("ok", |Outcome(outcome)| outcome);
    response
}

struct Counted {
    endpoint: Endpoint,
    outcome: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { endpoint: Endpoint { name, metrics, .. }, outcome } = self;
        metrics.request(name, outcome);
        tracing::info!(target: TARGET, endpoint = name, outcome, "discovery");
    }
}
