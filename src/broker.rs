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

mod admission;
mod authorize;
mod bridge;
mod deliver;
mod dispatcher;
mod maintenance;
mod pairs;
mod pipeline;
mod presence;
mod replacements;
mod replicas;
mod route;
mod rtc;
mod session;

pub(crate) use admission::AdmissionError;
pub use admission::DuplicateIdPolicy;
pub use rtc::{RtcFallback, StaticRtc, TurnServers};
pub(crate) use session::Session;

use std::sync::atomic::{AtomicBool, Ordering};

use redis_session::Refusal;

use crate::delivery::{Clients, LocalConnections, Remote};
use crate::directory::Directory;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::node::ReplicaId;
use crate::overlay::Peer;
use crate::protocol::SupportedNodes;
use crate::webhooks::Webhooks;
use link::CloseReason;
use pairs::OpenPairs;
use replacements::Replacements;
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
}

/// One replica's broker.
pub(crate) struct Broker {
    replica: ReplicaId,
    settings: BrokerSettings,
    directory: Directory,
    connections: LocalConnections,
    clients: Clients,
    /// The connection to other replicas, if there may be any.
    remote: Option<Remote>,
    /// The peer-relay network, if nodes are bridged to it.
    peer: Option<Peer>,
    pairs: OpenPairs,
    replacements: Replacements,
    webhooks: Webhooks,
    static_rtc: StaticRtc,
    memory: MemoryBudget,
    metrics: Metrics,
    /// Owns what is looked up for nodes beside their messages. Each task ends with its connection.
    lookups: TaskTracker,
    draining: AtomicBool,
}

/// Why no IDs are given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RedisProblem {
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
            connections: LocalConnections::default(),
            clients: Clients::default(),
            remote,
            peer: None,
            pairs: OpenPairs::new(),
            replacements: Replacements::new(),
            webhooks,
            static_rtc,
            memory: MemoryBudget::new(Some(u64::MAX), &metrics),
            metrics,
            lookups: TaskTracker::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// The same, which admits newcomers and messages only as long as `memory` does.
    pub(crate) fn within(self, memory: MemoryBudget) -> Self {
        Self { memory, ..self }
    }

    /// The same, whose nodes also reach the peers that `peer` reaches.
    pub(crate) fn bridged(self, peer: Peer) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// Stops admissions, and closes the connections of all nodes, which releases their IDs; the
    /// nodes reconnect elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for link in self.connections.links() {
            link.close(CloseReason::Draining);
        }
    }

    /// Whether there may be other replicas, which share this one's Redis.
    pub(crate) fn is_replica(&self) -> bool {
        self.remote.is_some()
    }

    /// Returns what keeps Redis from giving out IDs, if anything does.
    pub(crate) fn redis_problem(&self) -> Option<RedisProblem> {
        if let Some(refusal) = self.directory.refusal() {
            return Some(RedisProblem::Refuses(refusal));
        }
        (!self.directory.is_ready()).then_some(RedisProblem::Unavailable)
    }

    /// Whether there is memory for newcomers.
    pub(crate) fn has_memory(&self) -> bool {
        self.memory.admits_newcomers()
    }

    /// Returns the webhooks that are set, and whether they are called at present.
    pub(crate) fn webhooks(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.webhooks.states()
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

    /// Whether the broker is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
