//! Drives a [`Pipeline`] of messages: resolves them, hands them over, and sends the acks.
//!
//! The pipeline's lock is held while a message is handed over, so that none overtakes it, and never
//! across an await. It comes first in the order of locks: delivery takes its own locks below it,
//! and calls back with a reply only when it holds none.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::Broker;
use super::authorize::{Passage, Permission, Sender};
use super::pipeline::{Action, Full, Pipeline};
use super::route::Route;
use crate::delivery::{Connection, OnReply, Outcome, ReplyTo, Ticket};
use crate::protocol::{Event, JsonStringBuf};

/// The dispatcher of one connection, or of all overlay peers.
pub(super) struct Dispatcher<G> {
    broker: Arc<Broker>,
    /// Where acks go. Overlay peers get none.
    connection: Option<Connection>,
    pipeline: Mutex<Messages<G>>,
    lanes: RandomState,
    this: Weak<Self>,
}

/// Messages in the order of each pair of sender and receiver. A pair's lane is a hash: two that
/// share one wait for each other, and nothing worse.
type Messages<G> = Pipeline<u64, Route, QueuedMessage<G>>;

/// A message that cannot be delivered at once.
pub(super) struct QueuedMessage<G> {
    pub(super) sender: Sender,
    pub(super) event: Event,
    pub(super) to: Arc<str>,
    pub(super) argument: JsonStringBuf,
    /// Whether it may pass, if that is known.
    pub(super) permission: Option<Permission>,
    pub(super) ack_id: Option<i64>,
    /// When it was read.
    pub(super) began: Instant,
    pub(super) resolving: Option<AbortOnDropHandle<()>>,
    #[expect(dead_code, reason = "held until the message is finished")]
    pub(super) guard: G,
}

impl<G> QueuedMessage<G> {
    fn passage(&self) -> Passage<'_> {
        Passage { sender: &self.sender, event: self.event, to: &self.to }
    }
}

impl<G: Send + 'static> Dispatcher<G> {
    pub(super) fn new(
        broker: Arc<Broker>,
        connection: Option<Connection>,
        max_in_flight: usize,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            broker,
            connection,
            pipeline: Mutex::new(Pipeline::new(max_in_flight)),
            lanes: RandomState::new(),
            this: this.clone(),
        })
    }

    /// Dispatches a message; at once if its permission and its route are known and no message of
    /// the same pair has to go first.
    ///
    /// # Errors
    /// [`Full`] if too many messages wait.
    pub(super) fn dispatch(
        &self,
        message: QueuedMessage<G>,
        route: Option<Route>,
    ) -> Result<(), Full> {
        let known = route.filter(|_| message.permission.is_some());
        let lane = self.lanes.hash_one((&message.sender.name, &message.to));
        let mut pipeline = self.lock();
        pipeline.push(lane, message, known)?;
        self.run(pipeline);
        Ok(())
    }

    /// Does what the pipeline says.
    fn run(&self, mut pipeline: MutexGuard<'_, Messages<G>>) {
        while let Some(action) = pipeline.next_action() {
            match action {
                Action::Resolve { ticket, tried } => {
                    let Some(message) = pipeline.message_mut(ticket) else { continue };
                    let task = tokio::spawn(self.resolve(ticket, message, tried));
                    message.resolving = Some(AbortOnDropHandle::new(task));
                }
                Action::HandOver { ticket, route } => {
                    let Some(message) = pipeline.message_mut(ticket) else { continue };
                    let (route, outcome) = self.hand_over(ticket, message, route);
                    pipeline.handed_over(ticket, route, outcome);
                }
                Action::Finish { message, outcome, route } => {
                    let waited = message.began.elapsed().as_secs_f64();
                    self.broker.metrics.message_wait_seconds.observe(waited);
                    self.broker.conclude(message.passage(), outcome, route.owner());
                    if let (Some(connection), Some(ack_id)) = (&self.connection, message.ack_id) {
                        connection.send_ack(ack_id, outcome.ack().as_json());
                    }
                }
            }
        }
    }

    /// Finds out where the receiver of a message is, and whether the message may pass.
    fn resolve(
        &self,
        ticket: Ticket,
        message: &QueuedMessage<G>,
        tried: Option<Route>,
    ) -> impl Future<Output = ()> + Send + use<G> {
        let (broker, this) = (self.broker.clone(), self.this.clone());
        let (sender, event, to) = (message.sender.clone(), message.event, message.to.clone());
        let known = message.permission;
        async move {
            let passage = Passage { sender: &sender, event, to: &to };
            let route = match &tried {
                None => broker.resolve(&to).await,
                Some(tried) => broker.resolve_again(&to, tried).await,
            };
            // What passed as part of a pair may not pass to another connection.
            let is_known = tried.is_none_or(|tried| tried == route || !event.follows_attempt());
            let permission = match known.filter(|_| is_known) {
                Some(known) => known,
                None => broker.permission(passage, &route).await,
            };
            if let Some(this) = this.upgrade() {
                this.resolved(ticket, permission, route);
            }
        }
    }

    fn resolved(&self, ticket: Ticket, permission: Permission, route: Route) {
        let Some(mut pipeline) = self.lock_open() else { return };
        if let Some(message) = pipeline.message_mut(ticket) {
            (message.permission, message.resolving) = (Some(permission), None);
        }
        pipeline.resolved(ticket, route);
        self.run(pipeline);
    }

    fn hand_over(
        &self,
        ticket: Ticket,
        message: &QueuedMessage<G>,
        route: Route,
    ) -> (Route, Option<Outcome>) {
        let passage = message.passage();
        let route = self.broker.look_again(&message.to, route);
        let permission = message.permission.unwrap_or(Err(Outcome::AuthorizationFailed));
        let outcome = match self.broker.permission_now(passage, &route, permission) {
            Err(refused) => Some(refused),
            Ok(()) => self.broker.deliver(passage, message.argument.as_json(), &route, || {
                ReplyTo { sender: self.this.clone(), ticket }
            }),
        };
        (route, outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Messages<G>> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipeline, unless its connection has ended: then no acks can be sent, and nothing is
    /// relayed.
    fn lock_open(&self) -> Option<MutexGuard<'_, Messages<G>>> {
        let is_over =
            self.connection.as_ref().is_some_and(|connection| connection.link().is_closed());
        (!is_over).then(|| self.lock())
    }
}

impl<G: Send + 'static> OnReply for Dispatcher<G> {
    fn on_reply(&self, ticket: Ticket, outcome: Outcome) {
        if let Some(mut pipeline) = self.lock_open() {
            pipeline.replied(ticket, outcome);
            self.run(pipeline);
        }
    }
}
