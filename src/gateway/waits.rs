//! One connection's events that wait for an answer from elsewhere.
//!
//! What they need to know is asked side by side, and yet they are handed over in the order in
//! which they came. Those for other replicas are answered when the replica answers; others need
//! not wait for that. The link pauses reading while many wait, so that their number is bounded.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use socketioxide_core::Str;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::answers::{Answer, AnswerSender};
use crate::broker::{Admission, Broker, HandedOver, Location, Pending, Prepared};
use crate::delivery::{Delivered, ReplyTo};
use crate::link::CloseReason;
use crate::node::Owner;
use crate::protocol::{Ack, EventPacket, Question};

/// How many events of one connection are asked about, or sent to other replicas, at a time.
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
    /// It asks for nodes that are not on this replica.
    Find(Question),
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
            let turns = Turns::new(broker.clone(), admission.clone());
            let task = tokio::spawn(run(turns, waiting));
            Queue { events, _task: AbortOnDropHandle::new(task) }
        });
        admission.link.begin_wait();
        if queue.events.try_send((step, sender)).is_err() {
            admission.link.kill(CloseReason::Overflow);
        }
    }
}

/// An event about which everything is known that had to be asked.
enum Known {
    Answer(Answer, AnswerSender),
    Relay(Letter, Prepared),
}

/// A message that is to be handed over.
struct Letter {
    pending: Pending,
    text: Str,
    sender: AnswerSender,
}

/// A message that was sent to another replica, and is to be answered.
struct Sent {
    ticket: u64,
    letter: Letter,
    owner: Owner,
    /// Whether it was sent for the first time: what is not found is looked for once more.
    is_first: bool,
}

/// Deals with the events until their connection is over.
async fn run(mut turns: Turns, mut waiting: mpsc::Receiver<(Step, AnswerSender)>) {
    let admission = turns.admission.clone();
    let mut asked = FuturesOrdered::new();
    // The next in turn, if it cannot be handed over before others are answered.
    let mut held_up: Option<(Letter, Prepared)> = None;
    loop {
        if let Some((letter, prepared)) = held_up.take() {
            held_up = turns.take(letter, prepared);
        }
        let is_full = asked.len() + turns.sent.len() >= SIDE_BY_SIDE;
        tokio::select! {
            Some((ticket, delivered)) = turns.replies.recv() => {
                turns.answer(ticket, delivered).await;
            }
            Some(known) = asked.next(), if held_up.is_none() && !asked.is_empty() => match known {
                Known::Answer(answer, sender) => turns.finish(sender, &answer),
                Known::Relay(letter, prepared) => held_up = Some((letter, prepared)),
            },
            event = waiting.recv(), if !is_full => {
                let Some((step, sender)) = event else { return };
                asked.push_back(ask(turns.broker.clone(), admission.clone(), step, sender));
            }
            // Nobody is there any more to be answered, nor anything to be sent on.
            () = admission.link.over() => return,
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
        Step::Relay(pending, text) => {
            let prepared = broker.prepare(&admission, &pending).await;
            Known::Relay(Letter { pending, text, sender }, prepared)
        }
    }
}

/// The messages of one connection whose turn it is, or was.
struct Turns {
    broker: Arc<Broker>,
    admission: Admission,
    reply_to: mpsc::Sender<(u64, Delivered)>,
    replies: mpsc::Receiver<(u64, Delivered)>,
    next_ticket: u64,
    /// In the order of their tickets. Replies come nearly so.
    sent: VecDeque<Sent>,
}

impl Turns {
    fn new(broker: Arc<Broker>, admission: Admission) -> Self {
        // A place for each message that may be on its way, and one that was held up.
        let (reply_to, replies) = mpsc::channel(SIDE_BY_SIDE + 1);
        Self { broker, admission, reply_to, replies, next_ticket: 0, sent: VecDeque::new() }
    }

    /// Hands a message over, unless one for the same receiver is on its way to another place:
    /// that one may come back, and has to be handed over first.
    fn take(&mut self, letter: Letter, prepared: Prepared) -> Option<(Letter, Prepared)> {
        let prepared = self.broker.look_again(&letter.pending, prepared);
        let is_elsewhere = |sent: &Sent| {
            prepared.location != Location::At(sent.owner)
                && sent.letter.pending.to() == letter.pending.to()
        };
        if self.sent.iter().any(is_elsewhere) {
            return Some((letter, prepared));
        }
        self.hand_over(letter, prepared, true);
        None
    }

    fn hand_over(&mut self, letter: Letter, prepared: Prepared, is_first: bool) {
        let payload = EventPacket::parse(&letter.text).ok().and_then(|packet| packet.payload);
        // It was there when the event came.
        let Some(payload) = payload else {
            return self.finish(letter.sender, &Ack::Error.into());
        };
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let reply_to = || ReplyTo { sender: self.reply_to.clone(), ticket };
        let handed_over =
            self.broker.hand_over(&self.admission, &letter.pending, prepared, payload, reply_to);
        match handed_over {
            HandedOver::Answered(ack) => self.finish(letter.sender, &ack.into()),
            HandedOver::Sent(owner) => {
                self.sent.push_back(Sent { ticket, letter, owner, is_first });
            }
        }
    }

    /// Answers a message that was sent to another replica, or sends it to where its receiver is
    /// now. Until then nothing else of this connection is handed over.
    async fn answer(&mut self, ticket: u64, delivered: Delivered) {
        let Some(place) = self.sent.iter().position(|sent| sent.ticket == ticket) else { return };
        let Some(Sent { letter, owner, is_first, .. }) = self.sent.remove(place) else { return };
        if is_first
            && let Some(prepared) =
                self.broker.relocate(&self.admission, &letter.pending, owner, delivered).await
        {
            return self.hand_over(letter, prepared, false);
        }
        let ack = self.broker.settle(&self.admission, &letter.pending, owner, delivered);
        self.finish(letter.sender, &ack.into());
    }

    fn finish(&self, sender: AnswerSender, answer: &Answer) {
        sender.send(&self.admission.link, answer);
        self.admission.link.end_wait();
    }
}
