//! What the broker does, without any transport: who may come in, where a message goes, who is
//! there.
//!
//! - `admission`: a node comes and gets its ID, or learns why not.
//! - `relay`: a message goes from one node to another.
//! - `presence`: a node asks which others are connected.
//! - `pairs`: which nodes an authorized attempt has opened to each other.
//! - `rtc`: the RTC configuration that a node is given.
//! - `upkeep`: what is done from time to time.

mod admission;
mod pairs;
mod presence;
mod relay;
mod rtc;
mod upkeep;

pub use admission::{Admission, AdmissionError, DuplicateIdPolicy};
pub use relay::{Pending, Permission, Relayed, Turn};
pub use rtc::{OwnRtc, RtcFallback, TurnServers};

use std::sync::atomic::{AtomicBool, Ordering};

use crate::delivery::{Delivery, LocalConnections, Receiver};
use crate::directory::Directory;
use crate::link::CloseReason;
use crate::metrics::Metrics;
use crate::node::ReplicaId;
use crate::protocol::{AUTHENTICATED, RtcConfiguration};
use crate::webhooks::Webhooks;
use pairs::OpenPairs;

/// What an operator decides about the broker.
#[derive(Debug, Clone, Copy)]
pub struct BrokerSettings {
    /// Whether the signaling events pass.
    pub signaling_enabled: bool,
    /// Whether messages are relayed.
    pub relay_enabled: bool,
    /// The most IDs in one presence question.
    pub max_presence_ids: usize,
    /// What becomes of a newcomer whose ID is held.
    pub duplicate_id_policy: DuplicateIdPolicy,
    /// What a node gets where the RTC webhook gives no answer.
    pub rtc_fallback: RtcFallback,
}

/// One replica's broker.
pub struct Broker {
    replica: ReplicaId,
    settings: BrokerSettings,
    directory: Directory,
    connections: LocalConnections,
    delivery: Delivery,
    pairs: OpenPairs,
    webhooks: Webhooks,
    own_rtc: OwnRtc,
    metrics: Metrics,
    draining: AtomicBool,
}

impl Broker {
    /// A broker without nodes.
    pub fn new(
        settings: BrokerSettings,
        directory: Directory,
        webhooks: Webhooks,
        own_rtc: OwnRtc,
        metrics: Metrics,
    ) -> Self {
        let connections = LocalConnections::new();
        Self {
            replica: ReplicaId::random(),
            settings,
            directory,
            delivery: Delivery::new(connections.clone()),
            connections,
            pairs: OpenPairs::new(),
            webhooks,
            own_rtc,
            metrics,
            draining: AtomicBool::new(false),
        }
    }

    /// Tells an admitted node that it is connected and lets others reach it. Returns whether its
    /// connection was still there.
    pub fn connect(
        &self,
        admission: &Admission,
        receiver: Receiver,
        rtc: &RtcConfiguration,
    ) -> bool {
        let Admission { node, owner, .. } = admission;
        self.connections.connect(node, owner.connection, receiver, |receiver| {
            receiver.deliver(AUTHENTICATED, rtc.as_argument())
        })
    }

    /// Admits nobody from here on, gives every ID back, and closes the connections of those who
    /// had one, so that they come back elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for link in self.connections.links() {
            link.close(CloseReason::Draining);
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
