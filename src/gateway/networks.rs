//! Lists of networks, as operators write them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A set of IP networks.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<IpNet>);

/// A text that is not a list of networks.
#[derive(Debug, thiserror::Error)]
#[error("not a list of IP addresses and networks")]
pub struct InvalidNetworks;

impl Networks {
    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the networks contains this address. IPv4 addresses are never in the form that
    /// IPv6 sockets give them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = InvalidNetworks;

    /// Parses addresses and networks like `10.0.0.0/8`, separated by commas.
    fn from_str(text: &str) -> Result<Self, InvalidNetworks> {
        let network = |item: &str| {
            let item = item.trim();
            let address = item.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
            address.or_else(|_| item.parse()).map_err(|_| InvalidNetworks)
        };
        text.split(',').map(network).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.1,2001:db8::/32".parse().unwrap();
        for (address, is_contained) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), is_contained, "{address}");
        }
        assert!(!Networks::default().contains([127, 0, 0, 1].into()));
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["", ",", "10.0.0.0/33", "example.test", "10.0.0.1:80", "10.0.0.0/8;"] {
            assert!(text.parse::<Networks>().is_err(), "{text}");
        }
    }
}
