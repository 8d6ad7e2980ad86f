//! Messages to connections on other replicas.
//!
//! A message is published on the channel in Redis of the replica that owns the receiver's ID, and
//! its reply arrives on this replica's channel. A message without a reply in time has an unknown
//! outcome and is never sent again, so nothing is delivered twice.
//!
//! - `batch`: the format.
//! - `outbox`: queued messages, one batch for each replica.
//! - `pending`: messages that await a reply.
//! - `breakers`: replicas that do not reply.

mod batch;
mod breakers;
mod outbox;
mod pending;

pub(crate) use batch::{HolderStatus, Newcomer, RemoteMessage, is_batch};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis_session::Redis;
use tokio::sync::oneshot;

use super::Outcome;
use crate::metrics::Metrics;
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use batch::{BatchError, Entry};
use breakers::Breakers;
use outbox::Outbox;
use pending::Pending;

/// How long the reply to a message may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(900);

/// How long the reply to a takeover probe may take: the other replica waits 2 s for its
/// connection.
const PROBE_TIMEOUT: Duration = Duration::from_millis(2_500);

/// The time between two searches for requests that have timed out.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// The ID of the first takeover probe: far from those of messages, so that a reply which fits both
/// kinds of requests finds the right one.
const FIRST_PROBE: u64 = 1 << 63;

/// How long the result of a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The ID of the first call, far from those of other requests.
const FIRST_CALL: u64 = 1 << 62;

/// The most replicas whose last batch is remembered. It only takes garbage to exceed it.
const MAX_SENDERS: usize = 4096;

/// The connection to other replicas; a cheap handle.
#[derive(Clone)]
pub(crate) struct Remote(Arc<Shared>);

struct Shared {
    outbox: Outbox,
    messages: Pending<(ReplicaId, ReplyTo)>,
    breakers: Breakers,
    probes: Pending<oneshot::Sender<HolderStatus>>,
    calls: Pending<oneshot::Sender<String>>,
    /// The number of the last batch of each sender. A batch with a lower one is a repetition, or
    /// late.
    last_batches: Mutex<HashMap<ReplicaId, u64>>,
    metrics: Metrics,
}

/// What the sender of a message knows it by: the lane that it is in, and its number.
pub(crate) type Ticket = (u64, u64);

/// A sender of messages that is notified of their outcome.
pub(crate) trait OnReply: Send + Sync {
    /// Takes the reply to the message with this ticket.
    fn on_reply(&self, ticket: Ticket, outcome: Outcome);
}

/// Where the reply to a message goes.
pub(crate) struct ReplyTo {
    /// The sender, if it is still there by then.
    pub sender: Weak<dyn OnReply>,
    /// What the sender knows it by.
    pub ticket: Ticket,
}

impl ReplyTo {
    fn send(self, outcome: Outcome) {
        if let Some(sender) = self.sender.upgrade() {
            sender.on_reply(self.ticket, outcome);
        }
    }
}

/// The question of another replica whether a connection is alive whose ID a newcomer wants.
#[derive(Debug)]
pub(crate) struct TakeoverProbe {
    asker: ReplicaId,
    id: u64,
    /// The ID that a newcomer wants.
    pub node: NodeId,
    /// The connection that has it.
    pub connection: ConnectionId,
    /// What the newcomer may do to it.
    pub newcomer: Newcomer,
}

/// A request of another replica for an operator, in the words of the broker.
#[derive(Debug)]
pub(crate) struct Call {
    asker: ReplicaId,
    id: u64,
    /// The request as JSON.
    pub request: String,
}

