//! Limits per address, so that one address takes no service from the others.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits. The table of addresses is bounded:
//! beyond its size, those that hold nothing are forgotten, and with them only how fast they connect.
//!
//! As long as no proxy is named, private addresses have no limits: one of them is most likely a proxy,
//! for example in a network of containers, and all clients would count as one.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::rejection::Rejection;
use super::settings::ListenerSettings;
use crate::protocol::Handshake;

/// From so many addresses on, those that hold nothing are forgotten.
const MAX_IDLE_ADDRESSES: usize = 65_536;

/// How many seconds' worth of connects an address may make at once.
const CONNECT_BURST_SECONDS: u32 = 5;

/// How many nodes of an address may wait to be admitted for each that is being admitted.
const MAX_WAITING_PER_ADMISSION: usize = 8;

/// How long a node may wait for others of its address to be admitted.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections of an address may be told at a time that it has too many.
const MAX_REFUSALS: usize = 4;

/// The most failed authentications that are remembered.
const MAX_FAILURES: u64 = 65_536;

/// What one address may take of a total by default: this share, as a divisor, or all up to this number.
const SHARE: usize = 4;
const ALWAYS: usize = 100;

/// What one address may do. `None` stands for a quarter of the total, or all of a small one.
#[derive(Debug, Clone)]
pub struct AddressLimits {
    /// The most connections.
    pub max_connections: Option<usize>,
    /// The most connects in a second, on average; `None` for any number.
    pub max_connects_per_second: Option<NonZeroU32>,
    /// The most connections whose first request has not come completely.
    pub max_unfinished_heads: usize,
    /// The most nodes that are being authenticated.
    pub max_admissions: usize,
    /// The most channels to the peer-relay network.
    pub max_channels: Option<usize>,
    /// How long the failure of an authentication holds for another try with the same data.
    pub failure_ttl: Duration,
}

impl AddressLimits {
    /// No limits.
    pub fn none() -> Self {
        Self {
            max_connections: Some(usize::MAX),
            max_connects_per_second: None,
            max_unfinished_heads: usize::MAX,
            max_admissions: usize::MAX,
            max_channels: Some(usize::MAX),
            failure_ttl: Duration::ZERO,
        }
    }
}

/// What an address can hold a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    Connection = 0,
    UnfinishedHead = 1,
    /// A connection that is told why it is turned away.
    Refusal = 2,
    /// A node that is being authenticated, or waits for that.
    Admission = 3,
    Channel = 4,
}

const HOLDINGS: usize = 5;

/// The addresses that clients come from.
pub(crate) struct Addresses {
    pub(super) settings: ListenerSettings,
    limits: [usize; HOLDINGS],
    max_admissions: usize,
    connects: Option<Quota>,
    table: Mutex<Table>,
    /// Hashes of handshakes whose authentication failed a moment ago, with their addresses.
    failures: Option<Cache<u64, ()>>,
    hasher: RandomState,
}

struct Table {
    known: HashMap<IpAddr, Arc<Address>>,
    /// The size at which idle addresses are forgotten.
    forget_at: usize,
}

struct Address {
    is_limited: bool,
    connects: Option<DefaultDirectRateLimiter>,
    held: [AtomicUsize; HOLDINGS],
    admissions: Semaphore,
}

/// Something that an address holds, until it is dropped.
pub(super) struct Permit {
    address: Arc<Address>,
    holding: Holding,
}

/// The right to be authenticated now, until it is dropped.
pub(crate) struct AdmissionPermit(Permit);

