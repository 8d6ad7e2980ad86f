//! The upgrade check, before there is a WebSocket: a node is admitted, refused or rejected here.
//!
//! A refusal is final for official nodes, and they learn of it only through Socket.IO. So the
//! upgrade of a refused node is accepted, and the namespace sends the refusal. Temporary errors are
//! a 503 here, after which nodes reconnect.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::addresses::{Addresses, Permit};
use super::rejection::{Rejection, unavailable};
use crate::broker::{AdmissionError, Broker, Session};
use crate::metrics::Metrics;
use crate::overlay::{ChannelPermit, Peer};
use crate::protocol::{Handshake, Refusal};
use link::LinkHandle;

/// What the upgrade check decided, for the namespace.
#[derive(Clone)]
pub(super) enum Decision {
    Admitted(Arc<Session>),
    Refused(Refusal, LinkHandle),
}

/// A connection that speaks HTTP, and what it goes on with once it has been upgraded.
#[derive(Clone)]
pub(super) struct Arrival {
    link: LinkHandle,
    addresses: Arc<Addresses>,
    /// Whether the connection is a proxy's, whose clients have permits of their own.
    is_proxied: bool,
    upgrade: Arc<Mutex<Option<Upgraded>>>,
}

/// What a connection goes on with, and the permits that it keeps.
pub(super) type Upgraded = (Upgrade, Vec<Permit>);

/// What takes over an upgraded connection.
#[cfg_attr(
    not(feature = "overlay"),
    allow(clippy::large_enum_variant, reason = "the other has no value")
)]
pub(super) enum Upgrade {
    /// Socket.IO, with a new request that carries the [`Decision`]: the original one would keep the
    /// buffer of its head for as long as the connection lives.
    SocketIo(http::Request<()>),
    /// The peer-relay network, with the permit for a channel.
    PeerRelay(Peer, ChannelPermit),
}

impl Arrival {
    pub(super) fn new(link: LinkHandle, addresses: Arc<Addresses>, is_proxied: bool) -> Self {
        Self { link, addresses, is_proxied, upgrade: Arc::default() }
    }

    pub(super) fn link(&self) -> &LinkHandle {
        &self.link
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Checks that a client may open a WebSocket, and notes its address. Returns the permits that
    /// its connection has to keep.
    ///
    /// # Errors
    /// It is on a page of an origin that is not allowed, or has too many connections.
    pub(super) fn permit(
        &self,
        client: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Vec<Permit>, Rejection> {
        if !self.addresses.settings.allowed_origins.allow(headers) {
            return Err(Rejection::OriginNotAllowed);
        }
        self.link.set_remote_addr(client);
        if !self.is_proxied {
            return Ok(Vec::new());
        }
        Ok(vec![self.addresses.connect(client.ip())?])
    }

    pub(super) fn take_upgrade(&self) -> Option<Upgraded> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sets what the connection goes on with, and the permits that it keeps.
    pub(super) fn upgrade_with(&self, upgrade: Upgrade, permits: Vec<Permit>) {
        *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, permits));
    }
}

/// The Socket.IO endpoint.
pub(crate) fn socket_io_routes(broker: Arc<Broker>, metrics: Metrics) -> Router {
    let socket_io = any(upgrade).with_state((broker, metrics));
    // Engine.IO answers whatever begins with its path; proxies that map a prefix rely on it.
    Router::new()
        .route("/socket.io", socket_io.clone())
        .route("/socket.io/", socket_io.clone())
        .route("/socket.io/{*rest}", socket_io)
}

