//! How many connections each address has to a peer that listens by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of each address; a cheap handle.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection of an address, until it is dropped.
pub(super) struct AddressPermit(Addresses, IpAddr);

impl Addresses {
    /// Counts a connection; `None` if its address has `most` already.
    pub(super) fn connect(&self, address: IpAddr, most: usize) -> Option<AddressPermit> {
        let address = client(address);
        let mut counts = self.lock();
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(AddressPermit(self.clone(), address))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// Returns what identifies a client: its IPv4 address, or the 64 bits of its IPv6 address that name
/// the network, within which it may have any number of addresses (RFC 4291, 2.5.4).
pub(super) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_connections_and_a_network_counts_as_one() {
        let addresses = Addresses::default();
        let connect = |address: &str| addresses.connect(address.parse().unwrap(), 2);
        let first = (connect("10.0.0.1"), connect("::ffff:10.0.0.1"));
        assert!(first.0.is_some() && first.1.is_some() && connect("10.0.0.1").is_none());
        let second = (connect("2001:db8::1"), connect("2001:db8::2"));
        assert!(second.1.is_some() && connect("2001:db8::3").is_none());
        assert!(connect("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(connect("10.0.0.1").is_some());
        drop(second);
        assert!(addresses.lock().is_empty());
    }
}
