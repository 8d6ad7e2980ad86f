//! A node connects: it gets its ID, is refused, or is rejected.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pairs::OpenPairs;
use super::{Broker, Session};
use crate::delivery::{Connection, HolderStatus, LocalConnections, Newcomer, Traffic};
use crate::directory::{AcquireError, Lease};
use crate::login::{Grant, LoginError};
use crate::metrics::Metrics;
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
    /// Gives the node its ID, for as long as `link` is open. Drops `permit` once the node is
    /// authenticated.
    ///
    /// # Errors
    /// [`AdmissionError::Refused`] if the node is not supported, the authentication webhook says no, or another connection
    /// holds the ID and keeps it; [`AdmissionError::Unavailable`] if the webhook gives no answer,
    /// the broker is shutting down, Redis is unavailable or the ID is contended.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        handshake: &Handshake,
        link: &LinkHandle,
        permit: impl Send,
    ) -> Result<Arc<Session>, AdmissionError> {
        let began = Instant::now();
        let admitted = self.try_admit(handshake, link, permit).await;
        let outcome = match &admitted {
            Ok(_) => "admitted",
            Err(AdmissionError::Refused(_)) => "refused",
            Err(AdmissionError::Unavailable(_)) => "unavailable",
        };
        let seconds = began.elapsed().as_secs_f64();
        self.metrics.admission_seconds.with([outcome]).observe(seconds);
        match &admitted {
            Ok(session) => {
                let Handshake { id: node, version, runtime, .. } = handshake;
                let (connection, remote_addr) = (session.owner().connection, link.remote_addr());
                let (version, runtime) = (Logged(version), Logged(runtime));
                tracing::info!(target: CONNECTIONS, ?node, %connection, %remote_addr, ?version, ?runtime, "node admitted");
            }
            Err(error) => {
                let (node, remote_addr) = (&handshake.id, link.remote_addr());
                tracing::info!(target: CONNECTIONS, ?node, %remote_addr, %error, "node not admitted");
            }
        }
        admitted
    }

    async fn try_admit(
        self: &Arc<Self>,
        handshake: &Handshake,
        link: &LinkHandle,
        permit: impl Send,
    ) -> Result<Arc<Session>, AdmissionError> {
        if self.is_draining() {
            return Err(AdmissionError::Unavailable("draining"));
        }
        if !self.memory.admits_newcomers() {
            return Err(AdmissionError::Unavailable("memory_limit"));
        }
        if !self.settings.supported_nodes.include(handshake) {
            return Err(AdmissionError::Refused(Refusal::Unsupported));
        }
        if self.is_banned(&handshake.id, link.remote_addr().ip()) {
            return Err(AdmissionError::Refused(Refusal::Banned));
        }
        if self.reserved.as_ref() == Some(&handshake.id) {
            return Err(AdmissionError::Refused(Refusal::Reserved));
        }
        let grant = self.log_in(handshake).await?;
        self.authenticate(handshake, link.remote_addr().ip()).await?;
        drop(permit);
        let node = handshake.id.clone();
        let owner = Owner { replica: self.replica, connection: ConnectionId::next() };
        let client = self.clients.intern(&handshake.runtime, &handshake.version);
        let connection = Connection::new(link.clone(), client);
        let newcomer = self.newcomer(false);
        if let Some(lease) = self.acquire(&node, owner, newcomer).await? {
            self.register(lease, connection.clone());
        }
        if let Some(grant) = &grant {
            self.lookups.spawn(end_login(grant.expires, link.clone()));
        }
        Ok(Arc::new(Session::new(self.clone(), node, owner, connection, grant)))
    }

    /// Confirms the node's ID, now that it has sent CONNECT. If it has no ID yet, it takes it from
    /// a holder that has not sent CONNECT: a client that only upgrades does not block others.
    ///
    /// # Errors
    /// As [`Broker::admit`]. If the ID cannot be had for now, the link is closed.
    pub(super) async fn claim(
        &self,
        node: &NodeId,
        owner: Owner,
        connection: &Connection,
    ) -> Result<(), AdmissionError> {
        if self.connections.begin_greeting(node, owner.connection) {
            return Ok(());
        }
        let link = connection.link();
        if link.is_closed() {
            return Err(AdmissionError::Unavailable("closed"));
        }
        let error = match self.acquire(node, owner, self.newcomer(true)).await {
            Ok(Some(lease)) => {
                self.register(lease, connection.clone());
                self.connections.begin_greeting(node, owner.connection);
                return Ok(());
            }
            Ok(None) => AdmissionError::Unavailable("id_contended"),
            Err(error) => error,
        };
        tracing::info!(target: CONNECTIONS, ?node, remote_addr = %link.remote_addr(), %error, "node not admitted");
        match error {
            AdmissionError::Refused(refusal) => {
                self.record_refusal(Some(node), link.remote_addr().ip(), refusal);
            }
            AdmissionError::Unavailable(cause) => {
                self.metrics.rejections.inc([cause]);
                link.close(CloseReason::Transport);
            }
        }
        Err(error)
    }

    /// Records that a client is refused for good.
    pub(crate) fn record_refusal(&self, node: Option<&NodeId>, address: IpAddr, refusal: Refusal) {
        self.metrics.refusals.inc([refusal.label()]);
        self.lifecycle.refused(node, address, refusal.label());
    }

    fn newcomer(&self, is_connecting: bool) -> Newcomer {
        let replaces = self.settings.duplicate_id_policy == DuplicateIdPolicy::Replace;
        Newcomer { replaces, is_connecting }
    }

    /// Checks the node's token, if it needs one.
    async fn log_in(&self, handshake: &Handshake) -> Result<Option<Arc<Grant>>, AdmissionError> {
        let Some(login) = &self.login else { return Ok(None) };
        let granted = login.log_in(&handshake.id, handshake.data.as_deref()).await;
        let cause = granted.as_ref().err().map_or("ok", |error| error.label());
        self.metrics.logins.inc([cause]);
        match granted {
            Ok(grant) => Ok(Some(Arc::new(grant))),
            Err(LoginError::NoKeys) => Err(AdmissionError::Unavailable("login_keys")),
            Err(_) => {
                tracing::debug!(node = ?handshake.id, cause, "login refused");
                Err(AdmissionError::Refused(Refusal::AuthenticationFailed))
            }
        }
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

    /// Acquires the ID, contending with its holder as the policy says. `None` if the holder has not
    /// said CONNECT, and neither has the newcomer: the first one to do so gets the ID.
    async fn acquire(
        &self,
        node: &NodeId,
        owner: Owner,
        newcomer: Newcomer,
    ) -> Result<Option<Lease>, AdmissionError> {
        let began = Instant::now();
        let mut acquired = self.directory.acquire(node, owner).await;
        loop {
            let holder = match acquired {
                Ok(lease) => return Ok(Some(lease)),
                Err(AcquireError::Taken(holder)) => holder,
                Err(AcquireError::Unavailable) => {
                    return Err(AdmissionError::Unavailable("redis_unavailable"));
                }
            };
            if began.elapsed() >= CONTENTION_TIMEOUT {
                return Err(AdmissionError::Unavailable("id_contended"));
            }
            acquired = match self.probe_holder(node, holder, newcomer).await {
                None => return Err(AdmissionError::Unavailable("holder_unresponsive")),
                Some(HolderStatus::Alive) => {
                    return Err(AdmissionError::Refused(Refusal::AlreadyConnected));
                }
                Some(HolderStatus::Busy) => return Err(AdmissionError::Unavailable("holder_busy")),
                Some(HolderStatus::Unconnected) => return Ok(None),
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
    async fn probe_holder(
        &self,
        node: &NodeId,
        holder: Owner,
        newcomer: Newcomer,
    ) -> Option<HolderStatus> {
        match &self.remote {
            Some(remote) if holder.replica != self.replica => {
                remote.probe(node, holder, newcomer).await
            }
            _ => Some(self.check_liveness(node, holder, newcomer).await),
        }
    }

    /// Checks whether a connection of this replica is alive and so keeps its ID, and ends it if it
    /// does not.
    pub(super) async fn check_liveness(
        &self,
        node: &NodeId,
        holder: Owner,
        newcomer: Newcomer,
    ) -> HolderStatus {
        let Some(link) = self.connections.link(node, holder.connection) else {
            let is_claimed = self.directory.is_claimed(node, holder);
            return if is_claimed { HolderStatus::InTransition } else { HolderStatus::Gone };
        };
        if newcomer.is_connecting {
            if let Some(link) = self.connections.displace(node, holder.connection) {
                // Gives the ID back. When it says CONNECT in turn, it is answered as any newcomer.
                link.on_close(|_| ());
                return HolderStatus::Gone;
            }
        } else if !self.connections.has_said_connect(node, holder.connection) {
            return HolderStatus::Unconnected;
        }
        if self.settings.duplicate_id_policy == DuplicateIdPolicy::Reject {
            return HolderStatus::Alive;
        }
        let replaces = newcomer.replaces && !self.replacements.are_in_a_row(node);
        if !replaces {
            if link.probe(PROBE_TIMEOUT).await {
                return HolderStatus::Alive;
            }
            if link.is_reading_paused() && !link.is_closed() {
                // It sends more than is read of it, so it may well have answered.
                return HolderStatus::Busy;
            }
        }
        match self.connections.connection(node.as_str()) {
            Some((owner, connection)) if replaces && owner.connection == holder.connection => {
                self.replacements.record(node);
                connection.disconnect(CloseReason::Replaced);
            }
            _ => link.kill(CloseReason::Replaced),
        }
        HolderStatus::Gone
    }

    /// Attaches the lease to the link, so that the ID is released however the link ends.
    fn register(&self, lease: Lease, connection: Connection) {
        let link = connection.link().clone();
        self.connections.register(lease.node().clone(), lease.owner(), connection.clone());
        if self.is_banned(lease.node(), link.remote_addr().ip()) {
            // The ban may have been enforced just before this connection was there.
            link.close(CloseReason::Kicked);
        }
        if self.is_draining() {
            // The drain may have looked over the connections just before this one was there.
            link.close(CloseReason::Draining);
        }
        self.metrics.admission();
        let registration = Registration {
            lease,
            connection,
            began: Instant::now(),
            connections: self.connections.clone(),
            pairs: self.pairs.clone(),
            metrics: self.metrics.clone(),
            reason: CloseReason::Replaced,
        };
        link.on_close(move |reason| registration.end(reason));
    }
}

/// Closes a link when the token of its node expires.
async fn end_login(expires: tokio::time::Instant, link: LinkHandle) {
    tokio::select! {
        () = tokio::time::sleep_until(expires) => link.close(CloseReason::LoginExpired),
        () = link.closed() => {}
    }
}

/// A registered connection. Dropped when it ends, or when it loses its ID to a newcomer.
struct Registration {
    lease: Lease,
    connection: Connection,
    began: Instant,
    connections: LocalConnections,
    pairs: OpenPairs,
    metrics: Metrics,
    reason: CloseReason,
}

impl Registration {
    fn end(mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (node, owner) = (self.lease.node(), self.lease.owner());
        let Traffic { bytes_in: bytes_read, bytes_out: bytes_written, .. } =
            self.connection.traffic();
        let connection = owner.connection;
        self.connections.unregister(node, connection, self.reason);
        self.pairs.forget(node, owner);
        self.metrics.departure(self.reason);
        let seconds = self.began.elapsed().as_secs();
        let (reason, note) =
            (self.reason.label(), self.connection.note().map(Logged).map(tracing::field::debug));
        tracing::info!(target: CONNECTIONS, ?node, %connection, reason, note, seconds, bytes_read, bytes_written, "node left");
    }
}
