//! Messages queued for other replicas, in one batch for each.
//!
//! While one round of batches is in flight, the next one fills: batches grow with the load. The
//! next batch to a replica is sent only after Redis has replied to the last one, which keeps their
//! order.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use redis_session::{Redis, RedisFailure};
use tokio::sync::Notify;

use super::batch::{HEADER_BYTES, Header, write_header};
use crate::delivery::Outcome;
use crate::metrics::Metrics;
use crate::node::ReplicaId;

/// From this size on a batch takes no further entry; the next begins.
const BATCH_BYTES: usize = 256 * 1024;

/// The most bytes that may wait for one replica.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// The outbox of a replica.
pub(super) struct Outbox {
    redis: Redis,
    sender: ReplicaId,
    waiting: Mutex<HashMap<ReplicaId, Vec<Batch>>>,
    filled: Notify,
    metrics: Metrics,
}

/// A batch that is being written.
struct Batch {
    bytes: Vec<u8>,
    entries: u64,
    /// The requests in it, whose senders wait for an answer.
    requests: Vec<u64>,
}

impl Outbox {
    pub(super) fn new(redis: Redis, sender: ReplicaId, metrics: Metrics) -> Self {
        Self { redis, sender, waiting: Mutex::default(), filled: Notify::new(), metrics }
    }

    /// Adds an entry for `replica`; with its ID if it is a request. Returns whether it will be
    /// sent.
    pub(super) fn add(
        &self,
        replica: ReplicaId,
        request: Option<u64>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if !self.redis.is_connected() {
            self.metrics.replica_messages.inc(["redis_unavailable"]);
            return false;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = waiting.entry(replica).or_default();
        if batches.len() > MAX_WAITING_BYTES / BATCH_BYTES {
            drop(waiting);
            self.metrics.replica_messages.inc(["outbox_full"]);
            return false;
        }
        if batches.last().is_none_or(|batch| batch.bytes.len() >= BATCH_BYTES) {
            batches.push(Batch {
                // The header is filled in when the batch leaves.
                bytes: vec![0; HEADER_BYTES],
                entries: 0,
                requests: Vec::new(),
            });
        }
        if let Some(batch) = batches.last_mut() {
            write(&mut batch.bytes);
            batch.entries += 1;
            batch.requests.extend(request);
        }
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Sends what is queued, round by round. Calls `failed` for each request that was not sent, or
    /// perhaps not. Never ends.
    pub(super) async fn run(&self, failed: impl Fn(u64, Outcome)) {
        let mut sequence = 0;
        loop {
            self.filled.notified().await;
            // Woken by the first entry. Whatever else is ready now gets to add its own: with 100
            // pairs, one message each on the way, 15 go in a batch instead of 12.
            tokio::task::yield_now().await;
            let waiting = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            let rounds = waiting.into_iter().map(|(replica, batches)| {
                let first = sequence + 1;
                sequence += batches.len() as u64;
                self.send(replica, first, batches, &failed)
            });
            join_all(rounds).await;
        }
    }

    /// Sends one replica's batches one after the other.
    async fn send(
        &self,
        replica: ReplicaId,
        first: u64,
        batches: Vec<Batch>,
        failed: &impl Fn(u64, Outcome),
    ) {
        let channel = replica.to_string();
        for (sequence, mut batch) in (first..).zip(batches) {
            let mut header = Vec::with_capacity(HEADER_BYTES);
            write_header(&mut header, Header { sender: self.sender, sequence });
            batch.bytes[..HEADER_BYTES].copy_from_slice(&header);
            let (label, outcome) = match self.redis.publish(&channel, batch.bytes).await {
                Ok(0) => ("nobody_listens", Outcome::Unreachable),
                Ok(_) => {
                    self.metrics.replica_messages.inc_by(["sent"], batch.entries);
                    continue;
                }
                Err(RedisFailure::Unanswered) => ("outcome_unknown", Outcome::Unknown),
                Err(RedisFailure::Unavailable | RedisFailure::Refused(_)) => {
                    ("not_sent", Outcome::Unknown)
                }
            };
            self.metrics.replica_messages.inc_by([label], batch.entries);
            batch.requests.into_iter().for_each(|request| failed(request, outcome));
        }
    }
}
