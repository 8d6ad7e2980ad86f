//! What is banned: a node, or a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

use crate::node::NodeId;

/// How many bits of an IPv6 address are one customer's network (RFC 4291, 2.5.4).
const CUSTOMER_BITS: u8 = 64;

/// What is banned. Its text, `node:<ID>` or `address:<network>`, is the name of the ban.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Address(IpNet),
    Node(NodeId),
}

/// A text that names nothing that can be banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a ban: node:<ID> or address:<network>")]
pub(crate) struct InvalidTarget;

impl Target {
    /// Reads an address or a network like `10.0.0.0/8`. An IPv6 address stands for its network of 64
    /// bits. `None` if the text is neither.
    pub(crate) fn address(text: &str) -> Option<Self> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => match address.to_canonical() {
                IpAddr::V6(address) => Ipv6Net::new(address, CUSTOMER_BITS).ok()?.into(),
                address => IpNet::from(address),
            },
            Err(_) => text.parse().ok()?,
        };
        Some(Self::Address(network.trunc()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(network) => write!(f, "address:{network}"),
            Self::Node(node) => write!(f, "node:{node}"),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let target = match text.split_once(':') {
            Some(("node", id)) => NodeId::parse(id).ok().map(Self::Node),
            Some(("address", network)) => Self::address(network),
            _ => None,
        };
        target.ok_or(InvalidTarget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_name() {
        for (text, name) in [
            ("node:a:b", Some("node:a:b")),
            ("address:192.0.2.7", Some("address:192.0.2.7/32")),
            ("address:192.0.2.7/24", Some("address:192.0.2.0/24")),
            ("address:::ffff:192.0.2.7", Some("address:192.0.2.7/32")),
            ("address:2001:db8::7", Some("address:2001:db8::/64")),
            ("address:2001:db8::7/128", Some("address:2001:db8::7/128")),
            ("address:192.0.2.7/33", None),
            ("address:", None),
            ("node:", None),
            ("alice", None),
        ] {
            let target = text.parse::<Target>();
            assert_eq!(target.map(|target| target.to_string()).ok().as_deref(), name, "{text}");
        }
    }
}
