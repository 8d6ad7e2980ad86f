//! The JSON of responses, field by field as Rondevu has it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{Code, JsonText, Page, Session, Side, Timestamp, TopicCount, Topics};

/// A session that has no answer yet.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedSession {
    /// The session's name.
    #[schema(value_type = String, format = "uuid")]
    code: Code,
    /// What the offerer says of itself.
    #[schema(value_type = String)]
    info: JsonText,
    /// The offerer's description.
    #[schema(value_type = String)]
    offer: JsonText,
    /// The offerer's candidates, in the order in which they came.
    #[schema(value_type = Vec<String>)]
    offer_candidates: Vec<JsonText>,
    /// When it was made, in milliseconds since 1970.
    #[schema(value_type = u64)]
    created_at: Timestamp,
    /// From when on it is gone, in milliseconds since 1970.
    #[schema(value_type = u64)]
    expires_at: Timestamp,
}

impl From<Session> for ListedSession {
    fn from(session: Session) -> Self {
        Self {
            code: session.code,
            info: session.info,
            offer: session.offer,
            offer_candidates: session.offer_candidates,
            created_at: session.created_at,
            expires_at: session.expires_at,
        }
    }
}

/// The sessions of a topic, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionsReply {
    sessions: Vec<ListedSession>,
}

impl From<Vec<Session>> for SessionsReply {
    fn from(sessions: Vec<Session>) -> Self {
        Self { sessions: sessions.into_iter().map(ListedSession::from).collect() }
    }
}

/// A page of topics.
#[derive(Serialize, ToSchema)]
pub(super) struct TopicsReply {
    topics: Vec<TopicCount>,
    pagination: Pagination,
}

/// Which page it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    #[schema(minimum = 1)]
    page: u64,
    #[schema(minimum = 1, maximum = 1000)]
    limit: u64,
    /// How many topics there are on all pages.
    total: u64,
    /// Whether there is a page behind it.
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

/// The name of a session that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct OfferReply {
    #[schema(value_type = String, format = "uuid")]
    pub(super) code: Code,
}

/// What was left has been stored.
#[derive(Serialize, ToSchema)]
pub(super) struct AnswerReply {
    pub(super) success: bool,
}

/// What a side of a session is told when it polls.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PollReply {
    /// For the offerer.
    #[serde(rename_all = "camelCase")]
    Offerer {
        /// The answer, once there is one.
        #[schema(value_type = Option<String>)]
        answer: Option<JsonText>,
        /// The answerer's candidates, in the order in which they came.
        #[schema(value_type = Vec<String>)]
        answer_candidates: Vec<JsonText>,
    },
    /// For the answerer.
    #[serde(rename_all = "camelCase")]
    Answerer {
        /// The offer.
        #[schema(value_type = String)]
        offer: JsonText,
        /// The offerer's candidates, in the order in which they came.
        #[schema(value_type = Vec<String>)]
        offer_candidates: Vec<JsonText>,
    },
}

impl PollReply {
    pub(super) fn new(session: Session, side: Side) -> Self {
        match side {
            Side::Offerer => Self::Offerer {
                answer: session.answer,
                answer_candidates: session.answer_candidates,
            },
            Side::Answerer => {
                Self::Answerer { offer: session.offer, offer_candidates: session.offer_candidates }
            }
        }
    }
}

/// The body of every answer that is no success.
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
