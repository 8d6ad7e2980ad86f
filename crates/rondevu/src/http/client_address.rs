//! Limits per client address: requests in a second, and shares of what all clients have together.
//!
//! The table of addresses is bounded: beyond its size those that hold nothing are forgotten, and with
//! them only how fast they ask.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::byte_budget::{ByteBudget, ByteShare, Exceeded, HeldBytes, add};
use super::error::ApiError;
use super::ledger::{Ledger, Share};

/// From so many addresses on, those that hold nothing are forgotten.
const MAX_IDLE_ADDRESSES: usize = 65_536;

/// What one address may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressLimits {
    /// The most requests in a second; `None` for no limit.
    pub(super) requests_per_second: Option<NonZeroU32>,
    /// The most that it may store.
    pub(super) stored: Share,
    /// The most long polls and event streams.
    pub(super) waiting: usize,
    /// The most bytes of incomplete bodies.
    pub(super) incomplete_bytes: usize,
    /// The most bytes of responses that it has not read.
    pub(super) response_bytes: usize,
}

/// What all addresses may hold together, in bytes.
pub(super) struct Budgets {
    /// Incomplete bodies.
    pub(super) incomplete: Arc<ByteBudget>,
    /// Responses that have not been read.
    pub(super) responses: Arc<ByteBudget>,
}

/// The addresses that have sent requests.
pub(super) struct ClientAddresses {
    limits: AddressLimits,
    table: Mutex<Table>,
    ledgers: Ledger,
    budgets: Budgets,
}

struct Table {
    known: HashMap<IpAddr, Arc<ClientAddress>>,
    /// The size at which idle addresses are forgotten.
    forget_at: usize,
}

/// One address.
pub(super) struct ClientAddress {
    limits: AddressLimits,
    requests: Option<DefaultDirectRateLimiter>,
    waiting: AtomicUsize,
    incomplete: Arc<ByteShare>,
    responses: Arc<ByteShare>,
    stored: Mutex<Ledger>,
}

impl ClientAddresses {
    /// `ledger` is what an address has before it stores anything.
    pub(super) fn new(limits: AddressLimits, ledger: Ledger, budgets: Budgets) -> Self {
        let table = Table { known: HashMap::new(), forget_at: MAX_IDLE_ADDRESSES };
        Self { limits, table: Mutex::new(table), ledgers: ledger, budgets }
    }

