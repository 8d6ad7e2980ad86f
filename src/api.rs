//! The server API: what operators and their programs ask, and have done, over HTTP.
//!
//! Off unless a token is set. Every error is a problem document (RFC 9457), and nothing is done for a
//! request that is not understood as a whole: unknown fields and parameters are errors too.
//!
//! - `tokens`, `attempts`, `caller`: who may ask. `settings`: what an operator decides about it.
//! - `problem`, `extract`: errors, and how requests are read.
//! - `nodes`, `bans`, `messages`, `operations`: the endpoints.
//! - `events`: what happens to nodes, as a stream. `admin`: a page for people, over these endpoints.
//! - `openapi`: their description for programs.

mod admin;
mod attempts;
mod bans;
mod caller;
mod events;
mod extract;
mod messages;
mod nodes;
mod openapi;
mod operations;
mod problem;
mod settings;
mod tokens;

pub(crate) use operations::ShownSetting;
pub use settings::ApiSettings;
pub(crate) use settings::parse_id;
pub(crate) use tokens::split as split_tokens;
pub use tokens::{Token, Tokens};

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use metric_set::Gauge;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::metrics::Metrics;
use attempts::Attempts;
use caller::Reader;
use problem::{Problem, ProblemCode};

/// What every path begins with.
const BASE_PATH: &str = "/api/v1";

/// The longest body of a request, in bytes: that of a message is the longest.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The most requests that are worked on at a time.
const MAX_REQUESTS: usize = 16;

/// What the endpoints share.
struct Api {
    broker: Arc<Broker>,
    settings: ApiSettings,
    attempts: Attempts,
    permits: Arc<Semaphore>,
    /// The configuration, without secrets.
    config: Vec<ShownSetting>,
    metrics: Metrics,
    /// The slots of streams, and how many are taken.
    streams: Arc<Semaphore>,
    open_streams: Gauge,
    /// Cancelled when the process ends.
    stop: CancellationToken,
    /// Cancelled when an operator wants the process to end.
    drain: CancellationToken,
}

type Context = State<Arc<Api>>;

/// Builds the router of the API and its page. `config` is the configuration that it shows, `stop` is
/// cancelled when the process ends, and `drain` is what the API cancels to have it end.
pub(crate) fn router(
    broker: Arc<Broker>,
    settings: ApiSettings,
    config: Vec<ShownSetting>,
    stop: CancellationToken,
    drain: CancellationToken,
    metrics: Metrics,
) -> Router {
    let api = Arc::new(Api {
        attempts: Attempts::new(settings.max_failures),
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
        streams: Arc::new(Semaphore::new(settings.max_streams)),
        open_streams: metrics.api_streams.clone(),
        metrics: metrics.clone(),
        stop,
        broker,
        settings,
        config,
        drain,
    });
    let count = async |State(metrics): State<Metrics>, response: Response| {
        let problem = response.extensions().get::<ProblemCode>();
        metrics.api_requests.inc([problem.map_or("ok", |problem| problem.0)]);
        response
    };
    let routes = Router::new()
        .route("/openapi.json", get(openapi::describe))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::look_up).merge(delete(nodes::disconnect)))
        .route("/bans", get(bans::list).post(bans::set))
        .route("/bans/{name}", delete(bans::lift))
        .route("/messages", post(messages::send))
        .route("/drain", post(operations::drain))
        .route("/events", get(events::follow))
        .route("/status", get(operations::status))
        .route("/metrics", get(operations::metrics))
        .route("/config", get(operations::config))
        .route("/{*unknown}", any(unknown))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(map_response_with_state(metrics, count))
        .with_state(api);
    Router::new().nest(BASE_PATH, routes).merge(admin::routes())
}

async fn unknown(_: Reader) -> Problem {
    Problem::not_found("there is no such endpoint")
}

async fn method_not_allowed(_: Reader) -> Problem {
    Problem::method_not_allowed()
}
