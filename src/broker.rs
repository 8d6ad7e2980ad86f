//! What the broker decides, independent of the transport: who is admitted, where a message goes,
//! and who is connected.
//!
//! The path of a message, in reading order:
//!
//! - `session`: a connected node; its events enter here.
//! - `authorize`: whether a message may pass; `pairs`: nodes between which an authorized attempt
//!   has opened signaling.
//! - `route`: where its receiver is.
//! - `pipeline`: the order of messages that have to wait; `dispatcher`: drives it.
//! - `deliver`: hands the message over.
//!
//! Beside that path:
//!
//! - `admission`: a new connection gets its ID, or the reason why not.
//! - `rtc`: the RTC configuration of a node.
//! - `presence`: which nodes are connected.
//! - `bridge`: messages between nodes and peers of the peer-relay network.
//! - `replacements`: how often an ID was replaced recently.
//! - `replicas`: requests of other replicas.
//! - `maintenance`: periodic tasks.
//!
//! For operators:
//!
//! - `nodes`: the connected nodes, listed, looked up and disconnected.
//! - `enforce`: bans, and the end of connections that they concern.
//! - `announce`: messages of the operator to nodes.
//! - `status`: the state of every part.
//! - `calls`: how all replicas are asked.

mod admission;
mod announce;
mod authorize;
mod bridge;
mod calls;
mod deliver;
mod dispatcher;
mod enforce;
mod maintenance;
mod nodes;
mod pairs;
mod pipeline;
mod presence;
mod replacements;
mod replicas;
mod route;
mod rtc;
mod session;
mod status;

pub(crate) use admission::AdmissionError;
pub use admission::DuplicateIdPolicy;
pub(crate) use announce::{AckCounts, Announcement};
pub(crate) use nodes::{MAX_PAGE, Node, NodeError, NodesQuery};
pub use rtc::{RtcFallback, StaticRtc, TurnServers};
pub(crate) use session::Session;
pub(crate) use status::{Need, Part, PartState, Problem, ReplicaStatus, state};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis_session::Refusal;

use crate::bans::Bans;
use crate::delivery::{Clients, LocalConnections, Remote};
use crate::directory::Directory;
use crate::lifecycle::{Cursor, Lifecycle};
use crate::login::Login;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::node::{NodeId, ReplicaId};
use crate::overlay::Peer;
use crate::protocol::SupportedNodes;
use crate::webhooks::Webhooks;
use link::CloseReason;
use pairs::OpenPairs;
use replacements::Replacements;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// What an operator decides about the broker.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// The nodes that may connect.
    pub supported_nodes: SupportedNodes,
    /// Whether the signaling events pass.
    pub signaling_enabled: bool,
    /// Whether messages are relayed.
    pub relay_enabled: bool,
    /// The most bytes of the `data` in a handshake.
    pub max_data_bytes: usize,
    /// The most IDs in one presence question.
    pub max_presence_ids: usize,
    /// What to do when an ID is already in use.
    pub duplicate_id_policy: DuplicateIdPolicy,
    /// What a node gets where the RTC webhook gives no answer.
    pub rtc_fallback: RtcFallback,
    /// Whether the broker counts as not ready while Redis is unavailable.
    pub ready_requires_redis: bool,
}

/// One replica's broker.
pub(crate) struct Broker {
    replica: ReplicaId,
    settings: BrokerSettings,
    directory: Directory,
    connections: LocalConnections,
    lifecycle: Lifecycle,
    clients: Clients,
    /// The connection to other replicas, if there may be any.
    remote: Option<Remote>,
    /// The peer-relay network, if nodes are bridged to it.
    peer: Option<Peer>,
    pairs: OpenPairs,
    replacements: Replacements,
    webhooks: Webhooks,
    /// Checks tokens, if nodes need one.
    login: Option<Login>,
    static_rtc: StaticRtc,
    memory: MemoryBudget,
    metrics: Metrics,
    /// Owns what is looked up for nodes beside their messages. Each task ends with its connection.
    lookups: TaskTracker,
    /// Permits for calls of other replicas.
    calls: Arc<Semaphore>,
    other_parts: Vec<PartState>,
    bans: Bans,
    /// The ID in whose name operators send messages: no node gets it.
    reserved: Option<NodeId>,
    /// When it was started, in milliseconds since 1970.
    started: u64,
    draining: AtomicBool,
}

