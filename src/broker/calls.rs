//! What operators ask of all replicas, or of the one that has a node.
//!
//! This replica does its own part. Others are sent the request as JSON over the channel of messages
//! between replicas, and reply with their part. Those that do not reply in time are named.

use std::sync::Arc;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Broker;
use super::announce::Announcement;
use super::nodes::NodesQuery;
use crate::node::{NodeId, ReplicaId};

/// The most calls of other replicas that are worked on at a time.
pub(super) const MAX_CALLS: usize = 16;

/// A request to one replica. A variant that is not known there has no reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// A page of its nodes.
    Nodes(NodesQuery),
    /// One of its nodes.
    Node { id: String },
    /// The end of a node's connection.
    Disconnect { id: String, reason: String },
    /// A message to all of its nodes.
    Announce(Announcement),
    /// A look for changed bans.
    ReloadBans,
    /// Its state.
    Status,
}

/// The parts of a result, and the replicas that did not reply in time.
pub(super) struct Gathered<T> {
    pub(super) parts: Vec<T>,
    pub(super) incomplete: Vec<ReplicaId>,
}

impl Broker {
    /// Does what another replica asks, and returns the result as JSON; `None` if it asks something
    /// that is not known here.
    pub(super) async fn perform(self: &Arc<Self>, request: &str) -> Option<String> {
        let node = |id: &str| NodeId::parse(id).ok();
        let result = match serde_json::from_str(request).ok()? {
            Request::Nodes(query) => serde_json::to_string(&self.own_page(&query)),
            Request::Node { id } => serde_json::to_string(&self.own_node(&node(&id)?)),
            Request::Disconnect { id, reason } => {
                serde_json::to_string(&self.kick(&node(&id)?, &reason))
            }
            Request::Announce(announcement) => {
                serde_json::to_string(&self.announce_here(&announcement).await)
            }
            Request::ReloadBans => {
                self.bans.reload().await;
                serde_json::to_string(&true)
            }
            Request::Status => serde_json::to_string(&self.own_status()),
        };
        result.ok()
    }

    /// Asks all other replicas, and adds their parts to this one's.
    pub(super) async fn gather<T: DeserializeOwned>(
        &self,
        own: T,
        request: &Request,
    ) -> Gathered<T> {
        let replicas = self.directory.replicas().await;
        let asked = replicas.iter().map(|replica| self.call(*replica, request));
        let mut gathered = Gathered { parts: vec![own], incomplete: Vec::new() };
        for (replica, part) in replicas.iter().zip(join_all(asked).await) {
            match part {
                Some(part) => gathered.parts.push(part),
                None => gathered.incomplete.push(*replica),
            }
        }
        gathered
    }

    /// Asks another replica; `None` if it does not reply in time.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        replica: ReplicaId,
        request: &Request,
    ) -> Option<T> {
        let request = serde_json::to_string(request).ok()?;
        let result = self.remote.as_ref()?.call(replica, &request).await?;
        serde_json::from_str(&result).ok()
    }
}
