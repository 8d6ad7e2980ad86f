//! Peers that are not neighbours: those heard of, and those with a handshake under way. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::bucket::{BUCKET_SIZE, Buckets};
use super::id::PeerId;

/// How long a handshake may take, from the offer to the open channel.
pub(super) const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a peer that cannot be reached is not tried again.
const UNREACHABLE_FOR: Duration = Duration::from_secs(5 * 60);

/// How long it counts that a peer was heard of, if others want its place.
const HEARSAY_LIFE: Duration = Duration::from_secs(10 * 60);

/// The most handshakes, those of strangers too, that are remembered.
const MAX_HANDSHAKES: usize = 256;

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This peer asked how the other can be reached.
    Offered,
    /// The other asked, and was told.
    Answered,
    /// The other told, and its URL is being dialed.
    Dialing,
    /// The other cannot be reached.
    Unreachable,
}

/// The peers heard of, and the handshakes.
#[derive(Debug)]
pub(super) struct Acquaintances {
    heard: Buckets<Instant>,
    handshakes: HashMap<PeerId, (Step, Instant)>,
}

impl Acquaintances {
    /// Nobody has been heard of yet.
    pub(super) fn new(own: PeerId) -> Self {
        Self { heard: Buckets::new(own), handshakes: HashMap::new() }
    }

    /// The peers heard of.
    pub(super) fn heard(&self) -> &Buckets<Instant> {
        &self.heard
    }

    /// A peer was heard of. It gets a place in its bucket if one is free, or has been held for
    /// long by another one.
    pub(super) fn hear(&mut self, now: Instant, id: PeerId) {
        if let Some(heard) = self.heard.get_mut(&id) {
            *heard = now;
            return;
        }
        let bucket = self.heard.bucket_of(&id);
        if bucket.len() >= BUCKET_SIZE {
            let oldest = bucket.iter().min_by_key(|(_, heard)| *heard).copied();
            match oldest {
                Some((oldest, heard)) if now.saturating_duration_since(heard) > HEARSAY_LIFE => {
                    self.heard.remove(&oldest);
                }
                _ => return,
            }
        }
        self.heard.insert(id, now);
    }

    /// A peer became a neighbour, or is known to have left.
    pub(super) fn forget(&mut self, id: &PeerId) {
        self.heard.remove(id);
        self.handshakes.remove(id);
    }

    /// How far the handshake with this peer has come.
    pub(super) fn step(&self, id: &PeerId) -> Option<Step> {
        self.handshakes.get(id).map(|(step, _)| *step)
    }

    /// A handshake comes this far. Returns whether there was room for it.
    pub(super) fn set_step(&mut self, now: Instant, id: PeerId, step: Step) -> bool {
        if self.handshakes.len() >= MAX_HANDSHAKES && !self.handshakes.contains_key(&id) {
            return false;
        }
        let patience = if step == Step::Unreachable { UNREACHABLE_FOR } else { HANDSHAKE_PATIENCE };
        self.handshakes.insert(id, (step, now + patience));
        true
    }

    /// How many handshakes this peer has begun that may still lead to a channel.
    pub(super) fn under_way(&self) -> usize {
        let is_under_way = |step| matches!(step, Step::Offered | Step::Dialing);
        self.handshakes.values().filter(|(step, _)| is_under_way(*step)).count()
    }

    /// Whether such a handshake is with a peer of the bucket that `id` belongs to.
    pub(super) fn is_under_way_near(&self, id: &PeerId) -> bool {
        let own = self.heard.own();
        let bucket = own.common_bits(id);
        self.handshakes.iter().any(|(other, (step, _))| {
            matches!(step, Step::Offered | Step::Dialing) && own.common_bits(other) == bucket
        })
    }

    /// Gives up the handshakes that took too long. Who did not answer is not there any more.
    pub(super) fn expire(&mut self, now: Instant) {
        let heard = &mut self.heard;
        self.handshakes.retain(|id, (step, until)| {
            let is_over = *until <= now;
            if is_over && *step == Step::Offered {
                heard.remove(id);
            }
            !is_over
        });
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
        let mut known = Acquaintances::new(own);
        let now = Instant::now();
        let first: Vec<_> = (0..10).map(|_| PeerId::random(&mut random)).collect();
        first.iter().for_each(|id| known.hear(now, *id));
        for _ in 0..20_000 {
            let id = PeerId::random(&mut random);
            known.hear(now, id);
            known.set_step(now, id, Step::Answered);
        }
        assert!(known.heard().len() < 20 * BUCKET_SIZE, "{}", known.heard().len());
        assert!(first.iter().all(|id| known.heard().get(id).is_some()));
        assert_eq!(known.handshakes.len(), MAX_HANDSHAKES);
        known.expire(now + HANDSHAKE_PATIENCE);
        assert_eq!(known.handshakes.len(), 0);
        // Old hearsay makes room.
        let late = now + HEARSAY_LIFE * 2;
        let id = PeerId::random(&mut random);
        known.hear(late, id);
        assert!(known.heard().get(&id).is_some());
    }

    #[test]
    fn who_does_not_answer_is_forgotten() {
        let (own, other) = (PeerId::from_bytes([0; 20]), PeerId::from_bytes([1; 20]));
        let mut known = Acquaintances::new(own);
        let now = Instant::now();
        known.hear(now, other);
        known.set_step(now, other, Step::Offered);
        assert_eq!((known.under_way(), known.step(&other)), (1, Some(Step::Offered)));
        known.expire(now + HANDSHAKE_PATIENCE);
        assert_eq!((known.under_way(), known.step(&other)), (0, None));
        assert!(known.heard().is_empty());
    }
}
