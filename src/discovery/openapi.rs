//! The description of the endpoints for programs (OpenAPI 3.1).

use axum::body::Bytes;
use serde::Serialize;
use utoipa::openapi::Server;
use utoipa::{OpenApi, ToSchema};

use super::{replies, routes};

/// Where the description is, wherever the endpoints are.
pub(super) const PATH: &str = "/discovery/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Discovery",
        description = "Peers that do not know each other meet by topic. Sessions belong to the origin of the request that made them (header Origin; without it, the origin is unknown) and are seen by no other.",
    ),
    paths(
        routes::topics,
        routes::sessions,
        routes::events,
        routes::offer,
        routes::answer,
        routes::poll
    ),
    components(schemas(replies::ListedSession))
)]
struct Description;

/// The body of every answer that is no success.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only describes")]
pub(super) struct ErrorReply {
    /// What is wrong.
    error: String,
}

/// What an offer has.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only describes")]
pub(super) struct OfferBody {
    /// What the offerer says of itself, in UTF-16 units.
    #[schema(min_length = 1, max_length = 1024)]
    info: String,
    /// The offerer's description, which the server does not read.
    #[schema(min_length = 1)]
    offer: String,
}

/// An answer or a candidate, never both.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only describes")]
pub(super) enum AnswerBody {
    /// An answer.
    Answer {
        /// The session's name.
        #[schema(min_length = 1)]
        code: String,
        side: SideName,
        /// The answerer's description, which the server does not read.
        #[schema(min_length = 1)]
        answer: String,
        /// Not given.
        #[schema(max_length = 0)]
        candidate: Option<String>,
    },
    /// A candidate.
    Candidate {
        /// The session's name.
        #[schema(min_length = 1)]
        code: String,
        side: SideName,
        /// A candidate of this side, which the server does not read.
        #[schema(min_length = 1)]
        candidate: String,
        /// Not given.
        #[schema(max_length = 0)]
        answer: Option<String>,
    },
}

/// Whose news of which session.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only describes")]
pub(super) struct PollBody {
    /// The session's name.
    #[schema(min_length = 1)]
    code: String,
    side: SideName,
    /// How long to wait for news, in milliseconds; more than 30000 counts as 30000.
    #[schema(minimum = 0)]
    wait: Option<u32>,
}

/// One of the two who meet in a session.
#[derive(Serialize, ToSchema)]
#[schema(as = Side)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only describes")]
pub(super) enum SideName {
    Offerer,
    Answerer,
}

/// The description's text, with endpoints below `prefix`.
pub(super) fn description(prefix: &str) -> Bytes {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let server = if prefix.is_empty() { "/" } else { prefix };
    description.servers = Some(vec![Server::new(server)]);
    // Fails for no description: it has only text keys.
    description.to_json().unwrap_or_default().into()
}
