//! What one client's address may cost: requests per second, and bodies that are not complete.
//!
//! Addresses are kept in a cache of limited size. Whoever is pushed out of it begins anew, which
//! needs more addresses than the cache has places.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::fault::Fault;

/// How many addresses are told apart at a time.
const MAX_ADDRESSES: u64 = 65_536;

/// How long an address without requests is remembered; its allowance is full again by then.
const IDLE: Duration = Duration::from_secs(60);

/// The most bytes of incomplete bodies from one address: many of usual size, and some of the
/// largest.
const MAX_UNFINISHED_BYTES: usize = 8 << 20;

/// All addresses; a cheap handle.
#[derive(Clone)]
pub(super) struct Addresses {
    known: Cache<IpAddr, Arc<Address>>,
    quota: Option<Quota>,
}

/// One of them.
pub(super) struct Address {
    requests: Option<DefaultDirectRateLimiter>,
    unfinished_bytes: AtomicUsize,
}

impl Addresses {
    /// With at most so many requests in a second from each; none for no limit.
    pub(super) fn new(max_requests_per_second: Option<NonZeroU32>) -> Self {
        let known = Cache::builder()
            .max_capacity(MAX_ADDRESSES)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE)
            .build();
        Self { known, quota: max_requests_per_second.map(Quota::per_second) }
    }

    /// A request came from `address`.
    ///
    /// # Errors
    /// [`Fault::TooManyRequests`].
    pub(super) fn request(&self, address: IpAddr) -> Result<Arc<Address>, Fault> {
        let address = self.known.get_with(client(address), || {
            let requests = self.quota.map(RateLimiter::direct);
            Arc::new(Address { requests, unfinished_bytes: AtomicUsize::new(0) })
        });
        match &address.requests {
            Some(requests) if requests.check().is_err() => Err(Fault::TooManyRequests),
            _ => Ok(address),
        }
    }
}

/// What stands for one client: an IPv4 address, or the 64 bits of an IPv6 address that name its
/// network, within which it has as many addresses as it likes (RFC 4291, 2.5.4).
fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The part of a body that has come so far; gives its room back when dropped.
pub(super) struct UnfinishedBody {
    address: Arc<Address>,
    bytes: Vec<u8>,
}

impl UnfinishedBody {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self { address, bytes: Vec::new() }
    }

    /// Takes in more of it.
    ///
    /// # Errors
    /// [`Fault::TooManyBodies`] if its address has too much of them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let add =
            |now: usize| now.checked_add(bytes.len()).filter(|sum| *sum <= MAX_UNFINISHED_BYTES);
        let order = Ordering::Relaxed;
        let added = self.address.unfinished_bytes.fetch_update(order, order, add);
        added.map_err(|_| Fault::TooManyBodies)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The body, now that it is complete.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.give_back();
        std::mem::take(&mut self.bytes)
    }

    fn give_back(&self) {
        self.address.unfinished_bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Drop for UnfinishedBody {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(most: u32) -> Addresses {
        Addresses::new(NonZeroU32::new(most))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_allowance() {
        let addresses = addresses(1);
        let allowed = |from: &str| (0..10).filter(|_| addresses.request(ip(from)).is_ok()).count();
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
    fn zero_is_no_limit() {
        let addresses = addresses(0);
        assert!((0..10_000).all(|_| addresses.request(ip("10.0.0.1")).is_ok()));
    }

    #[test]
    fn unfinished_bodies_are_bounded_and_give_their_room_back() {
        let address = addresses(0).request(ip("10.0.0.1")).unwrap();
        let piece = vec![0; 1 << 20];
        let mut bodies: Vec<_> = (0..9).map(|_| UnfinishedBody::new(address.clone())).collect();
        for body in &mut bodies[..8] {
            body.push(&piece).unwrap();
        }
        assert_eq!(bodies[8].push(&piece), Err(Fault::TooManyBodies));
        assert_eq!(bodies.remove(0).finish().len(), piece.len());
        bodies[7].push(&piece).unwrap();
        drop(bodies);
        assert_eq!(address.unfinished_bytes.load(Ordering::Relaxed), 0);
    }
}
