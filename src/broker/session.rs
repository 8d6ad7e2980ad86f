//! A connected node: its events enter the broker here.
//!
//! An event that needs no lookup, and waits for no earlier one, is handled in one call. All others
//! go to the connection's [`Dispatcher`], which is created for the first of them.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::Broker;
use super::admission::AdmissionError;
use super::authorize::{Passage, Sender};
use super::dispatcher::{Dispatcher, QueuedMessage};
use super::pipeline::Full;
use crate::delivery::Connection;
use crate::login::Grant;
use crate::node::{NodeId, Owner};
use crate::protocol::{
    ARE_NODES_CONNECTED_TO_BROKER, AUTHENTICATED, Ack, Event, EventPacket, JsonStringBuf, Payload,
    RtcConfiguration,
};
use link::{CloseReason, PendingEvent};

/// The most events of one session that are being asked about, or sent to other replicas.
const MAX_IN_FLIGHT: usize = 64;

/// The most presence questions of one session that Redis is asked at a time.
const MAX_QUESTIONS: usize = 2;

/// How many IDs of a presence question cost as much as a message.
const IDS_PER_MESSAGE: usize = 10;

/// A node that has its ID. The ID hangs on the connection's link and ends with it.
pub(crate) struct Session {
    broker: Arc<Broker>,
    sender: Sender,
    owner: Owner,
    connection: Connection,
    dispatcher: OnceLock<Arc<Dispatcher<PendingEvent>>>,
    questions: OnceLock<Arc<Semaphore>>,
}

impl Session {
    pub(super) fn new(
        broker: Arc<Broker>,
        node: NodeId,
        owner: Owner,
        connection: Connection,
        grant: Option<Arc<Grant>>,
    ) -> Self {
        let sender = Sender { name: node, owner: Some(owner), grant };
        Self {
            broker,
            sender,
            owner,
            connection,
            dispatcher: OnceLock::new(),
            questions: OnceLock::new(),
        }
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// The node's connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Takes the node's CONNECT: from now on it keeps its ID against newcomers.
    ///
    /// # Errors
    /// [`AdmissionError`] if it does not get the ID, or not for now; then the link is closing.
    pub(crate) async fn claim(&self) -> Result<(), AdmissionError> {
        self.broker.claim(&self.sender.name, self.owner, &self.connection).await
    }

    /// Greets the node, makes it routable and lets its events pass. Takes time only if a webhook
    /// has to be called for the RTC configuration. Without a configuration the node cannot work:
    /// its connection is closed, so that it reconnects.
    pub(crate) fn connect(self: &Arc<Self>) {
        if let Some(rtc) = self.broker.rtc_configuration_at_once(&self.sender.name) {
            return self.greet(Some(&rtc));
        }
        let session = self.clone();
        self.broker.lookups.spawn(async move {
            let address = session.connection.link().remote_addr().ip();
            tokio::select! {
                rtc = session.broker.rtc_configuration(&session.sender.name, address) => {
                    session.greet(rtc.as_ref());
                }
                () = session.connection.link().closed() => {}
            }
        });
    }

    fn greet(&self, rtc: Option<&RtcConfiguration>) {
        let (node, connection) = (&self.sender.name, self.owner.connection);
        let is_greeted = rtc.is_some_and(|rtc| {
            let argument = rtc.as_argument();
            self.broker.connections.greet(node, connection, AUTHENTICATED, argument)
        });
        if is_greeted {
            self.connection.link().admit();
        } else {
            self.connection.link().close(CloseReason::Transport);
        }
    }

    /// Takes an event of the node, or `None` for one that cannot be read. An ack with this ID
    /// answers it, now or later.
    pub(crate) fn receive(&self, packet: Option<EventPacket<'_>>, ack_id: Option<i64>) {
        let Some(EventPacket { name, payload }) = packet else {
            return self.ack(ack_id, Ack::Error);
        };
        if let Some(event) = Event::from_name(&name) {
            return self.relay(event, payload, ack_id);
        }
        match ack_id {
            // Skip the lookup if no ack was requested.
            Some(ack_id) if name == ARE_NODES_CONNECTED_TO_BROKER => {
                self.answer_presence(payload, ack_id);
            }
            _ => self.ack(ack_id, Ack::Error),
        }
    }

    /// Relays a message. The checks have a fixed order, which decides between two acks that would
    /// both fit.
    fn relay(&self, event: Event, payload: Option<Payload<'_>>, ack_id: Option<i64>) {
        self.connection.record_message();
        let broker = &self.broker;
        let (envelope, payload) = match broker.check(&self.sender, event, payload) {
            Ok(checked) => checked,
            Err(outcome) => {
                broker.metrics.message(event, outcome.ack());
                return self.ack(ack_id, outcome.ack());
            }
        };
        let passage = Passage { sender: &self.sender, event, to: &envelope.to };
        let route = broker.known_route(passage.to);
        let permission = broker.known_permission(passage, route.as_ref());
        if self.connection.link().is_idle() {
            let outcome = match (permission, &route) {
                (Some(Err(refused)), _) => Some(refused),
                (Some(Ok(())), Some(route)) => broker.deliver_now(passage, payload.json(), route),
                _ => None,
            };
            if let Some(outcome) = outcome {
                broker.conclude(passage, outcome, route.and_then(|route| route.owner()));
                return self.ack(ack_id, outcome.ack());
            }
        }
        let message = QueuedMessage {
            sender: self.sender.clone(),
            event,
            to: passage.to.into(),
            argument: JsonStringBuf::from(payload.json()),
            permission,
            ack_id,
            began: Instant::now(),
            resolving: None,
            guard: self.connection.link().begin_event(payload.json().as_str().len()),
        };
        let dispatcher = self.dispatcher.get_or_init(|| {
            Dispatcher::new(broker.clone(), Some(self.connection.clone()), MAX_IN_FLIGHT)
        });
        if dispatcher.dispatch(message, route) == Err(Full) {
            self.connection.link().kill(CloseReason::Overflow);
        }
    }

    /// Answers a presence question. No message waits for it, nor it for any.
    fn answer_presence(&self, payload: Option<Payload<'_>>, ack_id: i64) {
        let Ok(question) = self.broker.question(payload) else {
            return self.ack(Some(ack_id), Ack::Error);
        };
        self.connection.link().charge((question.ids.len() / IDS_PER_MESSAGE) as u64);
        if !self.broker.memory.admits_message() {
            return self.ack(Some(ack_id), Ack::Error);
        }
        if let Some(answer) = self.broker.known_presence(&question) {
            return self.connection.send_ack(ack_id, JsonStringBuf::new(&answer).as_json());
        }
        let (broker, connection) = (self.broker.clone(), self.connection.clone());
        // Many of these pause the reading of the link, so their number is bounded.
        let guard = connection.link().begin_event(question.bytes());
        let permits = self.questions.get_or_init(|| Arc::new(Semaphore::new(MAX_QUESTIONS)));
        let permits = permits.clone();
        self.broker.lookups.spawn(async move {
            let _guard = guard;
            let answer = async {
                let _permit = permits.acquire().await;
                broker.presence(&question).await
            };
            tokio::select! {
                answer = answer => match answer {
                    Ok(answer) => {
                        connection.send_ack(ack_id, JsonStringBuf::new(&answer).as_json());
                    }
                    Err(_) => connection.send_ack(ack_id, Ack::Error.as_json()),
                },
                () = connection.link().closed() => {}
            }
        });
    }

    fn ack(&self, ack_id: Option<i64>, ack: Ack) {
        if let Some(ack_id) = ack_id {
            self.connection.send_ack(ack_id, ack.as_json());
        }
    }
}
