//! The bans that hold, by target.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::node::NodeId;

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Ban {
    /// The ban's name: `node:<ID>` or `address:<network>`.
    pub(crate) name: String,
    /// When it was set, in milliseconds since 1970.
    pub(crate) since: u64,
    /// When it ends, in milliseconds since 1970.
    pub(crate) until: u64,
    /// Why it was set, as the operator says.
    pub(crate) reason: String,
}

/// Bans by target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    bans: BTreeMap<Target, Ban>,
    /// How many bits the banned networks have: few different numbers, so that an address is looked
    /// up once for each.
    bits: BTreeMap<u8, usize>,
}

impl Table {
    /// Reads the bans of a list, without those that have ended.
    pub(super) fn from_list(list: Vec<Ban>, now: u64) -> Self {
        let mut table = Self::default();
        for ban in list.into_iter().filter(|ban| ban.until > now) {
            if let Ok(target) = ban.name.parse() {
                table.insert(target, ban);
            }
        }
        table
    }

    pub(super) fn list(&self) -> Vec<&Ban> {
        self.bans.values().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.bans.len()
    }

    pub(super) fn has_node(&self, node: &NodeId, now: u64) -> bool {
        self.holds(&Target::Node(node.clone()), now)
    }

    pub(super) fn has_address(&self, address: IpAddr, now: u64) -> bool {
        self.bits.keys().any(|bits| {
            let network = IpNet::new(address, *bits);
            network.is_ok_and(|network| self.holds(&Target::Address(network.trunc()), now))
        })
    }

    fn holds(&self, target: &Target, now: u64) -> bool {
        self.bans.get(target).is_some_and(|ban| ban.until > now)
    }

    pub(super) fn insert(&mut self, target: Target, ban: Ban) {
        self.remove(&target);
        if let Target::Address(network) = &target {
            *self.bits.entry(network.prefix_len()).or_default() += 1;
        }
        self.bans.insert(target, ban);
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, target: &Target) -> bool {
        let is_there = self.bans.remove(target).is_some();
        if let Target::Address(network) = target
            && is_there
            && let Some(count) = self.bits.get_mut(&network.prefix_len())
        {
            *count -= 1;
            if *count == 0 {
                self.bits.remove(&network.prefix_len());
            }
        }
        is_there
    }

    /// Removes the bans that have ended.
    pub(super) fn drop_expired(&mut self, now: u64) {
        let expired = self.bans.iter().filter(|(_, ban)| ban.until <= now);
        let expired: Vec<_> = expired.map(|(target, _)| target.clone()).collect();
        for target in expired {
            self.remove(&target);
        }
    }

    /// Returns when the last ban ends, in milliseconds since 1970.
    pub(super) fn end(&self) -> Option<u64> {
        self.bans.values().map(|ban| ban.until).max()
    }

    pub(super) fn page(&self, after: &str, limit: usize, now: u64) -> (Vec<Ban>, bool) {
        let mut bans: Vec<_> =
            self.bans.values().filter(|ban| ban.until > now && *ban.name > *after).collect();
        bans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let has_more = bans.len() > limit;
        bans.truncate(limit);
        (bans.into_iter().cloned().collect(), has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[(&str, u64)]) -> Table {
        let ban = |(name, until): &(&str, u64)| Ban {
            name: (*name).to_owned(),
            since: 0,
            until: *until,
            reason: String::new(),
        };
        Table::from_list(names.iter().map(ban).collect(), 0)
    }

    #[test]
    fn addresses_are_found_in_their_networks() {
        let mut table = table(&[
            ("address:10.0.0.0/8", 5),
            ("address:192.0.2.7/32", 5),
            ("address:2001:db8::/64", 5),
            ("address:2001:db8:1::1/128", 5),
        ]);
        let is_banned =
            |table: &Table, address: &str| table.has_address(address.parse().unwrap(), 1);
        for address in ["10.1.2.3", "192.0.2.7", "2001:db8::ffff", "2001:db8:1::1"] {
            assert!(is_banned(&table, address), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.8", "2001:db8:0:1::1", "2001:db8:1::2"] {
            assert!(!is_banned(&table, address), "{address}");
        }
        assert!(table.remove(&"address:10.0.0.0/8".parse().unwrap()));
        assert!(!is_banned(&table, "10.1.2.3") && is_banned(&table, "192.0.2.7"));
    }

    #[test]
    fn a_ban_ends() {
        let mut table = table(&[("node:a", 3), ("node:b", 5)]);
        let [a, b] = ["a", "b"].map(|id| NodeId::parse(id).unwrap());
        assert!(table.has_node(&a, 2) && !table.has_node(&a, 3) && table.has_node(&b, 3));
        assert_eq!(table.page("", 9, 3).0.len(), 1);
        table.drop_expired(3);
        assert_eq!((table.len(), table.end()), (1, Some(5)));
    }

    #[test]
    fn pages_are_in_the_order_of_the_names() {
        let table = table(&[("node:b", 5), ("address:10.0.0.0/8", 5), ("node:a", 5)]);
        let names = |after: &str, limit| {
            let (bans, has_more) = table.page(after, limit, 0);
            (bans.into_iter().map(|ban| ban.name).collect::<Vec<_>>().join(" "), has_more)
        };
        assert_eq!(names("", 2), ("address:10.0.0.0/8 node:a".to_owned(), true));
        assert_eq!(names("node:a", 2), ("node:b".to_owned(), false));
    }
}
