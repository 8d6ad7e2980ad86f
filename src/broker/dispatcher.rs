//! Drives a [`Pipeline`]: asks what has to be asked, hands over, and answers.
//!
//! The pipeline's lock is held while an event is handed over, so that none overtakes it, and never
//! across an await. Its order among locks is first: delivery takes its own below it, and calls
//! back with a reply only when it holds none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio_util::task::AbortOnDropHandle;

use super::Broker;
use super::authorize::{Passage, Permission, Sender};
use super::pipeline::{Action, Full, Pipeline};
use super::route::Route;
use crate::delivery::{Connection, OnReply, Outcome, ReplyTo};
use crate::protocol::{Ack, Event, JsonStringBuf, Question};

/// The dispatcher of one connection, or of all overlay peers. `G` is held by each event until it
/// is finished.
pub(super) struct Dispatcher<G> {
    broker: Arc<Broker>,
    /// Where acks go. Overlay peers get none.
    connection: Option<Connection>,
    pipeline: Mutex<Pipeline<Lane, Route, QueuedEvent<G>>>,
    this: Weak<Self>,
}

/// What is kept in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    /// Messages of this sender to this receiver.
    Pair(Sender, Arc<str>),
    /// A presence question with this ack.
    Question(i64),
}

struct QueuedEvent<G> {
    kind: Kind,
    ack_id: Option<i64>,
    resolving: Option<AbortOnDropHandle<()>>,
    _guard: G,
}

enum Kind {
    Message(QueuedMessage),
    Question(Arc<Question>),
    /// A question with its answer.
    Answer(JsonStringBuf),
}

/// A message that has to wait.
pub(super) struct QueuedMessage {
    pub(super) sender: Sender,
    pub(super) event: Event,
    pub(super) to: Arc<str>,
    pub(super) argument: JsonStringBuf,
    /// Whether it may pass, if that is known.
    pub(super) permission: Option<Permission>,
}

