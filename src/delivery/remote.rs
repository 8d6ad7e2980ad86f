//! The way to connections on other replicas.
//!
//! A message for a node elsewhere goes to the replica that owns the node's ID, on that replica's
//! own channel in Redis, and the answer comes back on this one's. What has no answer in time is
//! of unknown outcome, and is never sent again: so nothing is delivered twice.
//!
//! - `frame`: the bytes.
//! - `outbox`: what waits to be sent, one frame for each replica.
//! - `pending`: who waits for an answer.
//! - `silence`: replicas that do not answer.

mod frame;
mod outbox;
mod pending;
mod silence;

pub use frame::{RemoteMessage, Verdict};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis_session::Redis;
use tokio::sync::{mpsc, oneshot};

use super::Delivered;
use crate::metrics::Metrics;
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use frame::{Entry, FrameError, Outcome};
use outbox::{Outbox, Undelivered};
use pending::Pending;
use silence::Silence;

/// How long the answer to a message may take.
const MESSAGE_PATIENCE: Duration = Duration::from_millis(900);

/// How long the answer to a contest may take: the other replica waits 2 s for its connection.
const CONTEST_PATIENCE: Duration = Duration::from_millis(2_500);

/// How long is remembered that a replica is silent to which nobody sends anything.
const SILENCE_MEMORY: Duration = Duration::from_secs(60);

/// How often is looked for what has no answer in time.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// The ID of the first contest: far from those of messages, so that an answer which fits both
/// kinds of requests finds the right one.
const FIRST_CONTEST: u64 = 1 << 63;

/// The most replicas whose last frame is remembered. It only takes garbage to exceed it.
const MAX_SENDERS: usize = 4096;

/// The way to other replicas; a cheap handle.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

struct Shared {
    outbox: Outbox,
    messages: Pending<(ReplicaId, ReplyTo)>,
    silence: Silence,
    contests: Pending<oneshot::Sender<Verdict>>,
    /// The number of the last frame of each sender. A lower one comes twice, or too late.
    last_frames: Mutex<HashMap<ReplicaId, u64>>,
    metrics: Metrics,
}

/// Where the answer to a message goes.
#[derive(Debug, Clone)]
pub struct ReplyTo {
    /// Whoever sent it. It has a place for each message
    /// that may be without an answer.
    pub sender: mpsc::Sender<(u64, Delivered)>,
    /// The sender's number for it.
    pub ticket: u64,
}

impl ReplyTo {
    fn send(self, delivered: Delivered) {
        // A sender that has left does not care.
        let _ = self.sender.try_send((self.ticket, delivered));
    }
}

/// A question of another replica whether a connection is alive.
#[derive(Debug)]
pub struct Contest {
    asker: ReplicaId,
    id: u64,
    /// The ID that a newcomer wants.
    pub node: NodeId,
    /// The connection that has it.
    pub connection: ConnectionId,
    /// Whether the newcomer gets it even if the connection is alive.
    pub replaces: bool,
}