impl Addresses {
    /// Creates the table for a listener with so many places, and a network with so many channels.
    pub(crate) fn new(settings: ListenerSettings, places: usize, channels: usize) -> Self {
        let limits = &settings.limits;
        let share = |limit: Option<usize>, total: usize| {
            limit.unwrap_or_else(|| (total / SHARE).max(ALWAYS.min(total)))
        };
        let max_admissions = limits.max_admissions.min(Semaphore::MAX_PERMITS);
        let failures = (!limits.failure_ttl.is_zero()).then(|| {
            Cache::builder().max_capacity(MAX_FAILURES).time_to_live(limits.failure_ttl).build()
        });
        Self {
            limits: [
                share(limits.max_connections, places),
                limits.max_unfinished_heads,
                MAX_REFUSALS,
                max_admissions.saturating_mul(1 + MAX_WAITING_PER_ADMISSION),
                share(limits.max_channels, channels),
            ],
            max_admissions,
            connects: limits.max_connects_per_second.map(|connects| {
                let burst = connects
                    .saturating_mul(NonZeroU32::MIN.saturating_add(CONNECT_BURST_SECONDS - 1));
                Quota::per_second(connects).allow_burst(burst)
            }),
            table: Mutex::new(Table { known: HashMap::new(), forget_at: MAX_IDLE_ADDRESSES }),
            failures,
            hasher: RandomState::new(),
            settings,
        }
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// The address is banned, or connects too often, or has too many connections.
    pub(super) fn connect(&self, address: IpAddr) -> Result<Permit, Rejection> {
        if self.settings.banned.contains(address) {
            return Err(Rejection::BannedAddress);
        }
        let address = self.get(address);
        if address.connects.as_ref().is_some_and(|connects| connects.check().is_err()) {
            return Err(Rejection::AddressConnectRate);
        }
        self.hold_at(address, Holding::Connection)
    }

    /// Gives an address one more of something.
    ///
    /// # Errors
    /// It has too many.
    pub(super) fn hold(&self, address: IpAddr, holding: Holding) -> Result<Permit, Rejection> {
        self.hold_at(self.get(address), holding)
    }

    fn hold_at(&self, address: Arc<Address>, holding: Holding) -> Result<Permit, Rejection> {
        let index = holding as usize;
        let is_limited = address.is_limited || holding == Holding::Refusal;
        let limit = if is_limited { self.limits[index] } else { usize::MAX };
        let more = |held| (held < limit).then_some(held + 1);
        match address.held[index].fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Permit { address, holding }),
            Err(_) => Err(match holding {
                Holding::Connection => Rejection::AddressConnections,
                Holding::UnfinishedHead => Rejection::AddressUnfinishedHeads,
                Holding::Refusal => Rejection::Full,
                Holding::Admission => Rejection::AddressAdmissions,
                Holding::Channel => Rejection::AddressChannels,
            }),
        }
    }

    /// Waits until a node of this address may be authenticated.
    ///
    /// # Errors
    /// [`Rejection::AddressAdmissions`] if too many wait already, or it takes too long.
    pub(super) async fn admission(&self, address: IpAddr) -> Result<AdmissionPermit, Rejection> {
        let waiting = self.hold(address, Holding::Admission)?;
        let turn = waiting.address.admissions.acquire();
        match tokio::time::timeout(ADMISSION_TIMEOUT, turn).await {
            Ok(Ok(turn)) => turn.forget(),
            _ => return Err(Rejection::AddressAdmissions),
        }
        Ok(AdmissionPermit(waiting))
    }

    /// Remembers for a moment that a node could not be authenticated.
    pub(super) fn remember_failure(&self, address: IpAddr, handshake: &Handshake) {
        if let Some(failures) = &self.failures {
            failures.insert(self.hash(address, handshake), ());
        }
    }

    /// Whether the same node, with the same data, could not be authenticated a moment ago.
    pub(super) fn has_failed(&self, address: IpAddr, handshake: &Handshake) -> bool {
        let failures = self.failures.as_ref();
        failures.is_some_and(|failures| failures.contains_key(&self.hash(address, handshake)))
    }

    fn hash(&self, address: IpAddr, handshake: &Handshake) -> u64 {
        let Handshake { id, version, runtime, data, .. } = handshake;
        self.hasher.hash_one((network(address), id, version, runtime, data))
    }

    fn get(&self, address: IpAddr) -> Arc<Address> {
        let address = network(address);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.known.get(&address) {
            return known.clone();
        }
        if table.known.len() >= table.forget_at {
            table.known.retain(|_, address| Arc::strong_count(address) > 1);
            table.forget_at = (2 * table.known.len()).max(MAX_IDLE_ADDRESSES);
        }
        let is_limited = !self.settings.trusted_proxies.is_empty() || !is_private(address);
        let max_admissions = if is_limited { self.max_admissions } else { Semaphore::MAX_PERMITS };
        let new = Arc::new(Address {
            is_limited,
            connects: self.connects.filter(|_| is_limited).map(RateLimiter::direct),
            held: Default::default(),
            admissions: Semaphore::new(max_admissions),
        });
        table.known.insert(address, new.clone());
        new
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.address.held[self.holding as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.0.address.admissions.add_permits(1);
    }
}

