//! The endpoints, each described where it is: the descriptions are what `openapi` publishes.

use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::header;
use serde::Serialize;

use super::address::Address;
use super::fault::Fault;
use super::openapi::{self, AnswerBody, ErrorReply, OfferBody, PollBody};
use super::replies::{
    AnswerReply, ListedSession, OfferReply, PollReply, SessionsReply, TopicsReply,
};
use super::requests::{AnswerRequest, Left, OfferRequest, Page, PollRequest};
use super::session::{Code, NewSession, Origin, Timestamp, Topic};
use super::{Discovery, body, waiting};
use crate::telemetry;

/// All endpoints.
pub(super) fn routes(discovery: &Discovery) -> Router {
    let prefix = discovery.mount.prefix();
    let at = |path: &str| format!("{prefix}{path}");
    let mut router = Router::new()
        .route(&at("/"), get(topics))
        .route(&at("/{topic}/sessions"), get(sessions))
        .route(&at("/{topic}/events"), get(events))
        .route(&at("/{topic}/offer"), post(offer))
        .route(&at("/answer"), post(answer))
        .route(&at("/poll"), post(poll))
        .route(openapi::PATH, description(prefix));
    if !prefix.is_empty() {
        router = router.route(prefix, get(topics));
    }
    router.method_not_allowed_fallback(bad_method).with_state(discovery.clone())
}

/// Who asks.
struct Caller {
    origin: Origin,
    address: Arc<Address>,
}

impl Discovery {
    /// Whether a request is looked at.
    fn admit(&self, request: &Request) -> Result<Caller, Fault> {
        let address = self.addresses.request(peer(request))?;
        let origin = request.headers().get(header::ORIGIN);
        Ok(Caller { origin: Origin::parse(origin.map(|origin| origin.as_bytes()))?, address })
    }

    fn topic(&self, request: &Request) -> Result<Topic, Fault> {
        Topic::from_segment(self.mount.topic(request.uri().path()))
    }

    /// The answer that `work` comes to, and a note of how it ended.
    async fn answered(
        &self,
        endpoint: &'static str,
        work: impl Future<Output = Result<Response, Fault>>,
    ) -> Response {
        let mut note = Note { discovery: self, endpoint, outcome: "client_left" };
        let result = work.await;
        note.outcome = result.as_ref().map_or_else(|fault| fault.label(), |_| "ok");
        result.unwrap_or_else(Fault::into_response)
    }
}

/// Counts a request at its end, also if that is its client's.
struct Note<'a> {
    discovery: &'a Discovery,
    endpoint: &'static str,
    outcome: &'static str,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        let Self { discovery, endpoint, outcome } = *self;
        discovery.metrics.discovery_request(endpoint, outcome);
        tracing::info!(target: telemetry::EVENTS, endpoint, outcome, "discovery");
    }
}

/// Where a request comes from. The listener tells it with every request.
fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip())
}

fn json(reply: &impl Serialize) -> Result<Response, Fault> {
    let text = serde_json::to_vec(reply).map_err(|_| Fault::Internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

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
pub(super) async fn topics(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let page = Page::parse(request.uri().query());
        let topics = this.store.topics(&caller.origin, page, Timestamp::now()).await?;
        json(&TopicsReply::new(topics, page))
    };
    discovery.answered("topics", work).await
}

/// Lists the sessions of a topic that have no answer yet, the newest first.
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
pub(super) async fn sessions(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let topic = this.topic(&request)?;
        let store = &this.store;
        let sessions = store.sessions(&caller.origin, &topic, Timestamp::now()).await?;
        json(&SessionsReply::new(&sessions))
    };
    discovery.answered("sessions", work).await
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
pub(super) async fn events(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let topic = this.topic(&request)?;
        waiting::events(this, caller.origin, topic)
    };
    discovery.answered("events", work).await
}

/// Makes a session with an offer.
#[utoipa::path(
    post,
    path = "/{topic}/offer",
    params(("topic" = String, Path, min_length = 1, max_length = 256)),
    request_body = OfferBody,
    responses(
        (status = 200, body = OfferReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn offer(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let topic = this.topic(&request)?;
        let body = body::read(request, caller.address).await?;
        let OfferRequest { info, offer } = OfferRequest::parse(&body)?;
        let (code, created_at) = (Code::random(), Timestamp::now());
        let expires_at = created_at.after(this.session_timeout);
        let origin = caller.origin;
        let session = NewSession { code, origin, topic, info, offer, created_at, expires_at };
        this.store.create(session).await?;
        json(&OfferReply { code })
    };
    discovery.answered("offer", work).await
}

/// Leaves an answer or a candidate in a session.
#[utoipa::path(
    post,
    path = "/answer",
    request_body = AnswerBody,
    responses(
        (status = 200, body = AnswerReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn answer(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let body = body::read(request, caller.address).await?;
        let AnswerRequest { name, left } = AnswerRequest::parse(&body)?;
        let (code, origin, now) = (name.code()?, &caller.origin, Timestamp::now());
        let store = &this.store;
        match left {
            Left::Answer(answer) => store.add_answer(code, origin, answer, now).await?,
            Left::Candidate(candidate) => {
                store.add_candidate(code, origin, name.side, candidate, now).await?;
            }
        }
        json(&AnswerReply { success: true })
    };
    discovery.answered("answer", work).await
}

/// Tells a side of a session what the other side has left there.
#[utoipa::path(
    post,
    path = "/poll",
    request_body = PollBody,
    responses(
        (status = 200, body = PollReply),
        (status = "4XX", body = ErrorReply),
        (status = "5XX", body = ErrorReply),
    )
)]
pub(super) async fn poll(State(discovery): State<Discovery>, request: Request) -> Response {
    let this = &discovery;
    let work = async move {
        let caller = this.admit(&request)?;
        let body = body::read(request, caller.address).await?;
        let poll = PollRequest::parse(&body)?;
        let session = waiting::poll(this, &caller.origin, &poll).await?;
        json(&PollReply::new(&session, poll.name.side))
    };
    discovery.answered("poll", work).await
}

/// Describes all endpoints.
fn description(prefix: &str) -> MethodRouter<Discovery> {
    let text = openapi::description(prefix);
    get(async move |State(discovery): State<Discovery>, request: Request| {
        let described = discovery
            .admit(&request)
            .map(|_| ([(header::CONTENT_TYPE, "application/json")], text).into_response());
        discovery.answered("openapi", ready(described)).await
    })
}

async fn bad_method(State(discovery): State<Discovery>) -> Response {
    discovery.answered("other", ready(Err(Fault::BadMethod))).await
}
