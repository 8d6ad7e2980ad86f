//! Who makes a request: the token that it bears, and the address that it comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::header;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::problem::Problem;
use super::tokens::Right;
use crate::node::Logged;
use crate::telemetry::AUDIT;

/// A caller that may read. Holds a permit for one request.
pub(super) struct Reader(#[expect(dead_code, reason = "held until the response is there")] Caller);

/// A caller that may change something. Holds a permit for one request.
pub(super) struct Writer(Caller);

struct Caller {
    right: Right,
    token: String,
    address: IpAddr,
    #[expect(dead_code, reason = "held until the response is there")]
    permit: OwnedSemaphorePermit,
}

impl Writer {
    /// Logs a change: who has it done, what, and to whom.
    pub(super) fn audit(&self, action: &str, target: &str, reason: &str) {
        let Caller { token, address, .. } = &self.0;
        let (target, reason) = (Logged(target), Logged(reason));
        tracing::info!(target: AUDIT, token, %address, action, on = ?target, ?reason, "change by an operator");
    }
}

impl FromRequestParts<Arc<Api>> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        authenticate(parts, api).map(Self)
    }
}

impl FromRequestParts<Arc<Api>> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let caller = authenticate(parts, api)?;
        if caller.right == Right::Write { Ok(Self(caller)) } else { Err(Problem::read_only()) }
    }
}

fn authenticate(parts: &Parts, api: &Api) -> Result<Caller, Problem> {
    // The server adds it to every request.
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let address = address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.0.ip());
    if api.attempts.are_exhausted(address) {
        return Err(Problem::too_many_failures());
    }
    let mut headers = parts.headers.get_all(header::AUTHORIZATION).into_iter();
    let token = match (headers.next(), headers.next()) {
        (Some(value), None) => bearer(value.as_bytes()),
        _ => None,
    };
    let Some((right, token)) = token.and_then(|token| api.settings.tokens.find(token)) else {
        api.attempts.record_failure(address);
        return Err(Problem::unauthorized());
    };
    let permit = api.permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::too_many_requests())?;
    Ok(Caller { right, token, address, permit })
}

/// Returns the token of a header `Authorization: Bearer <token>` (RFC 6750, 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn the_token_follows_the_scheme() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value}");
        }
    }
}
