//! What waits to be sent to other replicas, gathered into one frame for each.
//!
//! While a round of frames is on its way the next one gathers: the busier it is, the more goes in
//! one frame. A replica's next frame leaves only after its last one was answered by Redis, so
//! their order is kept whatever way they take.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use redis_session::{Redis, RedisFailure};
use tokio::sync::Notify;

use super::frame::{HEADER_BYTES, Header, write_header};
use crate::metrics::Metrics;
use crate::node::ReplicaId;

/// From this size on a frame takes no further entry; the next begins.
const FRAME_BYTES: usize = 256 * 1024;

/// The most bytes that may wait for one replica.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// The outbox of a replica.
pub(super) struct Outbox {
    redis: Redis,
    sender: ReplicaId,
    waiting: Mutex<HashMap<ReplicaId, Vec<Letter>>>,
    filled: Notify,
    metrics: Metrics,
}

/// A frame that is being written.
struct Letter {
    frame: Vec<u8>,
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
            self.metrics.replica_messages("redis_away", 1);
            return false;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let letters = waiting.entry(replica).or_default();
        if letters.len() > MAX_WAITING_BYTES / FRAME_BYTES {
            drop(waiting);
            self.metrics.replica_messages("outbox_full", 1);
            return false;
        }
        if letters.last().is_none_or(|letter| letter.frame.len() >= FRAME_BYTES) {
            letters.push(Letter {
                // The header is filled in when the frame leaves.
                frame: vec![0; HEADER_BYTES],
                entries: 0,
                requests: Vec::new(),
            });
        }
        if let Some(letter) = letters.last_mut() {
            write(&mut letter.frame);
            letter.entries += 1;
            letter.requests.extend(request);
        }
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Sends what is added, round by round. `failed` is told of each request that was not sent, or
    /// perhaps not. Never ends.
    pub(super) async fn run(&self, failed: impl Fn(u64, Undelivered)) {
        let mut sequence = 0;
        loop {
            self.filled.notified().await;
            // Woken by the first entry. Whatever else is ready now gets to add its own: with 100
            // pairs, one message each on the way, 15 go in a frame instead of 12.
            tokio::task::yield_now().await;
            let waiting = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            let rounds = waiting.into_iter().map(|(replica, letters)| {
                let first = sequence + 1;
                sequence += letters.len() as u64;
                self.send(replica, first, letters, &failed)
            });
            join_all(rounds).await;
        }
    }

    /// Sends one replica's frames one after the other.
    async fn send(
        &self,
        replica: ReplicaId,
        first: u64,
        letters: Vec<Letter>,
        failed: &impl Fn(u64, Undelivered),
    ) {
        let channel = replica.to_string();
        for (sequence, mut letter) in (first..).zip(letters) {
            let mut header = Vec::with_capacity(HEADER_BYTES);
            write_header(&mut header, Header { sender: self.sender, sequence });
            letter.frame[..HEADER_BYTES].copy_from_slice(&header);
            let undelivered = match self.redis.publish(&channel, letter.frame).await {
                Ok(0) => Undelivered::NobodyListens,
                Ok(_) => {
                    self.metrics.replica_messages("sent", letter.entries);
                    continue;
                }
                Err(RedisFailure::Unanswered) => Undelivered::Unknown,
                Err(RedisFailure::Unavailable | RedisFailure::Refused(_)) => Undelivered::NotSent,
            };
            self.metrics.replica_messages(undelivered.label(), letter.entries);
            letter.requests.into_iter().for_each(|request| failed(request, undelivered));
        }
    }
}

/// Why a frame did not reach its replica, or perhaps not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// The replica does not listen: it is gone, or connecting anew.
    NobodyListens,
    /// Redis did not get it.
    NotSent,
    /// Nobody knows.
    Unknown,
}

impl Undelivered {
    fn label(self) -> &'static str {
        match self {
            Self::NobodyListens => "nobody_listens",
            Self::NotSent => "not_sent",
            Self::Unknown => "outcome_unknown",
        }
    }
}
