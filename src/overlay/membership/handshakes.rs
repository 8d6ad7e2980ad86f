//! How two peers that are no neighbours agree on a channel. Pure.

use std::time::Instant;

use super::{Action, Membership};
use crate::overlay::acquaintances::Step;
use crate::overlay::fate::Fate;
use crate::overlay::id::PeerId;
use crate::overlay::message::{self, Reachable, Signal};

impl<C: Clone + PartialEq> Membership<C> {
    /// Another peer asks how this one can be reached.
    pub(super) fn take_offer(
        &mut self,
        now: Instant,
        from: PeerId,
        actions: &mut Vec<Action<C>>,
    ) -> Fate {
        let step = self.known.step(&from);
        // Of two peers that ask each other, the one with the greater ID is asked.
        let is_pending = step.is_some();
        if self.router.neighbours().get(&from).is_some()
            || (is_pending && from >= *self.router.own())
        {
            return Fate::Unsolicited;
        }
        if !is_pending && !self.known.set_step(now, from, Step::Answered) {
            return Fate::QueueFull;
        }
        let answer = message::handshake_answer(&self.rules.reachable);
        self.send(now, from, answer, actions);
        Fate::Handled
    }

    /// Another peer tells how it can be reached.
    pub(super) fn take_answer(
        &mut self,
        now: Instant,
        from: PeerId,
        answer: Reachable,
        actions: &mut Vec<Action<C>>,
    ) -> Fate {
        if self.known.step(&from) != Some(Step::Offered) {
            return Fate::Unsolicited;
        }
        let is_by_webrtc = answer.wrtc && self.rules.reachable.wrtc;
        let action = match answer.ws {
            _ if !self.rules.dials_strangers => None,
            _ if is_by_webrtc => Some(Action::Call(from)),
            url => url.map(|url| Action::Dial(from, url)),
        };
        match action {
            Some(action) => {
                self.known.set_step(now, from, Step::Dialing);
                actions.push(action);
            }
            None => self.known.give_up(now, from),
        }
        Fate::Handled
    }

    /// Negotiates with whom there is a handshake. Candidates are of no use here: whoever wants a
    /// WebRTC channel to this peer has to come to its address.
    pub(super) fn take_signal(
        &mut self,
        now: Instant,
        from: PeerId,
        signal: Signal,
        actions: &mut Vec<Action<C>>,
    ) -> Fate {
        if !self.rules.reachable.wrtc {
            return Fate::Unknown;
        }
        let is_awaited = match (&signal, self.known.step(&from)) {
            // Both may have asked at the same time.
            (Signal::Offer(_), Some(Step::Answered | Step::Offered)) => true,
            (Signal::Answer(_), Some(Step::Dialing)) => true,
            (Signal::Other, Some(_)) => return Fate::Handled,
            _ => false,
        };
        if !is_awaited {
            return Fate::Unsolicited;
        }
        self.known.set_step(now, from, Step::Dialing);
        actions.push(Action::Signal(from, signal));
        Fate::Handled
    }

    /// A message for the other side of a WebRTC channel that is being negotiated.
    #[cfg(feature = "webrtc")]
    pub(in crate::overlay) fn send_signal(
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
