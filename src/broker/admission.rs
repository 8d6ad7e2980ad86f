//! A node comes: it gets its ID, is refused for good, or is rejected for now.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Broker, Session};
use crate::delivery::{Connection, HolderStatus};
use crate::directory::{AcquireError, Lease};
use crate::node::{ConnectionId, Logged, NodeId, Owner};
use crate::protocol::{Handshake, Refusal};
use crate::telemetry::CONNECTIONS;
use link::{CloseReason, LinkHandle};

/// How long the holder of an ID may take to answer a ping.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a newcomer contends for an ID that others hold.
const CONTENTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a holder that is on its way in or out.
const TRANSITION_PAUSE: Duration = Duration::from_millis(10);

/// What to do when an ID is already in use (`DUPLICATE_ID_POLICY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateIdPolicy {
    /// The newcomer is refused if the holder is alive; otherwise it replaces the holder.
    Probe,
    /// The newcomer is always refused.
    Reject,
    /// The newcomer always replaces the holder.
    Replace,
}

impl FromStr for DuplicateIdPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "probe" => Self::Probe,
            "reject" => Self::Reject,
            "replace" => Self::Replace,
            _ => return Err(()),
        })
    }
}

/// Why a node did not get its ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// For good.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// For now; the text names the cause.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
}

impl Broker {
    /// Gives the node its ID, for as long as `link` is open.
    ///
    /// # Errors
    /// [`AdmissionError::Refused`] if the authentication webhook says no, or another connection
    /// holds the ID and keeps it; [`AdmissionError::Unavailable`] if the webhook gives no answer,
    /// the broker is shutting down, Redis is away or the ID is contended.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        handshake: &Handshake,
        link: &LinkHandle,
    ) -> Result<Arc<Session>, AdmissionError> {
        let admitted = self.try_admit(handshake, link).await;
        match &admitted {
            Ok(session) => {
                let Handshake { id: node, version, runtime, .. } = handshake;
                let (connection, peer) = (session.owner().connection, link.remote_addr());
                let (version, runtime) = (Logged(version), Logged(runtime));
                tracing::info!(target: CONNECTIONS, ?node, %connection, %peer, ?version, ?runtime, "node admitted");
            }
            Err(error) => {
                let (node, peer) = (&handshake.id, link.remote_addr());
                tracing::info!(target: CONNECTIONS, ?node, %peer, %error, "node not admitted");
            }
        }
        admitted
    }

    async fn try_admit(
        self: &Arc<Self>,
        handshake: &Handshake,
        link: &LinkHandle,
    ) -> Result<Arc<Session>, AdmissionError> {
        if self.is_draining() {
            return Err(AdmissionError::Unavailable("draining"));
        }
        self.authenticate(handshake, link.remote_addr().ip()).await?;
        let node = handshake.id.clone();
        let owner = Owner { replica: self.replica, connection: ConnectionId::next() };
        let lease = self.acquire(&node, owner).await?;
        let connection = Connection::new(link.clone());
        self.register(lease, connection.clone());
        if self.is_draining() {
            // The drain may have looked over the connections just before this one was there.
            link.close(CloseReason::Draining);
        }
        Ok(Arc::new(Session::new(self.clone(), node, owner, connection)))
    }

    async fn authenticate(
        &self,
        handshake: &Handshake,
        address: IpAddr,
    ) -> Result<(), AdmissionError> {
        let Some(authentication) = &self.webhooks.authentication else { return Ok(()) };
        match authentication.ask(handshake, address).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(AdmissionError::Refused(Refusal::AuthenticationFailed)),
            Err(_) => Err(AdmissionError::Unavailable("authentication_webhook")),
        }
    }

    /// Acquires the ID, contending with its holder as the policy says.
    async fn acquire(&self, node: &NodeId, owner: Owner) -> Result<Lease, AdmissionError> {
        let began = Instant::now();
        let mut acquired = self.directory.acquire(node, owner).await;
        loop {
            let holder = match acquired {
                Ok(lease) => return Ok(lease),
                Err(AcquireError::Taken(holder)) => holder,
                Err(AcquireError::Unavailable) => {
                    return Err(AdmissionError::Unavailable("redis_unavailable"));
                }
            };
            if self.settings.duplicate_id_policy == DuplicateIdPolicy::Reject {
                return Err(AdmissionError::Refused(Refusal::AlreadyConnected));
            }
            if began.elapsed() >= CONTENTION_TIMEOUT {
                return Err(AdmissionError::Unavailable("id_contended"));
            }
            acquired = match self.probe_holder(node, holder).await {
                None => return Err(AdmissionError::Unavailable("holder_unresponsive")),
                Some(HolderStatus::Alive) => {
                    return Err(AdmissionError::Refused(Refusal::AlreadyConnected));
                }
                Some(HolderStatus::Busy) => return Err(AdmissionError::Unavailable("holder_busy")),
                Some(HolderStatus::InTransition) => {
                    tokio::time::sleep(TRANSITION_PAUSE).await;
                    self.directory.acquire(node, owner).await
                }
                Some(HolderStatus::Gone) => self.directory.take_over(node, holder, owner).await,
            };
        }
    }

    /// Checks whether the holder of an ID that a newcomer wants is alive; `None` if its replica
    /// does not say.
    async fn probe_holder(&self, node: &NodeId, holder: Owner) -> Option<HolderStatus> {
        let replaces = self.settings.duplicate_id_policy == DuplicateIdPolicy::Replace;
        match &self.remote {
            Some(remote) if holder.replica != self.replica => {
                remote.probe(node, holder, replaces).await
            }
            _ => Some(self.check_liveness(node, holder, replaces).await),
        }
    }

    /// Checks whether a connection of this replica is alive and so keeps its ID, and ends it if it
    /// does not.
    pub(super) async fn check_liveness(
        &self,
        node: &NodeId,
        holder: Owner,
        replaces: bool,
    ) -> HolderStatus {
        let Some(link) = self.connections.link(node, holder.connection) else {
            let is_claimed = self.directory.is_claimed(node, holder);
            return if is_claimed { HolderStatus::InTransition } else { HolderStatus::Gone };
        };
        if !replaces {
            if link.probe(PROBE_TIMEOUT).await {
                return HolderStatus::Alive;
            }
            if link.is_reading_paused() && !link.is_closed() {
                // It sends more than is read of it, so it may well have answered.
                return HolderStatus::Busy;
            }
        }
        link.kill(CloseReason::Replaced);
        HolderStatus::Gone
    }

    /// Hangs the ID on the link: whatever ends the link gives the ID back.
    fn register(&self, lease: Lease, connection: Connection) {
        let (owner, link) = (lease.owner(), connection.link().clone());
        self.connections.register(lease.node().clone(), owner, connection);
        let connection = owner.connection;
        self.metrics.admission();
        let (connections, pairs) = (self.connections.clone(), self.pairs.clone());
        let (metrics, handle) = (self.metrics.clone(), link.clone());
        let began = Instant::now();
        link.on_close(move |reason| {
            let node = lease.node();
            connections.unregister(node, connection);
            pairs.forget(node, owner);
            metrics.departure(reason);
            let (bytes_read, bytes_written) = handle.traffic();
            let seconds = began.elapsed().as_secs();
            let reason = reason.label();
            tracing::info!(target: CONNECTIONS, ?node, %connection, reason, seconds, bytes_read, bytes_written, "node left");
            drop(lease);
        });
    }
}
