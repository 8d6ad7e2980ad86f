//! Limits per client address: requests in a second, and bytes of incomplete bodies.
//!
//! Addresses are in a cache of limited size. To be evicted from it and so have full limits again
//! takes more addresses than the cache holds.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::error::ApiError;

/// The most addresses in the cache.
const MAX_ADDRESSES: u64 = 65_536;

/// How long an address without requests is cached; its rate limit is unused by then.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of incomplete bodies from one address: many of usual size, and some of the
/// largest.
const MAX_INCOMPLETE_BYTES: usize = 8 << 20;

/// The addresses that have sent requests.
pub(super) struct ClientAddresses {
    known: Cache<IpAddr, Arc<ClientAddress>>,
    quota: Option<Quota>,
}

/// One address.
pub(super) struct ClientAddress {
    requests: Option<DefaultDirectRateLimiter>,
    incomplete_bytes: AtomicUsize,
}

impl ClientAddresses {
    /// `None` for no limit of requests in a second.
    pub(super) fn new(max_requests_per_second: Option<NonZeroU32>) -> Self {
        let known = Cache::builder()
            .max_capacity(MAX_ADDRESSES)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE_TIMEOUT)
            .build();
        Self { known, quota: max_requests_per_second.map(Quota::per_second) }
    }

    /// Returns the limits of the client at `address`.
    pub(super) fn get(&self, address: IpAddr) -> Arc<ClientAddress> {
        self.known.get_with(client(address), || {
            let requests = self.quota.map(RateLimiter::direct);
            Arc::new(ClientAddress { requests, incomplete_bytes: AtomicUsize::new(0) })
        })
    }
}

impl ClientAddress {
    /// Counts a request.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`].
    pub(super) fn check_rate(&self) -> Result<(), ApiError> {
        match &self.requests {
            Some(requests) if requests.check().is_err() => Err(ApiError::TooManyRequests),
            _ => Ok(()),
        }
    }
}

/// Returns what identifies a client: its IPv4 address, or the 64 bits of its IPv6 address that name
/// the network, within which it may have any number of addresses (RFC 4291, 2.5.4).
fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The part of a body that was received so far; releases its bytes when dropped.
pub(super) struct IncompleteBody {
    address: Arc<ClientAddress>,
    bytes: Vec<u8>,
}

impl IncompleteBody {
    pub(super) fn new(address: Arc<ClientAddress>) -> Self {
        Self { address, bytes: Vec::new() }
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// [`ApiError::TooManyBodies`] if the address has too many incomplete bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let add =
            |now: usize| now.checked_add(bytes.len()).filter(|sum| *sum <= MAX_INCOMPLETE_BYTES);
        let order = Ordering::Relaxed;
        let added = self.address.incomplete_bytes.fetch_update(order, order, add);
        added.map_err(|_| ApiError::TooManyBodies)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the complete body.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.release();
        std::mem::take(&mut self.bytes)
    }

    fn release(&self) {
        self.address.incomplete_bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Drop for IncompleteBody {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(limit: u32) -> ClientAddresses {
        ClientAddresses::new(NonZeroU32::new(limit))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let addresses = addresses(1);
        let allowed =
            |from: &str| (0..10).filter(|_| addresses.get(ip(from)).check_rate().is_ok()).count();
        // One, and one more for each second that this takes.
        assert!((1..8).contains(&allowed("10.0.0.1")));
        assert!((1..8).contains(&allowed("10.0.0.2")));
        assert!((1..8).contains(&allowed("2001:db8::1")));
    }

    #[test]
    fn one_network_is_one_client() {
        assert_eq!(client(ip("2001:db8::1")), client(ip("2001:db8::ffff:1")));
        assert_ne!(client(ip("2001:db8::1")), client(ip("2001:db8:0:1::1")));
        assert_ne!(client(ip("10.0.0.1")), client(ip("10.0.0.2")));
    }

    #[test]
    fn without_a_limit_every_request_is_allowed() {
        let addresses = addresses(0);
        assert!((0..10_000).all(|_| addresses.get(ip("10.0.0.1")).check_rate().is_ok()));
    }

    #[test]
    fn incomplete_bodies_are_bounded_and_release_their_bytes() {
        let address = addresses(0).get(ip("10.0.0.1"));
        let chunk = vec![0; 1 << 20];
        let mut bodies: Vec<_> = (0..9).map(|_| IncompleteBody::new(address.clone())).collect();
        for body in &mut bodies[..8] {
            body.push(&chunk).unwrap();
        }
        assert_eq!(bodies[8].push(&chunk), Err(ApiError::TooManyBodies));
        assert_eq!(bodies.remove(0).finish().len(), chunk.len());
        bodies[7].push(&chunk).unwrap();
        drop(bodies);
        assert_eq!(address.incomplete_bytes.load(Ordering::Relaxed), 0);
    }
}
