//! One connection's events that wait for an answer from elsewhere.
//!
//! Their questions run side by side, and yet the events are dealt with in the order in which they
//! came. The link pauses reading while many wait, so that their number is bounded.

use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use socketioxide_core::Str;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::answers::{Answer, AnswerSender};
use crate::broker::{Admission, Broker, Pending, Permission};
use crate::link::CloseReason;
use crate::protocol::{Ack, EventPacket};

/// How many questions of one connection run side by side.
const SIDE_BY_SIDE: usize = 64;

/// Places for events that wait. The link pauses at far fewer; the rest is for what it had read
/// by then.
const PLACES: usize = 1024;

/// How far an event has come.
pub(super) enum Step {
    /// It is answered.
    Answer(Answer),
    /// It is to be relayed, once it may; with the text that came.
    Relay(Pending, Str),
}

/// The queue of one connection; there only once something waited.
pub(super) struct Waits(OnceLock<Queue>);

struct Queue {
    events: mpsc::Sender<(Step, AnswerSender)>,
    _task: AbortOnDropHandle<()>,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Queues an event behind those that wait.
    pub(super) fn push(
        &self,
        broker: &Arc<Broker>,
        admission: &Admission,
        step: Step,
        sender: AnswerSender,
    ) {
        let queue = self.0.get_or_init(|| {
            let (events, waiting) = mpsc::channel(PLACES);
            let task = tokio::spawn(run(broker.clone(), admission.clone(), waiting));
            Queue { events, _task: AbortOnDropHandle::new(task) }
        });
        admission.link.begin_wait();
        if queue.events.try_send((step, sender)).is_err() {
            admission.link.kill(CloseReason::Overflow);
        }
    }
}

/// Deals with the events until their connection is over.
async fn run(
    broker: Arc<Broker>,
    admission: Admission,
    mut waiting: mpsc::Receiver<(Step, AnswerSender)>,
) {
    let mut asked = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some((permission, step, sender)) = asked.next(), if !asked.is_empty() => {
                finish(&broker, &admission, permission, step, sender);
            }
            event = waiting.recv(), if asked.len() < SIDE_BY_SIDE => {
                let Some((step, sender)) = event else { return };
                asked.push_back(ask(&broker, &admission, step, sender));
            }
            // Nobody is there any more to be answered, nor anything to be sent on.
            () = admission.link.over() => return,
        }
    }
}

async fn ask(
    broker: &Broker,
    admission: &Admission,
    step: Step,
    sender: AnswerSender,
) -> (Permission, Step, AnswerSender) {
    let permission = match &step {
        Step::Answer(_) => Permission::Granted,
        Step::Relay(pending, _) => broker.permission(admission, pending).await,
    };
    (permission, step, sender)
}

fn finish(
    broker: &Broker,
    admission: &Admission,
    permission: Permission,
    step: Step,
    sender: AnswerSender,
) {
    let answer = match step {
        Step::Answer(answer) => answer,
        Step::Relay(pending, text) => {
            let payload = EventPacket::parse(&text).ok().and_then(|packet| packet.payload);
            payload
                .map_or(Ack::Error, |payload| {
                    broker.resume(admission, &pending, permission, payload)
                })
                .into()
        }
    };
    sender.send(&admission.link, &answer);
    admission.link.end_wait();
}
