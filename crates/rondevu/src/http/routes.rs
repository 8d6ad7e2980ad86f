//! The endpoints, each described where it is: `openapi` publishes these descriptions.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::body::Body;
use super::error::ApiError;
use super::extract::{Caller, Client};
use super::ledger::Share;
use super::requests::{AnswerRequest, OfferRequest, PollRequest};
use super::responses::{
    AnswerReply, ErrorReply, HealthReply, ListedSession, OfferReply, PollReply, SessionsReply,
    TopicsReply,
};
use super::{Context, reply, waiting};
use crate::model::{Answer, Code, NewSession, Page, Secret, Timestamp, Topic, text_bytes};

/// Lists the topics of the origin that have a session without an answer.
#[utoipa::path(
    get,
    path = "/",
    params(
        ("page" = Option<String>, Query, description = "which page, from 1 on; what is no number counts as not given"),
        ("limit" = Option<String>, Query, description = "how many on a page, from 1 to 1000; what is no number counts as not given, and so as 100"),
    ),
    responses(
        (status = 200, body = TopicsReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn topics(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    page: Page,
) -> Result<Response, ApiError> {
    let topics = context.store.topics(&origin, page, context.store.clock().now()).await?;
    reply::whole(&TopicsReply::new(topics, page), &address)
}

/// Lists the topics as `GET /` does, where later clients ask for them.
#[utoipa::path(
    get,
    path = "/topics",
    params(
        ("page" = Option<String>, Query, description = "which page, as in `GET /`"),
        ("limit" = Option<String>, Query, description = "how many on a page, as in `GET /`"),
    ),
    responses(
        (status = 200, body = TopicsReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn named_topics(
    context: State<Context>,
    caller: Caller,
    client: Client,
    page: Page,
) -> Result<Response, ApiError> {
    topics(context, caller, client, page).await
}

/// Lists the sessions of a topic that have no answer yet, newest first.
#[utoipa::path(
    get,
    path = "/{topic}/sessions",
    params(("topic" = String, Path, min_length = 1, max_length = 256)),
    responses(
        (status = 200, body = SessionsReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn sessions(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    topic: Topic,
) -> Result<Response, ApiError> {
    let clock = context.store.clock();
    let sessions = context.store.sessions(&origin, &topic, clock.now()).await?;
    let listed = sessions.into_iter().map(|session| ListedSession::new(session, clock)).collect();
    reply::sessions(listed, &address, context.response_timeout, context.metrics.clone())
}

/// Sends every new session of a topic as a server-sent event with the name `session`.
#[utoipa::path(
    get,
    path = "/{topic}/events",
    params(("topic" = String, Path, min_length = 1, max_length = 256)),
    responses(
        (status = 200, content_type = "text/event-stream", body = ListedSession),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn events(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    topic: Topic,
) -> Result<Response, ApiError> {
    waiting::events(&context, origin, address, topic)
}

/// Creates a session with an offer.
#[utoipa::path(
    post,
    path = "/{topic}/offer",
    params(("topic" = String, Path, min_length = 1, max_length = 256)),
    request_body = OfferRequest,
    responses(
        (status = 200, body = OfferReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn offer(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    topic: Topic,
    Body(OfferRequest { info, offer, code, secret }): Body<OfferRequest>,
) -> Result<Json<OfferReply>, ApiError> {
    let (code, created_at) = (code.unwrap_or_else(Code::random), context.store.clock().now());
    let expires_at = created_at.after(context.session_timeout);
    let given = secret.then(Secret::random);
    let secret = given.map(|secret| secret.hash());
    let session = NewSession { code, origin, topic, info, offer, secret, created_at, expires_at };
    let storing = address.store(Share { sessions: 1, bytes: session.bytes() })?;
    context.store.create(session).await?;
    storing.done();
    Ok(Json(OfferReply { code, secret: given }))
}

/// Adds an answer or a candidate to a session.
#[utoipa::path(
    post,
    path = "/answer",
    request_body = AnswerRequest,
    responses(
        (status = 200, body = AnswerReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn answer(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    Body(request): Body<AnswerRequest>,
) -> Result<Json<AnswerReply>, ApiError> {
    let (store, now) = (&context.store, context.store.clock().now());
    match request {
        AnswerRequest::Answer { code, answer, secret, .. } => {
            let storing = address.store(Share { sessions: 0, bytes: text_bytes(&answer) })?;
            let answer = Answer { text: answer, secret: secret.map(|secret| secret.hash()) };
            store.add_answer(code, &origin, answer, now).await?;
            storing.done();
        }
        AnswerRequest::Candidate { code, side, candidate, .. } => {
            let storing = address.store(Share { sessions: 0, bytes: text_bytes(&candidate) })?;
            store.add_candidate(code, &origin, side, candidate, now).await?;
            storing.done();
        }
    }
    Ok(Json(AnswerReply { success: true }))
}

/// Returns what the other side of a session has left.
#[utoipa::path(
    post,
    path = "/poll",
    request_body = PollRequest,
    responses(
        (status = 200, body = PollReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn poll(
    State(context): State<Context>,
    Caller(origin): Caller,
    Client(address): Client,
    Body(request): Body<PollRequest>,
) -> Result<Response, ApiError> {
    let session = waiting::poll(&context, &origin, address.clone(), &request).await?;
    reply::whole(&PollReply::new(session, request.side), &address)
}

/// Says that the server is alive, and its time.
pub(super) async fn health() -> Json<HealthReply> {
    Json(HealthReply { status: "ok", timestamp: Timestamp::now() })
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}