/// Answers a request for the Socket.IO endpoint.
async fn upgrade(
    State((broker, metrics)): State<(Arc<Broker>, Metrics)>,
    Extension(arrival): Extension<Arrival>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight(request.headers());
    }
    let switch = match check(&request) {
        Ok(switch) => switch,
        Err(error) => {
            metrics.rejections.inc(["bad_request"]);
            return error.into_response();
        }
    };
    let reject = |rejection: Rejection| {
        metrics.rejections.inc([rejection.cause()]);
        rejection.into_response()
    };
    let permits = match arrival.permit(client, request.headers()) {
        Ok(permits) => permits,
        Err(rejection) => return reject(rejection),
    };
    let query = request.uri().query().unwrap_or_default();
    let mut node = None;
    let admitted = match Handshake::parse(query, broker.max_data_bytes()) {
        Err(refusal) => Err(AdmissionError::Refused(refusal)),
        Ok(handshake) if arrival.addresses.has_failed(client.ip(), &handshake) => {
            metrics.webhook_calls.inc(["authentication", "cached"]);
            node = Some(handshake.id);
            Err(AdmissionError::Refused(Refusal::AuthenticationFailed))
        }
        Ok(handshake) => {
            let permit = match arrival.addresses.admission(client.ip()).await {
                Ok(permit) => permit,
                Err(rejection) => return reject(rejection),
            };
            let admitted = broker.admit(&handshake, &arrival.link, permit).await;
            if let Err(AdmissionError::Refused(Refusal::AuthenticationFailed)) = admitted {
                arrival.addresses.remember_failure(client.ip(), &handshake);
            }
            node = Some(handshake.id);
            admitted
        }
    };
    let decision = match admitted {
        Ok(session) => Decision::Admitted(session),
        Err(AdmissionError::Refused(refusal)) => Decision::Refused(refusal, arrival.link.clone()),
        Err(AdmissionError::Unavailable(cause)) => {
            metrics.rejections.inc([cause]);
            return unavailable(cause);
        }
    };
    if let Decision::Refused(refusal, _) = &decision {
        broker.record_refusal(node.as_ref(), client.ip(), *refusal);
    }
    let mut request = http::Request::new(());
    *request.uri_mut() = Uri::from_static("/socket.io/?EIO=4&transport=websocket");
    request.extensions_mut().insert(decision);
    arrival.upgrade_with(Upgrade::SocketIo(request), permits);
    switch.into_response()
}

/// Answers a browser's preflight as the original does, whose polling pages of other origins used. No
/// page needs it for a WebSocket, but checks of proxies and monitors do ask.
fn preflight(request: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, any);
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    if let Some(requested) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    response
}

/// What is wrong with a request, in the words and numbers of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpgradeError {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedVersion,
}

impl IntoResponse for UpgradeError {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            UpgradeError::UnknownTransport => (0, "Transport unknown"),
            UpgradeError::UnknownSession => (1, "Session ID unknown"),
            UpgradeError::BadMethod => (2, "Bad handshake method"),
            UpgradeError::BadRequest => (3, "Bad request"),
            UpgradeError::UnsupportedVersion => (5, "Unsupported protocol version"),
        };
        let body = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body)
            .into_response()
    }
}

/// Checks that this is an upgrade to Engine.IO 4 over WebSocket; gives the response to it.
fn check(request: &Request) -> Result<SwitchingProtocols, UpgradeError> {
    if request.method() != Method::GET {
        return Err(UpgradeError::BadMethod);
    }
    let query = request.uri().query().unwrap_or_default();
    let value = |key| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    if value("EIO") != Some("4") {
        return Err(UpgradeError::UnsupportedVersion);
    }
    if value("sid").is_some() {
        // Only a session that began with polling could go on here, and there are none.
        return Err(UpgradeError::UnknownSession);
    }
    if value("transport") != Some("websocket") {
        return Err(UpgradeError::UnknownTransport);
    }
    SwitchingProtocols::check(request).ok_or(UpgradeError::BadRequest)
}

/// The response to an upgrade to a WebSocket.
#[derive(Debug)]
pub(super) struct SwitchingProtocols {
    accept: HeaderValue,
    /// The subprotocol, if the client offers any: browsers close a WebSocket that chose none.
    protocol: Option<HeaderValue>,
}

