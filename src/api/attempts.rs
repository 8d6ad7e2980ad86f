//! Requests with a wrong token, limited by address, so that tokens cannot be guessed.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moka::sync::Cache;

/// The time for which an address that has failed too often is not listened to, and within which its
/// failures are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses whose failures are remembered.
const MAX_ADDRESSES: u64 = 65_536;

/// The failures of each address within a minute of its first.
pub(super) struct Attempts {
    max_failures: usize,
    failures: Cache<IpAddr, Arc<AtomicUsize>>,
}

impl Attempts {
    pub(super) fn new(max_failures: usize) -> Self {
        let failures = Cache::builder().max_capacity(MAX_ADDRESSES).time_to_live(WINDOW).build();
        Self { max_failures, failures }
    }

    /// Whether the address has failed too often.
    pub(super) fn are_exhausted(&self, address: IpAddr) -> bool {
        let failures = self.failures.get(&network(address));
        failures.is_some_and(|failures| failures.load(Ordering::Relaxed) >= self.max_failures)
    }

    /// Counts a failure.
    pub(super) fn record_failure(&self, address: IpAddr) {
        let failures = self.failures.get_with(network(address), Arc::default);
        failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the network that counts as one address: 64 bits of IPv6 (RFC 4291, 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_number() {
        let attempts = Attempts::new(2);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|it| it.parse().unwrap());
        attempts.record_failure(one);
        assert!(!attempts.are_exhausted(one));
        attempts.record_failure(same);
        assert!(attempts.are_exhausted(one) && attempts.are_exhausted(same));
        assert!(!attempts.are_exhausted(other));
    }
}
