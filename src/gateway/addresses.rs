//! Limits per address, so that one address cannot take the service from others.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits. The table of addresses is bounded:
//! beyond its size, addresses without connections are removed, and only their connection rate is
//! lost.
//!
//! If no proxy is configured, private addresses have no limits: one of them is probably a proxy,
//! for example in a network of containers, and all its clients would count as one. This machine's
//! own address may be a proxy too: it may take all connections and channels unless its limits are
//! set.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::rejection::Rejection;
use super::settings::ListenerSettings;
use crate::bans::Bans;
use crate::protocol::Handshake;

/// From this number of addresses on, those that hold nothing are removed.
const MAX_IDLE_ADDRESSES: usize = 65_536;

/// How many seconds' worth of connects an address may make at once.
const CONNECT_BURST_SECONDS: u32 = 5;

/// How many nodes of an address may wait to be admitted for each that is being admitted.
const MAX_WAITING_PER_ADMISSION: usize = 8;

/// How long a node may wait for others of its address to be admitted.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The most connections of an address that get the response that there are too many, at a time.
const MAX_REFUSALS: usize = 4;

/// The most failed authentications that are remembered.
const MAX_FAILURES: u64 = 65_536;

/// What one address may take of a total by default: this share, as a divisor, or all up to this number.
const SHARE: usize = 4;
const ALWAYS: usize = 100;

/// What an address can hold a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    Connection = 0,
    UnfinishedHead = 1,
    /// A connection that gets the response why it is rejected.
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
    /// The same for this machine as long as no proxy is named.
    own_limits: [usize; HOLDINGS],
    max_admissions: usize,
    connects: Option<Quota>,
    table: Mutex<Table>,
    /// Hashes of handshakes whose authentication failed a moment ago, with their addresses.
    failures: Option<Cache<u64, ()>>,
    hasher: RandomState,
    bans: Option<Bans>,
}

struct Table {
    known: HashMap<IpAddr, Arc<Address>>,
    /// The size at which idle addresses are forgotten.
    forget_at: usize,
}

struct Address {
    origin: Origin,
    connects: Option<DefaultDirectRateLimiter>,
    held: [AtomicUsize; HOLDINGS],
    admissions: Semaphore,
}

/// Where an address is, as far as its limits depend on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Anywhere, or all proxies are known.
    Outside,
    /// On this machine; may be a proxy.
    ThisMachine,
    /// In a private network; may be a proxy.
    Private,
}

/// Something that an address holds, until it is dropped.
pub(super) struct Permit {
    address: Arc<Address>,
    holding: Holding,
}

/// The right to be authenticated now, until it is dropped.
pub(crate) struct AdmissionPermit(Permit);

impl Addresses {
    /// Creates the table for a listener with at most `connections`, and a network with at most
    /// `channels`.
    pub(crate) fn new(settings: ListenerSettings, connections: usize, channels: usize) -> Self {
        let limits = &settings.limits;
        let share = |total: usize| (total / SHARE).max(ALWAYS.min(total));
        let max_admissions = limits.max_admissions.min(Semaphore::MAX_PERMITS);
        let failures = (!limits.failure_ttl.is_zero()).then(|| {
            Cache::builder().max_capacity(MAX_FAILURES).time_to_live(limits.failure_ttl).build()
        });
        let with = |connections, channels| {
            [
                limits.max_connections.unwrap_or(connections),
                limits.max_unfinished_heads,
                MAX_REFUSALS,
                max_admissions.saturating_mul(1 + MAX_WAITING_PER_ADMISSION),
                limits.max_channels.unwrap_or(channels),
            ]
        };
        Self {
            limits: with(share(connections), share(channels)),
            own_limits: with(usize::MAX, usize::MAX),
            max_admissions,
            connects: limits.max_connects_per_second.map(|connects| {
                let burst = connects
                    .saturating_mul(NonZeroU32::MIN.saturating_add(CONNECT_BURST_SECONDS - 1));
                Quota::per_second(connects).allow_burst(burst)
            }),
            table: Mutex::new(Table { known: HashMap::new(), forget_at: MAX_IDLE_ADDRESSES }),
            failures,
            hasher: RandomState::new(),
            bans: None,
            settings,
        }
    }

    /// The same, which also rejects the addresses in `bans`.
    pub(crate) fn with_bans(self, bans: Bans) -> Self {
        Self { bans: Some(bans), ..self }
    }

    /// Whether an operator has banned the address.
    pub(super) fn are_banned(&self, address: IpAddr) -> bool {
        self.settings.banned.contains(address)
            || self.bans.as_ref().is_some_and(|bans| bans.include_address(address))
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// The address is banned, or connects too often, or has too many connections.
    pub(super) fn connect(&self, address: IpAddr) -> Result<Permit, Rejection> {
        if self.are_banned(address) {
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
        let limit = match address.origin {
            Origin::Private if holding != Holding::Refusal => usize::MAX,
            Origin::ThisMachine => self.own_limits[index],
            _ => self.limits[index],
        };
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
        let origin = match address {
            _ if !self.settings.trusted_proxies.is_empty() => Origin::Outside,
            _ if is_private(address) => Origin::Private,
            _ if OWN_ADDRESSES.contains(&address) => Origin::ThisMachine,
            _ => Origin::Outside,
        };
        let is_limited = origin != Origin::Private;
        let max_admissions = if is_limited { self.max_admissions } else { Semaphore::MAX_PERMITS };
        let new = Arc::new(Address {
            origin,
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

/// The networks of this machine's own address.
const OWN_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

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
    use crate::gateway::AddressLimits;

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
    fn this_machine_has_all_places_until_its_limit_is_set_or_the_proxies_are_known() {
        let connections = |settings: ListenerSettings, address: &str| {
            let addresses = Addresses::new(settings, 1000, 0);
            let connect = || addresses.connect(address.parse().unwrap()).ok();
            std::iter::from_fn(connect).take(1000).collect::<Vec<_>>().len()
        };
        let default = || AddressLimits { max_connections: None, ..AddressLimits::none() };
        let unset = || ListenerSettings { limits: default(), ..ListenerSettings::default() };
        let set = AddressLimits { max_connections: Some(7), ..AddressLimits::none() };
        for own in ["127.0.0.1", "::1"] {
            assert_eq!(connections(unset(), own), 1000, "{own}");
            let limited = ListenerSettings { limits: set.clone(), ..ListenerSettings::default() };
            assert_eq!(connections(limited, own), 7, "{own}");
            let proxied =
                ListenerSettings { trusted_proxies: "192.0.2.1".parse().unwrap(), ..unset() };
            assert_eq!(connections(proxied, own), 250, "{own}");
        }
        for other in ["127.0.0.2", "192.0.2.7", "2001:db8::1"] {
            assert_eq!(connections(unset(), other), 250, "{other}");
        }
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