    /// Returns the limits of the client at `address`.
    pub(super) fn get(&self, address: IpAddr) -> Arc<ClientAddress> {
        let address = client(address);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.known.get(&address) {
            return known.clone();
        }
        if table.known.len() >= table.forget_at {
            table.known.retain(|_, known| Arc::strong_count(known) > 1 || known.has_stored());
            table.forget_at = (2 * table.known.len()).max(MAX_IDLE_ADDRESSES);
        }
        let new = Arc::new(ClientAddress {
            limits: self.limits,
            requests: self
                .limits
                .requests_per_second
                .map(Quota::per_second)
                .map(RateLimiter::direct),
            waiting: AtomicUsize::new(0),
            incomplete: self.budgets.incomplete.share(self.limits.incomplete_bytes),
            responses: self.budgets.responses.share(self.limits.response_bytes),
            stored: Mutex::new(self.ledgers.clone()),
        });
        table.known.insert(address, new.clone());
        new
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

    /// Counts a long poll or an event stream.
    ///
    /// # Errors
    /// [`ApiError::TooManyWaitingOfAddress`].
    pub(super) fn wait(self: Arc<Self>) -> Result<Waiting, ApiError> {
        if add(&self.waiting, 1, self.limits.waiting) {
            Ok(Waiting(self))
        } else {
            Err(ApiError::TooManyWaitingOfAddress)
        }
    }

    /// Reserves a part of what the address may store, until that expires.
    ///
    /// # Errors
    /// [`ApiError::TooManySessionsOfAddress`], [`ApiError::TooManyBytesOfAddress`].
    pub(super) fn store(self: Arc<Self>, share: Share) -> Result<Storing, ApiError> {
        let mut ledger = self.ledger();
        let stored = ledger.stored();
        if share.sessions > self.limits.stored.sessions.saturating_sub(stored.sessions) {
            return Err(ApiError::TooManySessionsOfAddress);
        }
        if share.bytes > self.limits.stored.bytes.saturating_sub(stored.bytes) {
            return Err(ApiError::TooManyBytesOfAddress);
        }
        let period = ledger.add(share);
        drop(ledger);
        Ok(Storing { address: self, period, share, is_stored: false })
    }

    /// Returns what a body holds of which nothing has come.
    pub(super) fn receive(&self) -> HeldBytes {
        self.incomplete.hold_nothing()
    }

    /// Holds the bytes of a response until they have been written.
    ///
    /// # Errors
    /// [`ApiError::TooManyResponsesOfAddress`], [`ApiError::TooManyResponses`].
    pub(super) fn respond(&self, bytes: usize) -> Result<HeldBytes, ApiError> {
        self.responses.hold(bytes).map_err(|exceeded| match exceeded {
            Exceeded::Share => ApiError::TooManyResponsesOfAddress,
            Exceeded::Budget => ApiError::TooManyResponses,
        })
    }

    fn has_stored(&self) -> bool {
        self.ledger().stored() != Share::default()
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A long poll or an event stream of an address, until it is dropped.
pub(super) struct Waiting(Arc<ClientAddress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that an address is about to store. Unless it is stored, its share is released on drop.
pub(super) struct Storing {
    address: Arc<ClientAddress>,
    period: u64,
    share: Share,
    is_stored: bool,
}

impl Storing {
    /// Notes that it has been stored.
    pub(super) fn done(mut self) {
        self.is_stored = true;
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        if !self.is_stored {
            self.address.ledger().remove(self.period, self.share);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn addresses(limit: u32) -> ClientAddresses {
        let limits = AddressLimits {
            requests_per_second: NonZeroU32::new(limit),
            stored: Share { sessions: 2, bytes: 100 },
            waiting: 2,
            incomplete_bytes: 8,
            response_bytes: 8,
        };
        let budget = || ByteBudget::new(12, Gauge::default());
        let budgets = Budgets { incomplete: budget(), responses: budget() };
        ClientAddresses::new(limits, Ledger::new(HOUR), budgets)
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
    fn an_address_has_its_share_and_no_more() {
        let addresses = addresses(0);
        let store = |from: &str, bytes| addresses.get(ip(from)).store(Share { sessions: 1, bytes });
        store("10.0.0.1", 60).unwrap().done();
        assert_eq!(store("10.0.0.1", 41).err(), Some(ApiError::TooManyBytesOfAddress));
        let second = store("10.0.0.1", 40).unwrap();
        assert_eq!(store("10.0.0.1", 0).err(), Some(ApiError::TooManySessionsOfAddress));
        store("10.0.0.2", 100).unwrap().done();
        // What was not stored is free again.
        drop(second);
        store("10.0.0.1", 40).unwrap().done();

        let wait = |from: &str| addresses.get(ip(from)).wait();
        let waiting = (wait("10.0.0.1").unwrap(), wait("10.0.0.1").unwrap());
        assert_eq!(wait("10.0.0.1").err(), Some(ApiError::TooManyWaitingOfAddress));
        wait("10.0.0.2").unwrap();
        drop(waiting);
        wait("10.0.0.1").unwrap();
    }

    #[test]
    fn unread_responses_are_bounded_by_address_and_in_total() {
        let addresses = addresses(0);
        let respond = |from: &str, bytes| addresses.get(ip(from)).respond(bytes);
        let first = respond("10.0.0.1", 8).unwrap();
        let more = respond("10.0.0.1", 1).err();
        assert_eq!(more, Some(ApiError::TooManyResponsesOfAddress));
        let second = respond("10.0.0.2", 4).unwrap();
        assert_eq!(respond("10.0.0.2", 1).err(), Some(ApiError::TooManyResponses));
        drop((first, second));
        respond("10.0.0.1", 8).unwrap();
    }

    #[test]
    fn addresses_that_hold_something_are_not_forgotten() {
        let addresses = addresses(0);
        let waiting = addresses.get(ip("10.0.0.1")).wait().unwrap();
        addresses.get(ip("10.0.0.2")).store(Share { sessions: 1, bytes: 1 }).unwrap().done();
        for number in 0..2 * MAX_IDLE_ADDRESSES as u32 {
            addresses.get(IpAddr::from(number.to_be_bytes()));
        }
        let table = addresses.table.lock().unwrap();
        assert!(table.known.len() <= MAX_IDLE_ADDRESSES);
        assert!(["10.0.0.1", "10.0.0.2"].iter().all(|it| table.known.contains_key(&ip(it))));
        drop(waiting);
    }
}
