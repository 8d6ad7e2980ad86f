//! The description of the endpoints for programs (OpenAPI 3.1), from the types that handlers use.

use axum::body::Bytes;
use axum::routing::{MethodRouter, get};
use http::header;
use utoipa::OpenApi;
use utoipa::openapi::Server;

use super::extract::Caller;
use super::{Context, responses, routes};

/// The path of the description, whatever the base path is.
pub(super) const PATH: &str = "/discovery/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Discovery",
        description = "Peers that do not know each other meet by topic. Sessions belong to the origin of the request that created them (header Origin; without it, the origin is `unknown`) and are invisible to others.",
    ),
    paths(
        routes::topics,
        routes::named_topics,
        routes::sessions,
        routes::events,
        routes::offer,
        routes::answer,
        routes::poll
    ),
    components(schemas(responses::ListedSession))
)]
struct Description;

/// Returns the endpoint that serves the description.
pub(super) fn route(base_path: &str) -> MethodRouter<Context> {
    let text = description(base_path);
    get(async move |_: Caller| ([(header::CONTENT_TYPE, "application/json")], text))
}

/// Returns the description of the endpoints below `base_path`.
fn description(base_path: &str) -> Bytes {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let server = if base_path.is_empty() { "/" } else { base_path };
    description.servers = Some(vec![Server::new(server)]);
    // Never fails: all keys are texts.
    description.to_json().unwrap_or_default().into()
}
