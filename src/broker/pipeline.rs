//! The order of messages that have to wait, as a state machine without I/O.
//!
//! Each message enters the lane of its sender and receiver. Messages are resolved (authorized and
//! located) concurrently, up to a limit for all lanes, and handed over in the order of their lane.
//! Later messages of a lane may follow one to the same replica before it is acked, since the
//! channel keeps their order. If a message comes back because its receiver has moved, it is
//! resolved once more before any later message of its lane is handed over. No lane waits for
//! another.
//!
//! The dispatcher takes one [`Action`] after the other and reports the results.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::delivery::Outcome;

/// The most messages that may wait to be resolved. A link pauses reading at far fewer; the rest is
/// for what it had read by then.
const MAX_WAITING: usize = 1024;

/// The messages `M` of lanes `L`, which take routes `R`.
pub(super) struct Pipeline<L, R, M> {
    max_in_flight: usize,
    in_flight: usize,
    last_number: u64,
    /// Messages that wait until fewer are in flight, in the order of their arrival.
    waiting: VecDeque<Ticket<L>>,
    /// The messages of each lane, in the order of their arrival, which is that of their numbers.
    lanes: HashMap<L, VecDeque<Queued<R, M>>>,
    actions: VecDeque<Action<L, R, M>>,
}

/// The lane of a message and its number.
pub(super) type Ticket<L> = (L, u64);

struct Queued<R, M> {
    number: u64,
    message: M,
    state: State<R>,
    /// The first attempt, if it did not find the receiver.
    first_try: Option<(R, Outcome)>,
}

enum State<R> {
    /// Until fewer are in flight; with the route, if it is known.
    Waiting(Option<R>),
    Resolving,
    /// Until it is its turn.
    Resolved(R),
    HandingOver,
    /// Until there is a reply.
    Sent(R),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Action<L, R, M> {
    /// Find the message's route, and report it with [`Pipeline::resolved`]. If it has been tried
    /// before, that was the route.
    Resolve { ticket: Ticket<L>, tried: Option<R> },
    /// Hand the message over, and report that with [`Pipeline::handed_over`] before anything else.
    HandOver { ticket: Ticket<L>, route: R },
    /// Answer the sender. The route is that of the last try.
    Finish { message: M, outcome: Outcome, route: R },
}

/// There are too many messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<L: Copy + Eq + Hash, R: Clone + PartialEq, M> Pipeline<L, R, M> {
    /// No messages. At most `max_in_flight` of them will be taken up but not finished at a time.
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self {
            max_in_flight,
            in_flight: 0,
            last_number: 0,
            waiting: VecDeque::new(),
            lanes: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// The next action.
    pub(super) fn next_action(&mut self) -> Option<Action<L, R, M>> {
        self.actions.pop_front()
    }

    /// The message of an action.
    pub(super) fn message_mut(&mut self, ticket: Ticket<L>) -> Option<&mut M> {
        self.queued(ticket).map(|queued| &mut queued.message)
    }

    /// Takes a message; with its route, if it needs no lookup.
    ///
    /// # Errors
    /// [`Full`] if too many wait.
    pub(super) fn push(&mut self, lane: L, message: M, known: Option<R>) -> Result<(), Full> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Full);
        }
        self.last_number += 1;
        let number = self.last_number;
        let queued = Queued { number, message, state: State::Waiting(known), first_try: None };
        self.lanes.entry(lane).or_default().push_back(queued);
        self.waiting.push_back((lane, number));
        self.start_waiting();
        Ok(())
    }

    /// The route of a message has been found.
    pub(super) fn resolved(&mut self, ticket: Ticket<L>, route: R) {
        let Some(queued) = self.queued(ticket) else { return };
        if !matches!(queued.state, State::Resolving) {
            return;
        }
        match queued.first_try.take_if(|(tried, _)| *tried == route) {
            // There is nowhere else to try.
            Some((tried, outcome)) => self.finish(ticket, outcome, tried),
            None => {
                queued.state = State::Resolved(route);
                self.advance(ticket.0);
            }
        }
    }

    /// A message has been handed over; with its outcome, unless that depends on a reply. The route
    /// is the one that it took in the end.
    pub(super) fn handed_over(&mut self, ticket: Ticket<L>, route: R, outcome: Option<Outcome>) {
        let Some(queued) = self.queued(ticket) else { return };
        if !matches!(queued.state, State::HandingOver) {
            return;
        }
        queued.state = State::Sent(route);
        match outcome {
            Some(outcome) => self.replied(ticket, outcome),
            None => self.advance(ticket.0),
        }
    }

    /// There is a reply to a message that was sent to another replica.
    pub(super) fn replied(&mut self, ticket: Ticket<L>, outcome: Outcome) {
        let Some(queued) = self.queued(ticket) else { return };
        let State::Sent(route) = &queued.state else { return };
        let route = route.clone();
        if outcome.may_be_elsewhere() && queued.first_try.is_none() {
            queued.first_try = Some((route.clone(), outcome));
            queued.state = State::Resolving;
            self.actions.push_back(Action::Resolve { ticket, tried: Some(route) });
        } else {
            self.finish(ticket, outcome, route);
        }
    }

    fn finish(&mut self, ticket: Ticket<L>, outcome: Outcome, route: R) {
        let (lane, number) = ticket;
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        let place = queue.binary_search_by_key(&number, |queued| queued.number);
        let Some(Queued { message, .. }) = place.ok().and_then(|place| queue.remove(place)) else {
            return;
        };
        self.in_flight -= 1;
        self.actions.push_back(Action::Finish { message, outcome, route });
        if queue.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.advance(lane);
        }
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while self.in_flight < self.max_in_flight
            && let Some(ticket) = self.waiting.pop_front()
        {
            let Some(queued) = self.queued(ticket) else { continue };
            match std::mem::replace(&mut queued.state, State::Resolving) {
                State::Waiting(Some(route)) => queued.state = State::Resolved(route),
                _ => self.actions.push_back(Action::Resolve { ticket, tried: None }),
            }
            self.in_flight += 1;
            self.advance(ticket.0);
        }
    }

    fn queued(&mut self, ticket: Ticket<L>) -> Option<&mut Queued<R, M>> {
        let (lane, number) = ticket;
        let queue = self.lanes.get_mut(&lane)?;
        let place = queue.binary_search_by_key(&number, |queued| queued.number).ok()?;
        queue.get_mut(place)
    }

    /// Hands the next message of a lane over, if it is resolved and all before it were sent where it
    /// is to be sent.
    fn advance(&mut self, lane: L) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        let mut taken: Option<R> = None;
        for queued in queue {
            match &queued.state {
                State::Sent(route) | State::Resolved(route)
                    if taken.as_ref().is_some_and(|taken| taken != route) =>
                {
                    return;
                }
                State::Sent(route) => {
                    taken.get_or_insert_with(|| route.clone());
                }
                State::Resolved(route) => {
                    let (ticket, route) = ((lane, queued.number), route.clone());
                    queued.state = State::HandingOver;
                    return self.actions.push_back(Action::HandOver { ticket, route });
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
