//! What the broker does, without any transport: who may come in, where a message goes, who is
//! there.
//!
//! - `admission`: a node comes and gets its ID, or learns why not.
//! - `relay`: a message goes from one node to another.
//! - `presence`: a node asks which others are connected.

mod admission;
mod presence;
mod relay;

pub use admission::{Admission, AdmissionError, DuplicateIdPolicy};

use std::sync::atomic::{AtomicBool, Ordering};

use crate::delivery::{Delivery, LocalConnections, Receiver};
use crate::directory::Directory;
use crate::link::CloseReason;
use crate::metrics::Metrics;
use crate::node::ReplicaId;
use crate::protocol::{AUTHENTICATED, RtcConfiguration};

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
}

/// One replica's broker.
pub struct Broker {
    replica: ReplicaId,
    settings: BrokerSettings,
    directory: Directory,
    connections: LocalConnections,
    delivery: Delivery,
    rtc_configuration: RtcConfiguration,
    metrics: Metrics,
    draining: AtomicBool,
}

impl Broker {
    /// A broker without nodes.
    pub fn new(settings: BrokerSettings, directory: Directory, metrics: Metrics) -> Self {
        let connections = LocalConnections::new();
        Self {
            replica: ReplicaId::random(),
            settings,
            directory,
            delivery: Delivery::new(connections.clone()),
            connections,
            rtc_configuration: RtcConfiguration::public_stun(),
            metrics,
            draining: AtomicBool::new(false),
        }
    }

    /// Tells an admitted node that it is connected and lets others reach it. Returns whether its
    /// connection was still there.
    pub fn connect(&self, admission: &Admission, receiver: Receiver) -> bool {
        let Admission { node, connection, .. } = admission;
        self.connections.connect(node, *connection, receiver, |receiver| {
            receiver.deliver(AUTHENTICATED, self.rtc_configuration.as_argument())
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