impl QueuedMessage {
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
            this: this.clone(),
        })
    }

    /// Dispatches a message; at once if its route and its permission are known and nothing is
    /// before it.
    ///
    /// # Errors
    /// [`Full`] if too many events wait.
    pub(super) fn dispatch(
        &self,
        message: QueuedMessage,
        route: Option<Route>,
        ack_id: Option<i64>,
        guard: G,
    ) -> Result<(), Full> {
        let known = route.filter(|_| message.permission.is_some());
        let lane = Lane::Pair(message.sender.clone(), message.to.clone());
        self.push(lane, Kind::Message(message), known, ack_id, guard)
    }

    /// Finds the answer to a presence question.
    ///
    /// # Errors
    /// [`Full`] if too many events wait.
    pub(super) fn ask(&self, question: Question, ack_id: i64, guard: G) -> Result<(), Full> {
        let kind = Kind::Question(Arc::new(question));
        self.push(Lane::Question(ack_id), kind, None, Some(ack_id), guard)
    }

    fn push(
        &self,
        lane: Lane,
        kind: Kind,
        known: Option<Route>,
        ack_id: Option<i64>,
        guard: G,
    ) -> Result<(), Full> {
        let event = QueuedEvent { kind, ack_id, resolving: None, _guard: guard };
        let mut pipeline = self.lock();
        pipeline.push(lane, event, known)?;
        self.run(pipeline);
        Ok(())
    }

    /// Does what the pipeline says.
    fn run(&self, mut pipeline: MutexGuard<'_, Pipeline<Lane, Route, QueuedEvent<G>>>) {
        while let Some(action) = pipeline.next_action() {
            match action {
                Action::Resolve { ticket, tried } => {
                    if let Some(event) = pipeline.event_mut(ticket) {
                        event.resolving = self.resolve(ticket, &event.kind, tried);
                    }
                }
                Action::HandOver { ticket, route } => {
                    let Some(event) = pipeline.event_mut(ticket) else { continue };
                    event.resolving = None;
                    let (route, outcome) = self.hand_over(ticket, &event.kind, route);
                    pipeline.handed_over(ticket, route, outcome);
                }
                Action::Finish { event, outcome, route } => self.finish(&event, outcome, route),
            }
        }
    }

    /// Starts to find out what has to be known of an event.
    fn resolve(
        &self,
        ticket: u64,
        kind: &Kind,
        tried: Option<Route>,
    ) -> Option<AbortOnDropHandle<()>> {
        let (broker, this) = (self.broker.clone(), self.this.clone());
        let task = match kind {
            Kind::Message(message) => {
                let (sender, event, to) =
                    (message.sender.clone(), message.event, message.to.clone());
                let permission = message.permission;
                tokio::spawn(async move {
                    let passage = Passage { sender: &sender, event, to: &to };
                    let resolved = resolve(&broker, passage, permission, tried).await;
                    if let Some(this) = this.upgrade() {
                        this.resolved(ticket, resolved);
                    }
                })
            }
            Kind::Question(question) => {
                let question = question.clone();
                tokio::spawn(async move {
                    let answer = broker.find(&question).await.ok();
                    if let Some(this) = this.upgrade() {
                        this.answered(ticket, answer);
                    }
                })
            }
            Kind::Answer(_) => return None,
        };
        Some(AbortOnDropHandle::new(task))
    }

    fn resolved(&self, ticket: u64, (permission, route): (Permission, Route)) {
        let Some(mut pipeline) = self.lock_open() else { return };
        if let Some(QueuedEvent { kind: Kind::Message(message), .. }) = pipeline.event_mut(ticket) {
            message.permission = Some(permission);
        }
        pipeline.resolved(ticket, route);
        self.run(pipeline);
    }

    fn answered(&self, ticket: u64, answer: Option<String>) {
        let Some(mut pipeline) = self.lock_open() else { return };
        if let (Some(event), Some(answer)) = (pipeline.event_mut(ticket), answer) {
            event.kind = Kind::Answer(JsonStringBuf::new(&answer));
        }
        pipeline.answered(ticket, Outcome::Delivered);
        self.run(pipeline);
    }

    fn hand_over(&self, ticket: u64, kind: &Kind, route: Route) -> (Route, Option<Outcome>) {
        let Kind::Message(message) = kind else { return (route, Some(Outcome::Invalid)) };
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

    fn finish(&self, event: &QueuedEvent<G>, outcome: Outcome, route: Option<Route>) {
        let ack = match &event.kind {
            Kind::Message(message) => {
                let receiver = route.and_then(|route| route.owner());
                self.broker.conclude(message.passage(), outcome, receiver);
                outcome.ack().as_json()
            }
            Kind::Answer(answer) => answer.as_json(),
            Kind::Question(_) => Ack::Error.as_json(),
        };
        if let (Some(connection), Some(ack_id)) = (&self.connection, event.ack_id) {
            connection.send_ack(ack_id, ack);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pipeline<Lane, Route, QueuedEvent<G>>> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipeline, unless its connection has ended: then nobody is there any more to be
    /// answered, and nothing is sent on.
    fn lock_open(&self) -> Option<MutexGuard<'_, Pipeline<Lane, Route, QueuedEvent<G>>>> {
        let is_over =
            self.connection.as_ref().is_some_and(|connection| connection.link().is_over());
        (!is_over).then(|| self.lock())
    }
}

impl<G: Send + 'static> OnReply for Dispatcher<G> {
    fn on_reply(&self, ticket: u64, outcome: Outcome) {
        if let Some(mut pipeline) = self.lock_open() {
            pipeline.replied(ticket, outcome);
            self.run(pipeline);
        }
    }
}

/// Finds out where the receiver of a message is, and whether the message may pass.
async fn resolve(
    broker: &Broker,
    passage: Passage<'_>,
    known: Option<Permission>,
    tried: Option<Route>,
) -> (Permission, Route) {
    let Some(tried) = tried else {
        let route = broker.resolve(passage.to).await;
        let permission = match known {
            Some(known) => known,
            None => broker.permission(passage, &route).await,
        };
        return (permission, route);
    };
    let route = broker.resolve_again(passage.to, &tried).await;
    // The same place again says the same again.
    let permission =
        if route == tried { Ok(()) } else { broker.permission_again(passage, &route).await };
    (permission, route)
}
