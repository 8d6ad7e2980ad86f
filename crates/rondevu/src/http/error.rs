//! Why a request failed, with the texts and statuses of Rondevu.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::outcome::Outcome;
use super::responses::ErrorReply;
use crate::model::{InvalidTopic, OriginTooLong};
use crate::store::StoreError;

/// Why a request failed. Errors that Rondevu knows too have its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("Missing or invalid required parameter: topic")]
    MissingTopic,
    #[error("Missing or invalid required parameter: info")]
    MissingInfo,
    #[error("Missing or invalid required parameter: offer")]
    MissingOffer,
    #[error("Missing or invalid required parameter: code")]
    MissingCode,
    #[error("Topic string must be 256 characters or less")]
    TopicTooLong,
    #[error("Info string must be 1024 characters or less")]
    InfoTooLong,
    #[error("Invalid or missing parameter: side (must be \"offerer\" or \"answerer\")")]
    BadSide,
    #[error("Missing required parameter: answer or candidate")]
    NothingGiven,
    #[error("Cannot provide both answer and candidate")]
    BothGiven,
    #[error("Invalid parameter: wait (must be a number of milliseconds)")]
    BadWait,
    #[error("Invalid parameter: secret (must be true or false)")]
    BadSecretRequest,
    #[error("Invalid parameter: secret (must be a string)")]
    BadSecret,
    #[error("Origin header must be 1024 bytes or less")]
    OriginTooLong,
    #[error("Code is already in use")]
    CodeTaken,
    #[error("Session not found, expired, or origin mismatch")]
    NotFound,
    #[error("Method not allowed")]
    MethodNotAllowed,
    #[error("Request body was not received in time")]
    BodyTooSlow,
    #[error("Request body was not received completely")]
    BodyBroken,
    #[error("Request body must be 262144 bytes or less")]
    BodyTooLarge,
    #[error("Too many requests")]
    TooManyRequests,
    #[error("Too many unfinished requests")]
    TooManyBodies,
    #[error("Too many unread responses")]
    TooManyResponses,
    #[error("Too many unread responses of this address")]
    TooManyResponsesOfAddress,
    #[error("Too many waiting requests")]
    TooManyWaiting,
    #[error("Too many waiting requests of this address")]
    TooManyWaitingOfAddress,
    #[error("Too many sessions")]
    TooManySessions,
    #[error("Too many sessions of this origin")]
    TooManyOfOrigin,
    #[error("Too many sessions of this address")]
    TooManySessionsOfAddress,
    #[error("Too much data of this address")]
    TooManyBytesOfAddress,
    #[error("Too many candidates in this session")]
    TooManyCandidates,
    #[error("Too much data in this session")]
    SessionTooLarge,
    #[error("Too much data in all sessions")]
    TooManyBytes,
    #[error("Not enough memory")]
    NoMemory,
    #[error("Storage is not available")]
    Unavailable,
    #[error("Internal server error")]
    Internal,
}

impl ApiError {
    fn status(self) -> StatusCode {
        use ApiError::*;
        match self {
            MissingTopic | MissingInfo | MissingOffer | MissingCode | TopicTooLong
            | InfoTooLong | BadSide | NothingGiven | BothGiven | BadWait | BadSecretRequest
            | BadSecret | OriginTooLong | BodyBroken => StatusCode::BAD_REQUEST,
            CodeTaken => StatusCode::CONFLICT,
            NotFound => StatusCode::NOT_FOUND,
            MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            TooManyRequests
            | TooManyBodies
            | TooManyResponsesOfAddress
            | TooManyWaiting
            | TooManySessions
            | TooManyOfOrigin
            | TooManyCandidates
            | SessionTooLarge
            | TooManyBytes
            | TooManyWaitingOfAddress
            | TooManySessionsOfAddress
            | TooManyBytesOfAddress => StatusCode::TOO_MANY_REQUESTS,
            Unavailable | NoMemory | TooManyResponses => StatusCode::SERVICE_UNAVAILABLE,
            Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the outcome by which the request is counted.
    pub(super) fn label(self) -> &'static str {
        use ApiError::*;
        match self {
            TooManyRequests => "too_many_requests",
            TooManyBodies => "too_many_bodies",
            TooManyResponses => "too_many_responses",
            TooManyResponsesOfAddress => "too_many_responses_of_address",
            TooManyWaiting => "too_many_waiting",
            TooManyWaitingOfAddress => "too_many_waiting_of_address",
            TooManySessionsOfAddress => "too_many_sessions_of_address",
            TooManyBytesOfAddress => "too_many_bytes_of_address",
            TooManySessions => "too_many_sessions",
            TooManyOfOrigin => "too_many_sessions_of_origin",
            TooManyCandidates => "too_many_candidates",
            SessionTooLarge => "session_too_large",
            TooManyBytes => "too_many_bytes",
            CodeTaken => "code_taken",
            NotFound => "not_found",
            MethodNotAllowed => "bad_method",
            BodyTooSlow => "body_too_slow",
            BodyTooLarge => "body_too_large",
            BodyBroken => "body_broken",
            NoMemory => "memory_limit",
            Unavailable => "unavailable",
            Internal => "internal_error",
            _ => "bad_request",
        }
    }

    /// Returns how long the client should wait before it retries, in seconds.
    fn retry_after(self) -> Option<HeaderValue> {
        use ApiError::*;
        let seconds = match self {
            TooManyRequests | TooManyBodies | TooManyResponses | TooManyResponsesOfAddress => "1",
            Unavailable | NoMemory => "2",
            // Quota is released as sessions expire.
            TooManyWaiting
            | TooManySessions
            | TooManyOfOrigin
            | TooManyCandidates
            | SessionTooLarge
            | TooManyBytes
            | TooManyWaitingOfAddress
            | TooManySessionsOfAddress
            | TooManyBytesOfAddress => "10",
            _ => return None,
        };
        Some(HeaderValue::from_static(seconds))
    }

    /// Whether the connection is closed instead of reading the rest of the body.
    fn closes_the_connection(self) -> bool {
        matches!(self, Self::BodyTooSlow | Self::BodyTooLarge | Self::BodyBroken)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if self.closes_the_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response =
            (self.status(), headers, Json(ErrorReply { error: self.to_string() })).into_response();
        response.extensions_mut().insert(Outcome(self.label()));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::CodeTaken => Self::CodeTaken,
            StoreError::NotFound => Self::NotFound,
            StoreError::TooManySessions => Self::TooManySessions,
            StoreError::TooManyOfOrigin => Self::TooManyOfOrigin,
            StoreError::TooManyCandidates => Self::TooManyCandidates,
            StoreError::SessionTooLarge => Self::SessionTooLarge,
            StoreError::TooManyBytes => Self::TooManyBytes,
            StoreError::Unavailable => Self::Unavailable,
            StoreError::Corrupt => Self::Internal,
        }
    }
}

impl From<InvalidTopic> for ApiError {
    fn from(error: InvalidTopic) -> Self {
        match error {
            InvalidTopic::Empty => Self::MissingTopic,
            InvalidTopic::TooLong => Self::TopicTooLong,
        }
    }
}

impl From<OriginTooLong> for ApiError {
    fn from(OriginTooLong: OriginTooLong) -> Self {
        Self::OriginTooLong
    }
}
