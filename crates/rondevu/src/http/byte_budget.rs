//! Bytes that clients make the server hold: a total for all, and a share of it for each address.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The bytes that all addresses hold together.
pub(super) struct ByteBudget {
    held: AtomicUsize,
    limit: usize,
    gauge: Gauge,
}

/// The bytes that one address holds.
pub(super) struct ByteShare {
    held: AtomicUsize,
    limit: usize,
    budget: Arc<ByteBudget>,
}

/// Bytes that are held; released on drop.
pub(super) struct HeldBytes {
    share: Arc<ByteShare>,
    bytes: usize,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// That of the address.
    Share,
    /// That of all addresses together.
    Budget,
}

/// Adds to a count if the sum is within the limit.
pub(super) fn add(count: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let sum = |now: usize| now.checked_add(amount).filter(|sum| *sum <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

impl ByteBudget {
    /// A budget of `limit` bytes. `gauge` shows how many are held.
    pub(super) fn new(limit: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit, gauge })
    }

    /// Returns the share of an address that holds nothing, of at most `limit` bytes.
    pub(super) fn share(self: &Arc<Self>, limit: usize) -> Arc<ByteShare> {
        Arc::new(ByteShare { held: AtomicUsize::new(0), limit, budget: self.clone() })
    }
}

impl ByteShare {
    /// Holds `bytes` more.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Result<HeldBytes, Exceeded> {
        let mut held = self.hold_nothing();
        held.grow(bytes)?;
        Ok(held)
    }

    /// Returns what may grow.
    pub(super) fn hold_nothing(self: &Arc<Self>) -> HeldBytes {
        HeldBytes { share: self.clone(), bytes: 0 }
    }
}

impl HeldBytes {
    /// Holds `bytes` more, or no more than before.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let ByteShare { held, limit, budget } = &*self.share;
        if !add(held, bytes, *limit) {
            return Err(Exceeded::Share);
        }
        if !add(&budget.held, bytes, budget.limit) {
            held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exceeded::Budget);
        }
        budget.gauge.inc_by(bytes as i64);
        self.bytes += bytes;
        Ok(())
    }

    /// Splits off up to `bytes`, to be released on their own.
    pub(super) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { share: self.share.clone(), bytes }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let ByteShare { held, budget, .. } = &*self.share;
        held.fetch_sub(self.bytes, Ordering::Relaxed);
        budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        budget.gauge.dec_by(self.bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_all_have_the_budget() {
        let gauge = Gauge::default();
        let budget = ByteBudget::new(12, gauge.clone());
        let (one, other) = (budget.share(8), budget.share(8));
        let mut first = one.hold(6).unwrap();
        assert_eq!(first.grow(3), Err(Exceeded::Share));
        first.grow(2).unwrap();
        let second = other.hold(4).unwrap();
        assert_eq!(other.hold(1).err(), Some(Exceeded::Budget));
        assert_eq!((other.held.load(Ordering::Relaxed), gauge.get()), (4, 12));

        let part = first.split_off(5);
        drop(first);
        assert_eq!(gauge.get(), 9);
        assert_eq!(one.hold(4).err(), Some(Exceeded::Share));
        drop((part, second));
        assert_eq!((gauge.get(), budget.held.load(Ordering::Relaxed)), (0, 0));
        one.hold(8).unwrap();
    }

    #[test]
    fn no_more_is_split_off_than_there_is() {
        let gauge = Gauge::default();
        let share = ByteBudget::new(10, gauge.clone()).share(10);
        let mut all = share.hold(3).unwrap();
        let part = all.split_off(5);
        assert_eq!((part.bytes, all.bytes), (3, 0));
        drop((all, part));
        assert_eq!(gauge.get(), 0);
    }
}
