//! The endpoint of the peer-relay network: a WebSocket for clients that speak its protocol.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{StatusCode, header};

use super::addresses::Holding;
use super::rejection::{Rejection, unavailable};
use super::upgrade::{Arrival, SwitchingProtocols, Upgrade};
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::overlay::Peer;

/// The peer-relay endpoint, whose connections are handed to `peer`.
pub(crate) fn peer_relay_route(
    path: &str,
    peer: Peer,
    memory: MemoryBudget,
    metrics: Metrics,
) -> Router {
    Router::new().route(path, any(upgrade).with_state((peer, memory, metrics)))
}

/// Answers a request for the peer-relay endpoint. Compression is declined by not naming it.
async fn upgrade(
    State((peer, memory, metrics)): State<(Peer, MemoryBudget, Metrics)>,
    Extension(arrival): Extension<Arrival>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Some(switch) = SwitchingProtocols::check(&request) else {
        metrics.rejections.inc(["bad_request"]);
        let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        return (StatusCode::UPGRADE_REQUIRED, headers, "A WebSocket is expected here.\n")
            .into_response();
    };
    let reject = |rejection: Rejection| {
        metrics.rejections.inc([rejection.cause()]);
        rejection.into_response()
    };
    if !memory.admits_newcomers() {
        metrics.rejections.inc(["memory_limit"]);
        return unavailable("memory_limit");
    }
    let mut permits = match arrival.permit(client, request.headers()) {
        Ok(permits) => permits,
        Err(rejection) => return reject(rejection),
    };
    let Some(permit) = peer.reserve() else {
        metrics.rejections.inc(["peer_relay_max_channels"]);
        return unavailable("peer_relay_max_channels");
    };
    match arrival.addresses().hold(client.ip(), Holding::Channel) {
        Ok(of_address) => permits.push(of_address),
        Err(rejection) => return reject(rejection),
    }
    arrival.upgrade_with(Upgrade::PeerRelay(peer, permit), permits);
    switch.into_response()
}