impl Remote {
    /// The connection from `replica` to others.
    pub(crate) fn new(redis: Redis, replica: ReplicaId, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            outbox: Outbox::new(redis, replica, metrics.clone()),
            messages: Pending::new(0),
            breakers: Breakers::default(),
            probes: Pending::new(FIRST_PROBE),
            calls: Pending::new(FIRST_CALL),
            last_batches: Mutex::default(),
            metrics,
        }))
    }

    /// Whether a replica has answered lately, or was not asked.
    pub(crate) fn is_responsive(&self, replica: ReplicaId) -> bool {
        !self.0.breakers.is_open(replica)
    }

    /// Sends a message to the replica `replica`. The reply goes to `reply_to`, never during this
    /// call.
    ///
    /// # Errors
    /// The outcome, if the message cannot be sent; then there is no reply.
    pub(crate) fn send(
        &self,
        replica: ReplicaId,
        message: &RemoteMessage<'_>,
        reply_to: ReplyTo,
    ) -> Result<(), Outcome> {
        if !self.0.breakers.allows(replica, Instant::now()) {
            self.0.metrics.replica_messages.inc(["replica_unresponsive"]);
            return Err(Outcome::Unknown);
        }
        let Ok(id) = self.0.messages.insert((replica, reply_to)) else {
            self.0.metrics.replica_messages.inc(["too_many_pending"]);
            return Err(Outcome::Unknown);
        };
        let write = |bytes: &mut Vec<u8>| batch::write_deliver(bytes, id, message);
        if self.0.outbox.add(replica, Some(id), write) {
            return Ok(());
        }
        drop(self.0.messages.take(id));
        Err(Outcome::Unknown)
    }

    /// Asks the holder's replica whether the connection is alive; `None` if it does not say.
    /// A connection that does not keep the ID is ended there.
    pub(crate) async fn probe(
        &self,
        node: &NodeId,
        holder: Owner,
        newcomer: Newcomer,
    ) -> Option<HolderStatus> {
        let (sender, status) = oneshot::channel();
        let id = self.0.probes.insert(sender).ok()?;
        let is_sent = self.0.outbox.add(holder.replica, Some(id), |bytes| {
            batch::write_probe(bytes, id, node, holder.connection, newcomer);
        });
        if !is_sent {
            drop(self.0.probes.take(id));
        }
        status.await.ok()
    }

    /// Sends a request to another replica; `None` if there is no result in time.
    pub(crate) async fn call(&self, replica: ReplicaId, request: &str) -> Option<String> {
        let (sender, result) = oneshot::channel();
        let id = self.0.calls.insert(sender).ok()?;
        let write = |bytes: &mut Vec<u8>| batch::write_call(bytes, id, request);
        if !self.0.outbox.add(replica, Some(id), write) {
            drop(self.0.calls.take(id));
        }
        result.await.ok()
    }

    /// Handles a batch from another replica. Messages go to `deliver`, which returns their outcome;
    /// takeover probes and calls go to `probe` and `call`, whose results follow later.
    pub(crate) fn receive(
        &self,
        bytes: &[u8],
        mut deliver: impl FnMut(RemoteMessage<'_>) -> Outcome,
        mut probe: impl FnMut(TakeoverProbe),
        mut call: impl FnMut(Call),
    ) {
        let (header, entries) = match batch::read(bytes) {
            Ok(read) => read,
            Err(error) => return self.drop_batch(error),
        };
        let sender = header.sender;
        if !self.is_next(sender, header.sequence) {
            return self.0.metrics.replica_messages.inc(["dropped_repeated"]);
        }
        self.0.breakers.succeeded(sender);
        let mut received = 0;
        for entry in entries {
            received += 1;
            match entry {
                Ok(Entry::Deliver { id, message }) => {
                    let outcome = deliver(message);
                    self.reply(sender, |bytes| batch::write_delivered(bytes, id, outcome));
                }
                Ok(Entry::Probe { id, node, connection, newcomer }) => {
                    probe(TakeoverProbe { asker: sender, id, node, connection, newcomer });
                }
                Ok(Entry::Delivered { id, outcome }) => self.settle(id, outcome),
                Ok(Entry::Status { id, status }) => {
                    self.0.probes.take(id).map(|waiter| waiter.send(status));
                }
                Ok(Entry::Call { id, request }) => {
                    call(Call { asker: sender, id, request: request.to_owned() });
                }
                Ok(Entry::Result { id, result }) => {
                    self.0.calls.take(id).map(|waiter| waiter.send(result.to_owned()));
                }
                Ok(Entry::Unknown { id }) => self.fail(id, Outcome::Unknown),
                Ok(Entry::UnknownRequest { id }) => {
                    self.0.metrics.replica_messages.inc(["unknown_kind"]);
                    self.reply(sender, |bytes| batch::write_unknown(bytes, id));
                }
                Ok(Entry::UnknownAnswer) => self.0.metrics.replica_messages.inc(["unknown_kind"]),
                Err(error) => self.drop_batch(error),
            }
        }
        self.0.metrics.replica_messages.inc_by(["received"], received);
    }

    /// Replies to a takeover probe.
    pub(crate) fn reply_to_probe(&self, probe: &TakeoverProbe, status: HolderStatus) {
        self.reply(probe.asker, |bytes| batch::write_status(bytes, probe.id, status));
    }

    /// Replies to a call.
    pub(crate) fn reply_to_call(&self, call: &Call, result: &str) {
        self.reply(call.asker, |bytes| batch::write_result(bytes, call.id, result));
    }

    /// Sends the queued batches, and times out pending requests. Never ends.
    pub(crate) async fn run(self) {
        tokio::join!(self.send_batches(), self.sweep());
    }

    async fn send_batches(&self) {
        self.0.outbox.run(|id, outcome| self.fail(id, outcome)).await;
    }

    /// Ends the wait for a request that has no reply.
    fn fail(&self, id: u64, outcome: Outcome) {
        // The sender of a probe or a call learns it when its waiter is dropped.
        drop(self.0.probes.take(id));
        drop(self.0.calls.take(id));
        self.settle(id, outcome);
    }

    async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            for (replica, reply_to) in self.0.messages.expired(MESSAGE_TIMEOUT) {
                self.0.metrics.replica_messages.inc(["unanswered"]);
                self.0.breakers.failed(replica, now);
                reply_to.send(Outcome::Unknown);
            }
            self.0.breakers.forget_unused(now);
            drop(self.0.probes.expired(PROBE_TIMEOUT));
            drop(self.0.calls.expired(CALL_TIMEOUT));
        }
    }

    fn settle(&self, id: u64, outcome: Outcome) {
        if let Some((_, reply_to)) = self.0.messages.take(id) {
            reply_to.send(outcome);
        }
    }

    fn reply(&self, replica: ReplicaId, write: impl FnOnce(&mut Vec<u8>)) {
        // Without a reply the request times out on the other side.
        self.0.outbox.add(replica, None, write);
    }

    /// Whether this batch is newer than the last one of its sender.
    fn is_next(&self, sender: ReplicaId, sequence: u64) -> bool {
        let mut last_batches = self.0.last_batches.lock().unwrap_or_else(PoisonError::into_inner);
        if last_batches.len() >= MAX_SENDERS && !last_batches.contains_key(&sender) {
            last_batches.clear();
        }
        let last = last_batches.entry(sender).or_insert(0);
        let is_next = sequence > *last;
        if is_next {
            *last = sequence;
        }
        is_next
    }

    fn drop_batch(&self, error: BatchError) {
        let label = match error {
            BatchError::Version => "dropped_version",
            BatchError::Malformed => "dropped_malformed",
        };
        self.0.metrics.replica_messages.inc([label]);
    }
}