/// Why no IDs are given out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RedisProblem {
    /// Redis cannot be asked, or has lost what it had a moment ago.
    Unavailable,
    /// Redis refuses a command that is needed.
    Refuses(Refusal),
}

impl Broker {
    /// A broker without nodes. `remote` leads to the replicas that share its directory.
    pub(crate) fn new(
        replica: ReplicaId,
        settings: BrokerSettings,
        directory: Directory,
        remote: Option<Remote>,
        webhooks: Webhooks,
        static_rtc: StaticRtc,
        metrics: Metrics,
    ) -> Self {
        Self {
            replica,
            settings,
            directory,
            connections: LocalConnections::new(Lifecycle::default()),
            lifecycle: Lifecycle::default(),
            clients: Clients::default(),
            remote,
            peer: None,
            pairs: OpenPairs::new(),
            replacements: Replacements::new(),
            webhooks,
            login: None,
            static_rtc,
            memory: MemoryBudget::new(Some(u64::MAX), &metrics),
            lookups: TaskTracker::new(),
            calls: Arc::new(Semaphore::new(calls::MAX_CALLS)),
            other_parts: Vec::new(),
            bans: Bans::new(None, 0, metrics.clone()),
            reserved: None,
            started: status::now_ms(),
            draining: AtomicBool::new(false),
            metrics,
        }
    }

    /// The same, which admits newcomers and messages only as long as `memory` does.
    pub(crate) fn within(self, memory: MemoryBudget) -> Self {
        Self { memory, ..self }
    }

    /// The same, which records in `lifecycle` what happens to nodes.
    pub(crate) fn recorded(self, lifecycle: Lifecycle) -> Self {
        Self { connections: LocalConnections::new(lifecycle.clone()), lifecycle, ..self }
    }

    /// The same, which nodes log in to with tokens, if there is something that checks them.
    pub(crate) fn logging_in(self, login: Option<Login>) -> Self {
        Self { login, ..self }
    }

    /// The same, whose nodes also reach the peers that `peer` reaches.
    pub(crate) fn bridged(self, peer: Peer) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The same, with one more part whose state is reported.
    pub(crate) fn reporting(mut self, part: PartState) -> Self {
        self.other_parts.push(part);
        self
    }

    /// The same, with these bans.
    pub(crate) fn with_bans(self, bans: Bans) -> Self {
        Self { bans, ..self }
    }

    /// The same, which admits no node with this ID.
    pub(crate) fn reserving(self, id: NodeId) -> Self {
        Self { reserved: Some(id), ..self }
    }

    /// Stops admissions, and closes the connections of all nodes, which releases their IDs; the
    /// nodes reconnect elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.lifecycle.stop_holding();
        for link in self.connections.links() {
            link.close(CloseReason::Draining);
        }
    }

    /// Returns what keeps Redis from giving out IDs, if anything does.
    fn redis_problem(&self) -> Option<RedisProblem> {
        if let Some(refusal) = self.directory.refusal() {
            return Some(RedisProblem::Refuses(refusal));
        }
        (!self.directory.is_ready()).then_some(RedisProblem::Unavailable)
    }

    /// The most bytes of the `data` in a handshake.
    pub(crate) fn max_data_bytes(&self) -> usize {
        self.settings.max_data_bytes
    }

    /// Tells other replicas that this one is leaving. Its connections must have ended before.
    pub(crate) async fn leave(&self) {
        self.lookups.close();
        self.lookups.wait().await;
        self.directory.close().await;
    }

    /// Returns a reader of what happens to nodes from now on, if that is recorded.
    pub(crate) fn follow_events(&self) -> Option<Cursor> {
        self.lifecycle.follow()
    }

    /// Tells the webhook what has happened to nodes so far, and from then on nothing.
    pub(crate) async fn flush_events(&self) {
        if let Some(node_events) = &self.webhooks.node_events {
            node_events.flush().await;
        }
    }

    /// Whether the broker is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
