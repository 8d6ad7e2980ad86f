//! The JSON of responses, field by field as Rondevu has it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{
    Clock, Code, JsonText, Page, Secret, Session, Side, Timestamp, TopicCount, Topics,
};

/// A session that has no answer yet.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedSession {
    /// The session's code.
    #[schema(value_type = String)]
    code: Code,
    /// What the offerer says about itself.
    #[schema(value_type = String)]
    info: JsonText,
    /// The offerer's description.
    #[schema(value_type = String)]
    offer: JsonText,
    /// The offerer's candidates, in order of arrival.
    #[schema(value_type = Vec<String>)]
    offer_candidates: Vec<JsonText>,
    /// When the session was created, in milliseconds since 1970.
    #[schema(value_type = u64)]
    created_at: Timestamp,
    /// When the session expires, in milliseconds since 1970.
    #[schema(value_type = u64)]
    expires_at: Timestamp,
    /// The same as `info`, by the name that later clients read.
    #[schema(value_type = String)]
    peer_id: JsonText,
}

impl ListedSession {
    /// The session with its times as the system's clock has them.
    pub(super) fn new(session: Session, clock: Clock) -> Self {
        Self {
            code: session.code,
            peer_id: session.info.clone(),
            info: session.info,
            offer: session.offer,
            offer_candidates: session.offer_candidates,
            created_at: clock.shown(session.created_at),
            expires_at: clock.shown(session.expires_at),
        }
    }
}

/// The sessions of a topic, newest first. `reply::sessions` writes it.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionsReply {
    pub(super) sessions: Vec<ListedSession>,
}

/// A page of topics.
#[derive(Serialize, ToSchema)]
pub(super) struct TopicsReply {
    topics: Vec<TopicCount>,
    pagination: Pagination,
}

/// The position of a page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    #[schema(minimum = 1)]
    page: u64,
    #[schema(minimum = 1, maximum = 1000)]
    limit: u64,
    /// The number of topics on all pages.
    total: u64,
    /// Whether there is a next page.
    has_more: bool,
}

impl TopicsReply {
    pub(super) fn new(topics: Topics, page: Page) -> Self {
        let shown = page.offset().saturating_add(topics.topics.len() as u64);
        let pagination = Pagination {
            page: page.number,
            limit: page.limit,
            total: topics.total,
            has_more: shown < topics.total,
        };
        Self { topics: topics.topics, pagination }
    }
}

/// The code of a new session.
#[derive(Serialize, ToSchema)]
pub(super) struct OfferReply {
    #[schema(value_type = String)]
    pub(super) code: Code,
    /// The secret of the session, if the offerer has asked for one. It is told only here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) secret: Option<Secret>,
}

/// The answer or candidate was stored.
#[derive(Serialize, ToSchema)]
pub(super) struct AnswerReply {
    pub(super) success: bool,
}

/// What the other side of a session has left.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PollReply {
    /// For the offerer.
    #[serde(rename_all = "camelCase")]
    Offerer {
        /// The answer, once there is one.
        #[schema(value_type = Option<String>)]
        answer: Option<JsonText>,
        /// The answerer's candidates, in order of arrival.
        #[schema(value_type = Vec<String>)]
        answer_candidates: Vec<JsonText>,
        /// Whether the answer came with the session's secret; only for sessions that have one.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<bool>)]
        answer_verified: Option<bool>,
    },
    /// For the answerer.
    #[serde(rename_all = "camelCase")]
    Answerer {
        /// The offer.
        #[schema(value_type = String)]
        offer: JsonText,
        /// The offerer's candidates, in order of arrival.
        #[schema(value_type = Vec<String>)]
        offer_candidates: Vec<JsonText>,
    },
}

impl PollReply {
    pub(super) fn new(session: Session, side: Side) -> Self {
        match side {
            Side::Offerer => Self::Offerer {
                answer_verified: session.is_answer_verified(),
                answer: session.answer.map(|answer| answer.text),
                answer_candidates: session.answer_candidates,
            },
            Side::Answerer => {
                Self::Answerer { offer: session.offer, offer_candidates: session.offer_candidates }
            }
        }
    }
}

/// The body of every response to a request that failed.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorReply {
    /// What is wrong.
    pub(super) error: String,
}

/// The server is alive.
#[derive(Serialize)]
pub(super) struct HealthReply {
    pub(super) status: &'static str,
    pub(super) timestamp: Timestamp,
}
