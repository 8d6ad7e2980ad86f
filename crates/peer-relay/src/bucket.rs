//! IDs around one's own, in k-buckets, and those closest to any target.
//!
//! A bucket holds the IDs that have equally many bits in common with the own one. Kept sorted,
//! the IDs of a bucket, and of everything else that shares a prefix, stand side by side: so one
//! sorted vector is all buckets at once, and the walk to the closest IDs visits only those.

use std::cmp::Ordering;

use super::id::{ID_BITS, PeerId};

/// How many IDs of a bucket are remembered that were only heard of.
pub(crate) const BUCKET_SIZE: usize = 20;

/// A table of IDs with something for each.
#[derive(Debug)]
pub(crate) struct Buckets<T> {
    own: PeerId,
    entries: Vec<(PeerId, T)>,
}

impl<T> Buckets<T> {
    /// An empty table around `own`.
    pub(crate) fn new(own: PeerId) -> Self {
        Self { own, entries: Vec::new() }
    }

    /// The ID that the table is around; it is never in it.
    pub(crate) fn own(&self) -> &PeerId {
        &self.own
    }

    /// How many IDs there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is there for this ID.
    pub(crate) fn get(&self, id: &PeerId) -> Option<&T> {
        self.find(id).ok().map(|at| &self.entries[at].1)
    }

    /// Puts an ID in, and returns what was there for it. The own ID is not taken.
    pub(crate) fn insert(&mut self, id: PeerId, value: T) -> Option<T> {
        if id == self.own {
            return None;
        }
        match self.find(&id) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (id, value));
                None
            }
        }
    }

    /// Takes an ID out.
    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<T> {
        self.find(id).ok().map(|at| self.entries.remove(at).1)
    }

    /// All IDs, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &T)> {
        self.entries.iter().map(|(id, value)| (id, value))
    }

    /// The IDs of the bucket that `id` belongs to: those with as many bits in common with the own
    /// ID as `id` has.
    pub(crate) fn bucket_of(&self, id: &PeerId) -> &[(PeerId, T)] {
        let common = (self.own.common_bits(id) + 1).min(ID_BITS);
        let is_in = |other: &PeerId| other.common_bits(id) >= common;
        let from = self.entries.partition_point(|(other, _)| other < id && !is_in(other));
        let to = self.entries.partition_point(|(other, _)| other <= id || is_in(other));
        &self.entries[from..to]
    }

    /// All IDs, the one closest to `target` first. Only what is taken is worked out.
    pub(crate) fn closest(&self, target: PeerId) -> Closest<'_, T> {
        Closest { target, waiting: vec![&self.entries] }
    }

    fn find(&self, id: &PeerId) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(id))
    }
}

/// Iterator of [`Buckets::closest`].
#[derive(Debug)]
pub(crate) struct Closest<'a, T> {
    target: PeerId,
    /// Runs of IDs that share a prefix; the nearest is the last.
    waiting: Vec<&'a [(PeerId, T)]>,
}

impl<'a, T> Iterator for Closest<'a, T> {
    type Item = (&'a PeerId, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let run = self.waiting.pop()?;
            let (first, last) = match run {
                [] => continue,
                [(id, value)] => return Some((id, value)),
                [first, .., last] => (&first.0, &last.0),
            };
            // All IDs between two share what those two share. Those whose next bit is the
            // target's are nearer than all others, whatever stands behind it.
            let bit = first.common_bits(last);
            let (zeros, ones) = run.split_at(run.partition_point(|(id, _)| !id.bit(bit)));
            let (near, far) = if self.target.bit(bit) { (ones, zeros) } else { (zeros, ones) };
            self.waiting.push(far);
            self.waiting.push(near);
        }
    }
}

/// The IDs of two tables in one order, the one closest to `target` first; an ID of both once.
pub(crate) fn closest_of_both<A, B>(
    target: PeerId,
    a: &Buckets<A>,
    b: &Buckets<B>,
) -> impl Iterator<Item = PeerId> {
    let mut a = a.closest(target).map(|(id, _)| *id).peekable();
    let mut b = b.closest(target).map(|(id, _)| *id).peekable();
    std::iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (Some(a), Some(b)) => target.distance(a).cmp(&target.distance(b)),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => a.next(),
            Ordering::Greater => b.next(),
            Ordering::Equal => a.next().and(b.next()),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::id::tests::ids;
    use super::*;

    fn table(own: PeerId, ids: &[PeerId]) -> Buckets<()> {
        let mut buckets = Buckets::new(own);
        for id in ids {
            buckets.insert(*id, ());
        }
        buckets
    }

    /// What the table must hold, in the order of the distance to `target`.
    fn sorted(own: PeerId, ids: &[PeerId], target: PeerId) -> Vec<PeerId> {
        let mut ids: Vec<_> = ids.iter().copied().filter(|id| *id != own).collect();
        ids.sort_by_key(|id| id.distance(&target));
        ids.dedup();
        ids
    }

    proptest! {
        #[test]
        fn the_closest_come_first(own in ids(), known in vec(ids(), 0..60), target in ids()) {
            let buckets = table(own, &known);
            let closest: Vec<_> = buckets.closest(target).map(|(id, ())| *id).collect();
            prop_assert_eq!(closest, sorted(own, &known, target));
        }

        #[test]
        fn two_tables_are_read_as_one(
            own in ids(), first in vec(ids(), 0..30), second in vec(ids(), 0..30), target in ids(),
        ) {
            let shared = [&first[..first.len() / 2], &second].concat();
            let (a, b) = (table(own, &first), table(own, &shared));
            let all = sorted(own, &[first, shared].concat(), target);
            prop_assert_eq!(closest_of_both(target, &a, &b).collect::<Vec<_>>(), all);
        }

        #[test]
        fn every_id_is_in_its_bucket_only(own in ids(), known in vec(ids(), 0..60), id in ids()) {
            let buckets = table(own, &known);
            let bucket: Vec<_> = buckets.bucket_of(&id).iter().map(|(id, ())| *id).collect();
            let mut expected: Vec<_> = buckets.iter().map(|(id, ())| *id).collect();
            expected.retain(|other| own.common_bits(other) == own.common_bits(&id));
            prop_assert_eq!(bucket, expected);
        }

        #[test]
        fn what_goes_in_comes_out(own in ids(), known in vec(ids(), 1..40), gone in any::<u64>()) {
            let mut buckets = table(own, &known);
            let id = known[gone as usize % known.len()];
            prop_assert_eq!(buckets.get(&id).is_some(), id != own);
            prop_assert_eq!(buckets.remove(&id).is_some(), id != own);
            prop_assert_eq!(buckets.remove(&id), None);
            let rest: Vec<_> = known.iter().copied().filter(|other| *other != id).collect();
            prop_assert_eq!(buckets.len(), sorted(own, &rest, own).len());
        }
    }
}
