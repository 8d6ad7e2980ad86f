//! Rejections of connections and requests before they reach the broker.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: &str = "2";

/// Why a connection or a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The broker has `MAX_CONNECTIONS`.
    Full,
    /// The address has too many connections.
    AddressConnections,
    /// The address connects too often.
    AddressConnectRate,
    /// The address has begun too many requests and not finished their heads.
    AddressUnfinishedHeads,
    /// Too many nodes of the address wait to be admitted.
    AddressAdmissions,
    /// The address has too many channels to the peer-relay network.
    AddressChannels,
    /// The operator has banned the address.
    BannedAddress,
    /// A web page of an origin that is not allowed asks.
    OriginNotAllowed,
}

impl Rejection {
    /// The cause in metrics and responses.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::Full => "max_connections",
            Self::AddressConnections => "address_max_connections",
            Self::AddressConnectRate => "address_max_connects",
            Self::AddressUnfinishedHeads => "address_max_unfinished_heads",
            Self::AddressAdmissions => "address_max_admissions",
            Self::AddressChannels => "address_max_channels",
            Self::BannedAddress => "banned_address",
            Self::OriginNotAllowed => "origin_not_allowed",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::BannedAddress | Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Returns the response to a request that nobody has read.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let status = self.status();
        format!(
            "HTTP/1.1 {status}\r\nRetry-After: {RETRY_AFTER_SECONDS}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        turn_away(self.status(), self.cause())
    }
}

/// Returns the response for a temporary error.
pub(super) fn unavailable(cause: &str) -> Response {
    turn_away(StatusCode::SERVICE_UNAVAILABLE, cause)
}

fn turn_away(status: StatusCode, cause: &str) -> Response {
    let body = format!(r#"{{"error":"{cause}"}}"#);
    let content_type = (header::CONTENT_TYPE, "application/json");
    if status == StatusCode::FORBIDDEN {
        return (status, [content_type], body).into_response();
    }
    (status, [(header::RETRY_AFTER, RETRY_AFTER_SECONDS), content_type], body).into_response()
}
