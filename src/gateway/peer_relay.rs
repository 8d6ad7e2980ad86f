//! The endpoint of the peer-relay network: a WebSocket for clients that speak its protocol.

use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::upgrade::{Arrival, Upgrade, switching_protocols, unavailable, websocket_accept};
use crate::metrics::Metrics;
use crate::overlay::Peer;

/// Answers a request for the peer-relay endpoint. Compression is declined by not naming it.
pub async fn peer_relay(
    State((peer, metrics)): State<(Peer, Metrics)>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Response {
    let Some(accept) = websocket_accept(&request) else {
        metrics.rejection("bad_request");
        let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        return (StatusCode::UPGRADE_REQUIRED, headers, "A WebSocket is expected here.\n")
            .into_response();
    };
    let Some(seat) = peer.seat() else {
        metrics.rejection("peer_relay_max_channels");
        return unavailable("peer_relay_max_channels");
    };
    arrival.upgrade_with(Upgrade::PeerRelay(peer, seat));
    switching_protocols(accept)
}
