//! Requests of other replicas: to hand over a message, to check whether the connection that holds an
//! ID is alive, and what operators ask (`calls`).

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis_session::Message;
use tokio::sync::mpsc;

use super::Broker;
use crate::delivery::{Call, HolderStatus, Outcome, RemoteMessage, TakeoverProbe};
use crate::directory::LostLease;
use crate::node::{NodeId, Owner};
use crate::telemetry::CONNECTIONS;
use link::CloseReason;

/// The most takeover probes at a time. Beyond that, new connections are rejected and retry.
const MAX_PROBES: usize = 1024;

impl Broker {
    /// Serves messages of other replicas. Ends when their channel is closed.
    pub(crate) async fn serve_replicas(self: Arc<Self>, mut frames: mpsc::Receiver<Message>) {
        let Some(remote) = &self.remote else { return };
        let mut probing = FuturesUnordered::new();
        loop {
            let frame = tokio::select! {
                frame = frames.recv() => frame,
                Some((probe, status)) = probing.next(), if !probing.is_empty() => {
                    remote.reply_to_probe(&probe, status);
                    continue;
                }
            };
            let Some(frame) = frame else { return };
            let mut probes = Vec::new();
            remote.receive(
                &frame,
                |message| self.take(message),
                |probe| probes.push(probe),
                |call| self.answer_call(call),
            );
            for probe in probes {
                if probing.len() < MAX_PROBES {
                    probing.push(self.probe_for(probe));
                } else {
                    remote.reply_to_probe(&probe, HolderStatus::Busy);
                }
            }
        }
    }

    /// Closes the connections whose lease was lost: the ID has another owner, or its ownership was
    /// uncertain for too long. Ends when the channel of lost leases is closed.
    pub(crate) async fn evict_lost(self: Arc<Self>, mut lost: mpsc::Receiver<LostLease>) {
        while let Some(LostLease { node, connection }) = lost.recv().await {
            if let Some(link) = self.connections.link(&node, connection) {
                tracing::info!(target: CONNECTIONS, ?node, %connection, "lease lost");
                link.kill(CloseReason::LeaseLost);
            }
        }
    }

    /// Hands a message from another replica to its receiver.
    fn take(&self, message: RemoteMessage<'_>) -> Outcome {
        let RemoteMessage { to, connection, event, argument, opener } = message;
        let owner = Owner { replica: self.replica, connection };
        let found = self.connections.connection(to).filter(|(found, _)| *found == owner);
        let Some((_, receiver)) = found else {
            if NodeId::parse(to).is_ok_and(|node| self.directory.is_claimed(&node, owner)) {
                return Outcome::InTransition;
            }
            self.directory.release_stale(to, owner);
            return Outcome::NotHere;
        };
        let outcome = receiver.send_event(event.name(), argument);
        if outcome == Outcome::Delivered
            && self.opens_pairs()
            && let Some(opener) = opener
            && let Some((node, _)) = self.connections.node(to)
        {
            self.pairs.open((&node, owner), opener);
        }
        outcome
    }

    /// Does what another replica asks for an operator, beside the messages of nodes. Calls beyond
    /// the limit are not answered, which their sender reports.
    fn answer_call(self: &Arc<Self>, call: Call) {
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            return self.metrics.replica_messages.inc(["too_many_calls"]);
        };
        let broker = self.clone();
        self.lookups.spawn(async move {
            let _permit = permit;
            if let (Some(remote), Some(result)) =
                (&broker.remote, broker.perform(&call.request).await)
            {
                remote.reply_to_call(&call, &result);
            }
        });
    }

    async fn probe_for(&self, probe: TakeoverProbe) -> (TakeoverProbe, HolderStatus) {
        let owner = Owner { replica: self.replica, connection: probe.connection };
        let status = self.check_liveness(&probe.node, owner, probe.newcomer).await;
        (probe, status)
    }
}
