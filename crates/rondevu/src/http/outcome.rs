//! Counts and logs each request by its endpoint and outcome.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Context;

/// The target of the log lines on requests.
const TARGET: &str = "rondevu::requests";

/// The outcome of a request that failed, as an extension of its response.
#[derive(Clone, Copy)]
pub(super) struct Outcome(pub(super) &'static str);

/// Counts a request when it ends, also if its client disconnects before.
pub(super) async fn count(
    State((context, endpoint)): State<(Context, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let mut counted = Counted { context, endpoint, outcome: "client_left" };
    let response = next.run(request).await;
    counted.outcome = response.extensions().get().map_or("ok", |Outcome(outcome)| outcome);
    response
}

struct Counted {
    context: Context,
    endpoint: &'static str,
    outcome: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { context, endpoint, outcome } = self;
        context.metrics.request(endpoint, outcome);
        tracing::info!(target: TARGET, endpoint, outcome, "discovery");
    }
}
