//! Ends the connections of nodes that operators have banned.

use std::net::IpAddr;

use super::Broker;
use super::calls::{Gathered, Request};
use crate::bans::{Ban, BanError, Target};
use crate::node::{NodeId, ReplicaId};

/// What nodes that are banned while they are connected are disconnected for.
const NOTE: &str = "banned";

impl Broker {
    /// Disconnects banned nodes as soon as the bans have changed. Never ends.
    pub(crate) async fn enforce_bans(&self) {
        let mut changes = self.bans.changes();
        while changes.changed().await.is_ok() {
            for (node, connection) in self.connections.registered() {
                if self.is_banned(&node, connection.link().remote_addr().ip()) {
                    connection.kick(NOTE);
                }
            }
        }
    }

    /// Whether a node must not be connected from this address.
    pub(super) fn is_banned(&self, node: &NodeId, address: IpAddr) -> bool {
        self.bans.include_node(node) || self.bans.include_address(address)
    }

    /// Bans a node or an address, and disconnects whom that concerns on all replicas. Returns the ban,
    /// and the replicas that did not reply: they learn of it within seconds.
    ///
    /// # Errors
    /// See [`BanError`].
    pub(crate) async fn ban(
        &self,
        target: Target,
        lasts: std::time::Duration,
        reason: String,
    ) -> Result<(Ban, Vec<ReplicaId>), BanError> {
        let ban = self.bans.set(target, lasts, reason).await?;
        Ok((ban, self.spread_bans().await))
    }

    /// Lifts a ban on all replicas. Returns those that did not reply.
    ///
    /// # Errors
    /// See [`BanError`].
    pub(crate) async fn unban(&self, target: &Target) -> Result<Vec<ReplicaId>, BanError> {
        self.bans.lift(target).await?;
        Ok(self.spread_bans().await)
    }

    /// Returns a page of the bans, and whether there are more.
    pub(crate) fn list_bans(&self, after: &str, limit: usize) -> (Vec<Ban>, bool) {
        self.bans.page(after, limit)
    }

    async fn spread_bans(&self) -> Vec<ReplicaId> {
        let Gathered { incomplete, .. } = self.gather(true, &Request::ReloadBans).await;
        incomplete
    }
}
