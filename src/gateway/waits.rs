//! One connection's events that wait for an answer from elsewhere.
//!
//! What they need to know is asked side by side, and yet they are handed over in the order in
//! which they came: each when it is its turn (`turns`). The link pauses reading while many wait,
//! so that their number is bounded.

use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use socketioxide_core::Str;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::answers::{Answer, AnswerSender};
use super::turns::{Letter, Turns, answer, lock};
use crate::broker::{Admission, Broker, Pending, Prepared};
use crate::delivery::Delivered;
use crate::protocol::{Ack, Question};
use link::CloseReason;

/// How many events of one connection are asked about, or sent to other replicas, at a time.
pub(super) const SIDE_BY_SIDE: usize = 64;

/// Places for events that wait. The link pauses at far fewer; the rest is for what it had read
/// by then.
const PLACES: usize = 1024;

/// How far an event has come.
pub(super) enum Step {
    /// It is answered.
    Answer(Answer),
    /// It is to be relayed, once it may; with the event's argument.
    Relay(Pending, Str),
    /// It asks for nodes that are not on this replica.
    Find(Question),
}

/// The queue of one connection; there only once something waited.
pub(super) struct Waits(OnceLock<Queue>);

struct Queue {
    events: mpsc::Sender<(Step, AnswerSender)>,
    turns: Arc<Mutex<Turns>>,
    _task: AbortOnDropHandle<()>,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Deals with an event at once if it needs to ask nobody and none waits before it; else it
    /// waits for its turn.
    pub(super) fn push(
        &self,
        broker: &Arc<Broker>,
        admission: &Admission,
        step: Step,
        mut sender: AnswerSender,
    ) {
        let queue = self.0.get_or_init(|| Queue::new(broker.clone(), admission.clone()));
        sender.begin(&admission.link);
        let Some(waiting) = lock(&queue.turns).start(step, sender) else { return };
        if queue.events.try_send(waiting).is_err() {
            admission.link.kill(CloseReason::Overflow);
        }
    }
}

impl Queue {
    fn new(broker: Arc<Broker>, admission: Admission) -> Self {
        let (events, waiting) = mpsc::channel(PLACES);
        // A place for each message that may be on its way, and one that is sent on.
        let (reply_to, replies) = mpsc::channel(SIDE_BY_SIDE + 1);
        let turns = Turns::new(broker.clone(), admission.clone(), reply_to);
        let turns = Arc::new(Mutex::new(turns));
        let task = tokio::spawn(run(broker, admission, turns.clone(), waiting, replies));
        Self { events, turns, _task: AbortOnDropHandle::new(task) }
    }
}

/// An event about which everything is known that had to be asked.
enum Known {
    Answer(Answer, AnswerSender),
    Relay(Letter, Prepared),
}

/// Deals with the events until their connection is over.
async fn run(
    broker: Arc<Broker>,
    admission: Admission,
    turns: Arc<Mutex<Turns>>,
    mut waiting: mpsc::Receiver<(Step, AnswerSender)>,
    mut replies: mpsc::Receiver<(u64, Delivered)>,
) {
    let mut over = pin!(admission.link.closed());
    let mut asked = FuturesOrdered::new();
    // The next in turn, if it cannot be handed over before others are answered.
    let mut held_up: Option<(Letter, Prepared)> = None;
    loop {
        if let Some((letter, prepared)) = held_up.take() {
            held_up = lock(&turns).take_waiting(letter, prepared);
        }
        let is_full = asked.len() + lock(&turns).sent() >= SIDE_BY_SIDE;
        tokio::select! {
            Some((ticket, delivered)) = replies.recv() => {
                answer(&turns, &broker, &admission, ticket, delivered).await;
            }
            Some(known) = asked.next(), if held_up.is_none() && !asked.is_empty() => match known {
                Known::Answer(answer, sender) => lock(&turns).finish_waiting(sender, &answer),
                Known::Relay(letter, prepared) => held_up = Some((letter, prepared)),
            },
            event = waiting.recv(), if !is_full => {
                let Some((step, sender)) = event else { return };
                asked.push_back(ask(broker.clone(), admission.clone(), step, sender));
            }
            // Nobody is there any more to be answered, nor anything to be sent on.
            () = &mut over => return,
        }
    }
}

async fn ask(broker: Arc<Broker>, admission: Admission, step: Step, sender: AnswerSender) -> Known {
    match step {
        Step::Answer(answer) => Known::Answer(answer, sender),
        Step::Find(question) => {
            let found = broker.find(&question).await;
            Known::Answer(found.map_or(Ack::Error.into(), Answer::Presence), sender)
        }
        Step::Relay(pending, argument) => {
            let prepared = broker.prepare(&admission, &pending).await;
            Known::Relay(Letter { pending, argument, sender }, prepared)
        }
    }
}
