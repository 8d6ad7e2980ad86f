//! A node comes: it gets its ID, is refused for good, or is asked to come again.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Broker;
use crate::delivery::Verdict;
use crate::directory::{AcquireError, Lease};
use crate::node::{ConnectionId, NodeId, Owner};
use crate::protocol::{Handshake, Refusal};
use crate::telemetry::CONNECTIONS;
use link::{CloseReason, LinkHandle};

/// How long the holder of an ID may take to answer a ping.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a newcomer contends for an ID that others hold.
const CONTENTION_PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait for a holder that is on its way in or out.
const PASSING_PAUSE: Duration = Duration::from_millis(10);

/// What becomes of a newcomer whose ID another connection holds (`DUPLICATE_ID_POLICY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateIdPolicy {
    /// Refused if the holder gives a sign of life; else it replaces the holder.
    Probe,
    /// Always refused.
    Reject,
    /// It always replaces the holder.
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

/// A node that has its ID. The ID hangs on the connection's link and ends with it.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The node.
    pub node: NodeId,
    /// The connection that it came on.
    pub owner: Owner,
    /// That connection's link.
    pub link: LinkHandle,
}

/// Why a node did not get its ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
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
    pub async fn admit(
        &self,
        handshake: &Handshake,
        link: &LinkHandle,
    ) -> Result<Admission, AdmissionError> {
        let admitted = self.try_admit(handshake, link).await;
        match &admitted {
            Ok(admission) => {
                let Handshake { id: node, version, runtime, .. } = handshake;
                let (connection, peer) = (admission.owner.connection, link.remote_addr());
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
        &self,
        handshake: &Handshake,
        link: &LinkHandle,
    ) -> Result<Admission, AdmissionError> {
        if self.is_draining() {
            return Err(AdmissionError::Unavailable("draining"));
        }
        self.authenticate(handshake).await?;
        let node = handshake.id.clone();
        let owner = Owner { replica: self.replica, connection: ConnectionId::next() };
        let lease = self.acquire(&node, owner).await?;
        self.hold(lease, link);
        if self.is_draining() {
            // The drain may have looked over the connections just before this one was there.
            link.close(CloseReason::Draining);
        }
        Ok(Admission { node, owner, link: link.clone() })
    }

    async fn authenticate(&self, handshake: &Handshake) -> Result<(), AdmissionError> {
        let Some(authentication) = &self.webhooks.authentication else { return Ok(()) };
        match authentication.ask(handshake).await {
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
                    return Err(AdmissionError::Unavailable("redis_away"));
                }
            };
            if self.settings.duplicate_id_policy == DuplicateIdPolicy::Reject {
                return Err(AdmissionError::Refused(Refusal::AlreadyConnected));
            }
            if began.elapsed() >= CONTENTION_PATIENCE {
                return Err(AdmissionError::Unavailable("id_contended"));
            }
            acquired = match self.contest(node, holder).await {
                None => return Err(AdmissionError::Unavailable("holder_silent")),
                Some(Verdict::Alive) => {
                    return Err(AdmissionError::Refused(Refusal::AlreadyConnected));
                }
                Some(Verdict::Busy) => return Err(AdmissionError::Unavailable("holder_busy")),
                Some(Verdict::Passing) => {
                    tokio::time::sleep(PASSING_PAUSE).await;
                    self.directory.acquire(node, owner).await
                }
                Some(Verdict::Gone) => self.directory.take_over(node, holder, owner).await,
            };
        }
    }

    /// Asks the holder of an ID that a newcomer wants whether it is alive; `None` if its replica
    /// gives no answer.
    async fn contest(&self, node: &NodeId, holder: Owner) -> Option<Verdict> {
        let replaces = self.settings.duplicate_id_policy == DuplicateIdPolicy::Replace;
        match &self.remote {
            Some(remote) if holder.replica != self.replica => {
                remote.contest(node, holder, replaces).await
            }
            _ => Some(self.judge(node, holder, replaces).await),
        }
    }

    /// Judges whether a connection of this replica keeps its ID, and ends it if it does not.
    pub(super) async fn judge(&self, node: &NodeId, holder: Owner, replaces: bool) -> Verdict {
        let Some(link) = self.connections.link(node, holder.connection) else {
            let is_passing = self.directory.is_claimed(node, holder);
            return if is_passing { Verdict::Passing } else { Verdict::Gone };
        };
        if !replaces {
            if link.probe(PROBE_PATIENCE).await {
                return Verdict::Alive;
            }
            if link.is_reading_paused() && !link.is_closed() {
                // It sends more than is read of it, so it may well have answered.
                return Verdict::Busy;
            }
        }
        link.kill(CloseReason::Replaced);
        Verdict::Gone
    }

    /// Hangs the ID on the link: whatever ends the link gives the ID back.
    fn hold(&self, lease: Lease, link: &LinkHandle) {
        let owner = lease.owner();
        let connection = owner.connection;
        self.connections.hold(lease.node().clone(), owner, link.clone());
        self.metrics.admission();
        let (connections, pairs) = (self.connections.clone(), self.pairs.clone());
        let (metrics, handle) = (self.metrics.clone(), link.clone());
        let began = Instant::now();
        link.on_close(move |reason| {
            let node = lease.node();
            connections.forget(node, connection);
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
