//! Periodic tasks.

use std::time::Duration;

use super::Broker;
use crate::node::{ConnectionId, NodeId};
use crate::telemetry::CONNECTIONS;
use link::CloseReason;

/// By how much an interval may be longer or shorter, in percent, so that replicas do not all ask
/// at once.
const JITTER_PERCENT: u32 = 10;

impl Broker {
    /// Checks about every `interval` which nodes may stay. Never ends.
    pub(crate) async fn check_validity_every(&self, interval: Duration) {
        loop {
            let percent = rand::random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT);
            tokio::time::sleep(interval * percent / 100).await;
            self.check_validity().await;
        }
    }

    async fn check_validity(&self) {
        let Some(validity) = &self.webhooks.validity else { return };
        for batch in self.connections.connected().chunks(validity.batch_size()) {
            // Without an answer the round is skipped; the hook reports its failures itself.
            let Ok(invalid) = validity.ask(batch.iter().map(|(node, _)| node)).await else {
                return;
            };
            for (node, connection) in
                batch.iter().filter(|(node, _)| invalid.contains(node.as_str()))
            {
                self.disconnect_invalid(node, *connection);
            }
        }
    }

    /// Disconnects a node, unless it has reconnected since the webhook was called.
    fn disconnect_invalid(&self, node: &NodeId, connection: ConnectionId) {
        if let Some((owner, handle)) = self.connections.connection(node.as_str())
            && owner.connection == connection
        {
            handle.disconnect(CloseReason::Kicked);
            tracing::info!(target: CONNECTIONS, ?node, %connection, "node is no longer valid");
        }
    }
}
