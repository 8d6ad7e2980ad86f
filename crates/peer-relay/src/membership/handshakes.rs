//! How two peers that are no neighbours agree on a channel. Pure.

use std::time::Instant;

use super::{Action, Membership};
use crate::id::PeerId;
use crate::known_peers::Step;
use crate::message::{self, Reachable, Signal};
use crate::outcome::Outcome;

impl<C: Clone + PartialEq> Membership<C> {
    /// Another peer asks how this one can be reached.
    pub(crate) fn take_offer(
        &mut self,
        now: Instant,
        from: PeerId,
        actions: &mut Vec<Action<C>>,
    ) -> Outcome {
        let step = self.known.step(&from);
        // Of two peers that ask each other, the one with the greater ID is asked.
        let is_pending = step.is_some();
        if self.router.neighbours().get(&from).is_some()
            || (is_pending && from >= *self.router.own())
        {
            return Outcome::Unsolicited;
        }
        if !is_pending && !self.known.set_step(now, from, Step::Answered) {
            return Outcome::QueueFull;
        }
        let answer = message::handshake_answer(&self.rules.reachable);
        self.send(now, from, answer, actions);
        Outcome::Handled
    }

    /// Another peer says how it can be reached, in a message that came from the neighbour `by`.
    pub(crate) fn take_answer(
        &mut self,
        now: Instant,
        by: PeerId,
        from: PeerId,
        answer: Reachable,
        actions: &mut Vec<Action<C>>,
    ) -> Outcome {
        if self.known.step(&from) != Some(Step::Offered) {
            return Outcome::Unsolicited;
        }
        let is_by_webrtc = answer.wrtc && self.rules.reachable.wrtc;
        let action = match answer.ws {
            _ if !self.rules.dials_unknown_peers => None,
            _ if is_by_webrtc => Some(Action::Call(from)),
            url => url.map(|url| Action::Dial(from, url)),
        };
        match action {
            Some(_) if !self.limits.may_dial(now, by) => {
                self.known.mark_unreachable(now, from);
                return Outcome::DialLimit;
            }
            Some(action) => {
                self.known.set_step(now, from, Step::Dialing);
                actions.push(action);
            }
            None => self.known.mark_unreachable(now, from),
        }
        Outcome::Handled
    }

    /// Negotiates with whom there is a handshake. Candidates are of no use here: anyone who wants a
    /// WebRTC channel to this peer has to come to its address.
    pub(crate) fn take_signal(
        &mut self,
        now: Instant,
        from: PeerId,
        signal: Signal,
        actions: &mut Vec<Action<C>>,
    ) -> Outcome {
        if !self.rules.reachable.wrtc {
            return Outcome::Unknown;
        }
        let is_awaited = match (&signal, self.known.step(&from)) {
            // Both may have asked at the same time.
            (Signal::Offer(_), Some(Step::Answered | Step::Offered)) => true,
            (Signal::Answer(_), Some(Step::Dialing)) => true,
            (Signal::Other, Some(_)) => return Outcome::Handled,
            _ => false,
        };
        if !is_awaited {
            return Outcome::Unsolicited;
        }
        self.known.set_step(now, from, Step::Dialing);
        actions.push(Action::Signal(from, signal));
        Outcome::Handled
    }

    /// A message for the other side of a WebRTC channel that is being negotiated.
    #[cfg(feature = "webrtc")]
    pub(crate) fn send_signal(
        &mut self,
        now: Instant,
        to: PeerId,
        data: Box<serde_json::value::RawValue>,
    ) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        self.send(now, to, data, &mut actions);
        actions
    }
}
