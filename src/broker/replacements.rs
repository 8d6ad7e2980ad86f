//! How often an ID was recently taken from one live connection by another (`DUPLICATE_ID_POLICY`).
//!
//! Two programs with the same ID that both reconnect would replace each other for ever: official
//! nodes reconnect even after Socket.IO's disconnect packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::node::NodeId;

/// How often in a row an ID may be replaced. From then on a live holder keeps it.
const MAX_REPLACEMENTS: u32 = 5;

/// The pause after which replacements are no longer in a row.
const PAUSE: Duration = Duration::from_secs(30);

/// The most IDs that are counted; of more, those that were replaced longest ago are forgotten.
const MAX_IDS: u64 = 10_000;

/// The counts by ID.
pub(super) struct Replacements(Cache<NodeId, Arc<AtomicU32>>);

impl Replacements {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_IDS).time_to_idle(PAUSE).build())
    }

    /// Whether `node` was replaced so often that a live holder keeps it. Each call counts as no pause.
    pub(super) fn are_in_a_row(&self, node: &NodeId) -> bool {
        self.0.get(node).is_some_and(|count| count.load(Ordering::Relaxed) >= MAX_REPLACEMENTS)
    }

    /// Counts a replacement of the holder of `node`.
    pub(super) fn record(&self, node: &NodeId) {
        self.0.get_with_by_ref(node, Arc::default).fetch_add(1, Ordering::Relaxed);
    }
}
