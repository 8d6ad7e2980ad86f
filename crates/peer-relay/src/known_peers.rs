//! Peers that are not neighbours: those heard of, and those with a handshake in progress. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::bucket::{BUCKET_SIZE, Buckets};
use super::id::PeerId;
use super::rotating_map::RotatingMap;

/// How long a handshake may take, from the offer to the open channel.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long at least a peer that cannot be reached is not tried again, nor named to others.
const UNREACHABLE_FOR: Duration = Duration::from_secs(5 * 60);

/// Of how many peers it is remembered at least that they cannot be reached.
const MAX_UNREACHABLE: usize = 1024;

/// How long it is remembered that a peer was heard of.
const CANDIDATE_TTL: Duration = Duration::from_secs(10 * 60);

/// The most handshakes at a time; strangers begin at most half of them.
const MAX_HANDSHAKES: usize = 256;

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// This peer asked how the other can be reached.
    Offered,
    /// The other asked, and was told.
    Answered,
    /// The other told, and its URL is being dialed.
    Dialing,
}

/// The peers heard of, and the handshakes.
#[derive(Debug)]
pub(crate) struct KnownPeers {
    candidates: Buckets<Instant>,
    handshakes: HashMap<PeerId, (Step, Instant)>,
    unreachable: RotatingMap<PeerId, ()>,
}

impl KnownPeers {
    /// Nobody has been heard of yet.
    pub(crate) fn new(own: PeerId, now: Instant) -> Self {
        let unreachable = RotatingMap::new(now, UNREACHABLE_FOR, MAX_UNREACHABLE);
        Self { candidates: Buckets::new(own), handshakes: HashMap::new(), unreachable }
    }

    /// The peers heard of.
    pub(crate) fn candidates(&self) -> &Buckets<Instant> {
        &self.candidates
    }

    /// A peer was heard of. It gets a place in its bucket if one is free.
    pub(crate) fn add(&mut self, now: Instant, id: PeerId) {
        // Its time is not renewed: those who left would be talked about for ever.
        if self.candidates.get(&id).is_some() || self.unreachable.get(now, &id).is_some() {
            return;
        }
        if self.candidates.bucket_of(&id).len() < BUCKET_SIZE {
            self.candidates.insert(id, now);
        }
    }

    /// A peer became a neighbour, or is known to have left.
    pub(crate) fn remove(&mut self, id: &PeerId) {
        self.candidates.remove(id);
        self.handshakes.remove(id);
    }

    /// How far the handshake with this peer has come.
    pub(crate) fn step(&self, id: &PeerId) -> Option<Step> {
        self.handshakes.get(id).map(|(step, _)| *step)
    }

    /// A handshake comes this far. Returns whether there was room for it.
    pub(crate) fn set_step(&mut self, now: Instant, id: PeerId, step: Step) -> bool {
        let most = if step == Step::Answered { MAX_HANDSHAKES / 2 } else { MAX_HANDSHAKES };
        if self.handshakes.len() >= most && !self.handshakes.contains_key(&id) {
            return false;
        }
        self.handshakes.insert(id, (step, now + HANDSHAKE_TIMEOUT));
        true
    }

    /// A peer cannot be reached.
    pub(crate) fn mark_unreachable(&mut self, now: Instant, id: PeerId) {
        self.remove(&id);
        self.unreachable.insert(now, id, ());
    }

    /// How many handshakes this peer has begun that may still lead to a channel.
    pub(crate) fn in_progress(&self) -> usize {
        let is_in_progress = |step| matches!(step, Step::Offered | Step::Dialing);
        self.handshakes.values().filter(|(step, _)| is_in_progress(*step)).count()
    }

    /// Whether such a handshake is with a peer of the bucket that `id` belongs to.
    pub(crate) fn is_in_progress_near(&self, id: &PeerId) -> bool {
        let own = self.candidates.own();
        let bucket = own.common_bits(id);
        self.handshakes.iter().any(|(other, (step, _))| {
            matches!(step, Step::Offered | Step::Dialing) && own.common_bits(other) == bucket
        })
    }

    /// Gives up the handshakes that took too long. Who did not answer is not there any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_over = |(id, (step, until)): (&PeerId, &(Step, Instant))| {
            (*until <= now).then_some((*id, *step))
        };
        let over: Vec<_> = self.handshakes.iter().filter_map(is_over).collect();
        for (id, step) in over {
            match step {
                Step::Offered => self.mark_unreachable(now, id),
                Step::Answered | Step::Dialing => drop(self.handshakes.remove(&id)),
            }
        }
        let old: Vec<_> = self
            .candidates
            .iter()
            .filter(|(_, heard)| now.saturating_duration_since(**heard) > CANDIDATE_TTL)
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.candidates.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_stranger_cannot_fill_the_memory_nor_drive_others_out() {
        let mut random = StdRng::seed_from_u64(1);
        let own = PeerId::random(&mut random);
        let mut known = KnownPeers::new(own, Instant::now());
        let now = Instant::now();
        let first: Vec<_> = (0..10).map(|_| PeerId::random(&mut random)).collect();
        first.iter().for_each(|id| known.add(now, *id));
        for _ in 0..20_000 {
            let id = PeerId::random(&mut random);
            known.add(now, id);
            known.set_step(now, id, Step::Answered);
        }
        assert!(known.candidates().len() < 20 * BUCKET_SIZE, "{}", known.candidates().len());
        assert!(first.iter().all(|id| known.candidates().get(id).is_some()));
        assert_eq!(known.handshakes.len(), MAX_HANDSHAKES / 2);
        assert!(known.set_step(now, first[0], Step::Offered), "there is room for one's own");
        known.expire(now + HANDSHAKE_TIMEOUT);
        assert_eq!(known.handshakes.len(), 0);
        // Old candidates make room.
        known.expire(now + CANDIDATE_TTL * 2);
        assert!(known.candidates().is_empty());
    }

    #[test]
    fn who_does_not_answer_is_forgotten() {
        let (own, other) = (PeerId::from_bytes([0; 20]), PeerId::from_bytes([1; 20]));
        let mut known = KnownPeers::new(own, Instant::now());
        let now = Instant::now();
        known.add(now, other);
        known.set_step(now, other, Step::Offered);
        assert_eq!((known.in_progress(), known.step(&other)), (1, Some(Step::Offered)));
        let late = now + HANDSHAKE_TIMEOUT;
        known.expire(late);
        assert_eq!((known.in_progress(), known.step(&other)), (0, None));
        // Also if others still talk about it.
        known.add(late, other);
        assert!(known.candidates().is_empty());
        let late = late + UNREACHABLE_FOR * 2;
        known.add(late, other);
        assert_eq!(known.candidates().len(), 1);
    }
}
