//! The listeners for operators: without TLS, and without the limits of the main port.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::{StartError, spawn};
use crate::api::ShownSetting;
use crate::config::Setting;
use crate::gateway::{self, Addresses, Listener, ListenerSettings};
use link::{LinkLimits, LinkSet};

/// The most connections to one of these listeners.
const MAX_CONNECTIONS: usize = 16;

/// An open socket that nobody serves yet.
pub(super) struct Bound(TcpListener, SocketAddr);

/// A listener that is served until it is dropped: operators want to see the drain.
pub(super) struct Operators {
    pub(super) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
    _end: DropGuard,
}

impl Bound {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`StartError::Bind`].
    pub(super) fn to(address: SocketAddr) -> Result<Self, StartError> {
        let bound = gateway::bind(address.ip(), address.port());
        let bound = bound.and_then(|listener| listener.local_addr().map(|at| Self(listener, at)));
        bound.map_err(|source| StartError::Bind { address, source })
    }

    /// Serves `app` there, in the manner of `main`.
    pub(super) fn serve(self, app: Router, limits: LinkLimits, main: &Listener) -> Operators {
        let Self(listener, address) = self;
        let gateway = Listener {
            addresses: Addresses::new(ListenerSettings::default(), usize::MAX, 0).into(),
            links: LinkSet::new(limits, MAX_CONNECTIONS),
            app,
            tls: None,
            ..main.clone()
        };
        let end = CancellationToken::new();
        let task = spawn(gateway.run(listener, end.clone()));
        Operators { address, _task: task, _end: end.drop_guard() }
    }
}

/// Returns the configuration as the API shows it.
pub(super) fn shown(settings: &[Setting]) -> Vec<ShownSetting> {
    let shown = |Setting { name, value, origin }: &Setting| ShownSetting {
        name,
        value: value.clone(),
        origin: origin.to_string(),
    };
    settings.iter().map(shown).collect()
}
