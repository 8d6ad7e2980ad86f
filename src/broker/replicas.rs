//! What other replicas ask of this one: to hand over a message, and whether a connection whose
//! ID somebody wants is alive.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis_session::Message;
use tokio::sync::mpsc;

use super::Broker;
use crate::delivery::{Contest, Delivered, RemoteMessage, Verdict};
use crate::directory::LostLease;
use crate::link::CloseReason;
use crate::node::{NodeId, Owner};
use crate::telemetry::CONNECTIONS;

/// How many contests may be judged at a time. Newcomers whose contest finds no place come again.
const MAX_CONTESTS: usize = 1024;

impl Broker {
    /// Serves what other replicas send. Ends when nothing more can come.
    pub async fn serve_replicas(self: Arc<Self>, mut frames: mpsc::Receiver<Message>) {
        let Some(remote) = &self.remote else { return };
        let mut judging = FuturesUnordered::new();
        loop {
            let frame = tokio::select! {
                frame = frames.recv() => frame,
                Some((contest, verdict)) = judging.next(), if !judging.is_empty() => {
                    remote.rule(&contest, verdict);
                    continue;
                }
            };
            let Some(frame) = frame else { return };
            let mut contests = Vec::new();
            remote.receive(&frame, |message| self.take(message), |contest| contests.push(contest));
            for contest in contests {
                if judging.len() < MAX_CONTESTS {
                    judging.push(self.judge_for(contest));
                } else {
                    remote.rule(&contest, Verdict::Busy);
                }
            }
        }
    }

    /// Ends the connections whose lease was lost: the ID has another owner, or nobody knows for
    /// too long. Ends when nothing more can be lost.
    pub async fn evict_lost(self: Arc<Self>, mut lost: mpsc::Receiver<LostLease>) {
        while let Some(LostLease { node, connection }) = lost.recv().await {
            if let Some(link) = self.connections.link(&node, connection) {
                tracing::info!(target: CONNECTIONS, ?node, %connection, "lease lost");
                link.kill(CloseReason::LeaseLost);
            }
        }
    }

    /// Hands a message from another replica to its receiver.
    fn take(&self, message: RemoteMessage<'_>) -> Delivered {
        let RemoteMessage { to, connection, event, argument, opener } = message;
        let owner = Owner { replica: self.replica, connection };
        let Some(receiver) = self.connections.receiver_on(to, connection) else {
            if NodeId::parse(to).is_ok_and(|node| self.directory.is_claimed(&node, owner)) {
                return Delivered::Passing;
            }
            self.directory.heal(to, owner);
            return Delivered::NotConnected;
        };
        let delivered = receiver.deliver(event.name(), argument);
        if delivered == Delivered::Yes
            && self.webhooks.authorization.is_some()
            && let Some(opener) = opener
            && let Some((node, _)) = self.connections.node(to)
        {
            self.pairs.open((&node, owner), opener);
        }
        delivered
    }

    async fn judge_for(&self, contest: Contest) -> (Contest, Verdict) {
        let owner = Owner { replica: self.replica, connection: contest.connection };
        let verdict = self.judge(&contest.node, owner, contest.replaces).await;
        (contest, verdict)
    }
}