/// Returns the network that counts as one address. A customer has all of an IPv6 network of 64 bits
/// (RFC 4291, 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Whether an address is of a private network (RFC 1918; RFC 4193). The loopback address is not.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(limits: AddressLimits) -> Addresses {
        Addresses::new(ListenerSettings { limits, ..ListenerSettings::default() }, 1000, 0)
    }

    #[test]
    fn one_network_is_one_address() {
        let addresses =
            addresses(AddressLimits { max_connections: Some(1), ..AddressLimits::none() });
        let connect = |address: &str| addresses.connect(address.parse().unwrap());
        let held = connect("2001:db8::1").unwrap();
        assert_eq!(connect("2001:db8::ffff:1").err(), Some(Rejection::AddressConnections));
        for other in ["2001:db8:0:1::1", "10.0.0.1", "10.0.0.2"] {
            connect(other).unwrap();
        }
        drop(held);
        connect("2001:db8::2").unwrap();
    }

    #[tokio::test]
    async fn private_addresses_are_limited_once_the_proxies_are_known() {
        let limits = || AddressLimits {
            max_connections: Some(1),
            max_connects_per_second: NonZeroU32::new(1),
            max_admissions: 1,
            ..AddressLimits::none()
        };
        let addresses = addresses(limits());
        let proxy = IpAddr::from([172, 18, 0, 2]);
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(addresses.connect(proxy).unwrap());
        }
        let _admissions =
            (addresses.admission(proxy).await.unwrap(), addresses.admission(proxy).await.unwrap());
        let trusted_proxies = "10.0.0.1".parse().unwrap();
        let settings =
            ListenerSettings { trusted_proxies, limits: limits(), ..ListenerSettings::default() };
        let addresses = Addresses::new(settings, 1000, 0);
        let _held = addresses.connect(proxy).unwrap();
        assert_eq!(addresses.connect(proxy).err(), Some(Rejection::AddressConnections));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_none_that_hold_something() {
        let addresses = addresses(AddressLimits::none());
        let holder = IpAddr::from([10, 0, 0, 1]);
        let held = addresses.connect(holder).unwrap();
        for number in 0..2 * MAX_IDLE_ADDRESSES as u32 {
            addresses.connect(IpAddr::from(number.to_be_bytes())).unwrap();
        }
        let table = addresses.table.lock().unwrap();
        assert!(table.known.len() <= MAX_IDLE_ADDRESSES);
        assert!(table.known.contains_key(&holder));
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_waits_for_others_of_its_address_only_so_long() {
        let addresses = addresses(AddressLimits { max_admissions: 1, ..AddressLimits::none() });
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = addresses.admission(address).await.unwrap();
        let second = addresses.admission(address).await;
        assert_eq!(second.err(), Some(Rejection::AddressAdmissions));
        drop(first);
        addresses.admission(address).await.unwrap();
    }
}