impl SwitchingProtocols {
    /// Checks that this is an upgrade to a WebSocket (RFC 6455, 4.2.1). HTTP/1.0 is accepted: nginx
    /// uses it for upstreams by default, and passes the upgrade on.
    pub(super) fn check(request: &Request) -> Option<Self> {
        let headers = request.headers();
        let is_upgrade = request.method() == Method::GET
            && request.version() >= Version::HTTP_10
            && has_token(headers, header::CONNECTION, "upgrade")
            && has_token(headers, header::UPGRADE, "websocket")
            && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let key =
            headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_upgrade && key.len() == 24);
        let accept = HeaderValue::from_str(&derive_accept_key(key?.as_bytes())).ok()?;
        let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|it| it.to_str().ok());
        let first = offered.and_then(|offered| offered.split(',').next()).map(str::trim);
        let first = first.filter(|first| !first.is_empty());
        let protocol = first.and_then(|first| HeaderValue::from_str(first).ok());
        Some(Self { accept, protocol })
    }
}

impl IntoResponse for SwitchingProtocols {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let protocol = self.protocol.map(|protocol| [(header::SEC_WEBSOCKET_PROTOCOL, protocol)]);
        match protocol {
            Some(protocol) => (StatusCode::SWITCHING_PROTOCOLS, headers, protocol).into_response(),
            None => (StatusCode::SWITCHING_PROTOCOLS, headers).into_response(),
        }
    }
}

/// Whether a header that is a list names `token`, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(change: impl FnOnce(&mut Request)) -> Request {
        let mut request = http::Request::get("/socket.io/?EIO=4&transport=websocket&id=a")
            .header("Connection", "keep-alive, Upgrade")
            .header("Upgrade", "WebSocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .unwrap();
        change(&mut request);
        request
    }

    #[test]
    fn the_accept_value_is_that_of_the_standard() {
        assert_eq!(check(&request(|_| ())).unwrap().accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn everything_else_is_an_error() {
        let error = |change: &dyn Fn(&mut Request)| check(&request(change)).unwrap_err();
        let query =
            |query: &'static str| error(&|request| *request.uri_mut() = Uri::from_static(query));
        assert_eq!(query("/socket.io/"), UpgradeError::UnsupportedVersion);
        assert_eq!(
            query("/socket.io/?EIO=3&transport=websocket"),
            UpgradeError::UnsupportedVersion
        );
        assert_eq!(
            query("/socket.io/?EIO=44&transport=websocket"),
            UpgradeError::UnsupportedVersion
        );
        assert_eq!(query("/socket.io/?EIO=4"), UpgradeError::UnknownTransport);
        assert_eq!(query("/socket.io/?EIO=4&transport=polling"), UpgradeError::UnknownTransport);
        assert_eq!(
            query("/socket.io/?EIO=4&transport=websocket&sid=x"),
            UpgradeError::UnknownSession
        );
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(
                error(&|request| *request.method_mut() = method.clone()),
                UpgradeError::BadMethod
            );
        }
        for header in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            assert_eq!(
                error(&|request| drop(request.headers_mut().remove(header))),
                UpgradeError::BadRequest
            );
            let other = HeaderValue::from_static("12");
            assert_eq!(
                error(&|request| drop(request.headers_mut().insert(header, other.clone()))),
                UpgradeError::BadRequest
            );
        }
        assert_eq!(
            error(&|request| *request.version_mut() = Version::HTTP_09),
            UpgradeError::BadRequest
        );
    }

    #[test]
    fn the_first_offered_subprotocol_is_chosen() {
        let chosen = |offered| {
            let value = HeaderValue::from_static(offered);
            let request = request(|request| {
                request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            });
            check(&request).unwrap().protocol
        };
        assert!(check(&request(|_| ())).unwrap().protocol.is_none());
        assert_eq!(chosen("first, second").unwrap(), "first");
        assert_eq!(chosen("only").unwrap(), "only");
        assert!(chosen("").is_none() && chosen(" ,x").is_none());
    }
}