impl Remote {
    /// The way from `replica` to others.
    pub fn new(redis: Redis, replica: ReplicaId, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            outbox: Outbox::new(redis, replica, metrics.clone()),
            messages: Pending::new(0),
            silence: Silence::new(),
            contests: Pending::new(FIRST_CONTEST),
            last_frames: Mutex::default(),
            metrics,
        }))
    }

    /// Sends a message to the replica `replica`. The answer goes to `reply_to`, whatever happens.
    pub fn send(&self, replica: ReplicaId, message: &RemoteMessage<'_>, reply_to: ReplyTo) {
        if !self.0.silence.permits(replica, MESSAGE_PATIENCE) {
            self.0.metrics.replica_messages("replica_silent", 1);
            return reply_to.send(Delivered::Unknown);
        }
        let id = match self.0.messages.insert((replica, reply_to)) {
            Ok(id) => id,
            Err((_, reply_to)) => {
                self.0.metrics.replica_messages("too_many_pending", 1);
                return reply_to.send(Delivered::Unknown);
            }
        };
        let write = |frame: &mut Vec<u8>| frame::write_deliver(frame, id, message);
        if !self.0.outbox.add(replica, Some(id), write) {
            self.settle(id, Delivered::Unknown);
        }
    }

    /// Asks the holder's replica whether the connection is alive; `None` if it does not say.
    /// A connection that is not alive is ended there, and with `replaces` a living one too.
    pub async fn contest(&self, node: &NodeId, holder: Owner, replaces: bool) -> Option<Verdict> {
        let (sender, verdict) = oneshot::channel();
        let id = self.0.contests.insert(sender).ok()?;
        let is_sent = self.0.outbox.add(holder.replica, Some(id), |frame| {
            frame::write_contest(frame, id, node, holder.connection, replaces);
        });
        if !is_sent {
            drop(self.0.contests.take(id));
        }
        verdict.await.ok()
    }

    /// Takes what has come from another replica. Messages go to `deliver`, which says what
    /// became of them; contests to `judge`, whose verdict comes later.
    pub fn receive(
        &self,
        frame: &[u8],
        mut deliver: impl FnMut(RemoteMessage<'_>) -> Delivered,
        mut judge: impl FnMut(Contest),
    ) {
        let (header, entries) = match frame::read(frame) {
            Ok(read) => read,
            Err(error) => return self.drop_frame(error),
        };
        let sender = header.sender;
        if !self.is_next(sender, header.sequence) {
            return self.0.metrics.replica_messages("dropped_repeated", 1);
        }
        self.0.silence.end(sender);
        let mut received = 0;
        for entry in entries {
            received += 1;
            match entry {
                Ok(Entry::Deliver { id, message }) => {
                    let outcome = match deliver(message) {
                        Delivered::Yes => Outcome::Delivered,
                        Delivered::QueueFull => Outcome::QueueFull,
                        Delivered::Passing => Outcome::Passing,
                        _ => Outcome::NotHere,
                    };
                    self.answer(sender, |frame| frame::write_delivered(frame, id, outcome));
                }
                Ok(Entry::Contest { id, node, connection, replaces }) => {
                    judge(Contest { asker: sender, id, node, connection, replaces });
                }
                Ok(Entry::Delivered { id, outcome }) => self.settle(
                    id,
                    match outcome {
                        Outcome::Delivered => Delivered::Yes,
                        Outcome::NotHere => Delivered::NotConnected,
                        Outcome::QueueFull => Delivered::QueueFull,
                        Outcome::Passing => Delivered::Passing,
                    },
                ),
                Ok(Entry::Contested { id, verdict }) => {
                    self.0.contests.take(id).map(|waiter| waiter.send(verdict));
                }
                Ok(Entry::Unknown { id }) => {
                    self.settle(id, Delivered::Unknown);
                    drop(self.0.contests.take(id));
                }
                Ok(Entry::UnknownRequest { id }) => {
                    self.0.metrics.replica_messages("unknown_kind", 1);
                    self.answer(sender, |frame| frame::write_unknown(frame, id));
                }
                Ok(Entry::UnknownAnswer) => self.0.metrics.replica_messages("unknown_kind", 1),
                Err(error) => self.drop_frame(error),
            }
        }
        self.0.metrics.replica_messages("received", received);
    }

    /// Answers a contest.
    pub fn rule(&self, contest: &Contest, verdict: Verdict) {
        self.answer(contest.asker, |frame| frame::write_contested(frame, contest.id, verdict));
    }

    /// Sends what is to be sent, and gives up what has no answer in time. Never ends.
    pub async fn run(self) {
        tokio::join!(self.send_letters(), self.sweep());
    }

    async fn send_letters(&self) {
        let failed = |id, undelivered| {
            // A contest without a verdict is one that the other replica did not give.
            drop(self.0.contests.take(id));
            let delivered = match undelivered {
                Undelivered::NobodyListens => Delivered::Unreachable,
                Undelivered::NotSent | Undelivered::Unknown => Delivered::Unknown,
            };
            self.settle(id, delivered);
        };
        self.0.outbox.run(failed).await;
    }

    async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            for (replica, reply_to) in self.0.messages.expired(MESSAGE_PATIENCE) {
                self.0.metrics.replica_messages("unanswered", 1);
                self.0.silence.begin(replica);
                reply_to.send(Delivered::Unknown);
            }
            self.0.silence.forget(SILENCE_MEMORY);
            // Dropped senders say that there is no verdict.
            drop(self.0.contests.expired(CONTEST_PATIENCE));
        }
    }

    fn settle(&self, id: u64, delivered: Delivered) {
        if let Some((_, reply_to)) = self.0.messages.take(id) {
            reply_to.send(delivered);
        }
    }

    fn answer(&self, replica: ReplicaId, write: impl FnOnce(&mut Vec<u8>)) {
        // Without an answer the other side gives up by itself.
        self.0.outbox.add(replica, None, write);
    }

    /// Whether this frame comes after the last one of its sender.
    fn is_next(&self, sender: ReplicaId, sequence: u64) -> bool {
        let mut last_frames = self.0.last_frames.lock().unwrap_or_else(PoisonError::into_inner);
        if last_frames.len() >= MAX_SENDERS && !last_frames.contains_key(&sender) {
            last_frames.clear();
        }
        let last = last_frames.entry(sender).or_insert(0);
        let is_next = sequence > *last;
        if is_next {
            *last = sequence;
        }
        is_next
    }

    fn drop_frame(&self, error: FrameError) {
        let label = match error {
            FrameError::Version => "dropped_version",
            FrameError::Malformed => "dropped_malformed",
        };
        self.0.metrics.replica_messages(label, 1);
    }
}
