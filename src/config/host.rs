//! `HOST`: the address to listen on, or a name for it.
//!
//! Shells and build environments set a variable of this name too, to the name of the machine or to
//! other texts. The broker must start there all the same, as the original does, which ignores
//! `HOST`.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long the lookup of a name may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest name of a host, in bytes (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// The name of a host.
    Name(String),
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<[u8; 4]> for Host {
    fn from(address: [u8; 4]) -> Self {
        Self::Address(address.into())
    }
}

impl FromStr for Host {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // A last label of digits is a mistyped address (WHATWG URL, "ends in a number").
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_name = text.len() <= MAX_NAME_BYTES
            && text.split('.').all(is_label)
            && !last.bytes().all(|byte| byte.is_ascii_digit());
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(()) }
    }
}

impl Host {
    /// The address to listen on. That of a name is the first which this machine has, of IPv4 if
    /// there are several; without one it is that of all addresses, and the log says so.
    pub async fn address(&self) -> IpAddr {
        let name = match self {
            Self::Address(address) => return *address,
            Self::Name(name) => name,
        };
        let cause = match timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), 0))).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                let own = addresses.into_iter().find(|it| TcpListener::bind((*it, 0)).is_ok());
                match own {
                    Some(address) => return address,
                    None => "its addresses are not of this machine".to_owned(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its lookup takes too long".to_owned(),
        };
        tracing::warn!(
            host = name,
            cause,
            "HOST cannot be listened on and may be a shell's: listening on all addresses"
        );
        Ipv4Addr::UNSPECIFIED.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_hosts() {
        assert_eq!("::1".parse(), Ok(Host::Address(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))));
        assert_eq!("127.0.0.1".parse(), Ok(Host::from([127, 0, 0, 1])));
        for name in ["localhost", "x86_64-conda-linux-gnu", "a.b-c.test", "7of9"] {
            assert_eq!(name.parse(), Ok(Host::Name(name.to_owned())));
        }
        let long = "a".repeat(254);
        for invalid in ["", "1.2.3", "[::1]", "0.0.0.0:1", "a b", "a..b", "a.", "a/b", "ü", &long]
        {
            assert_eq!(invalid.parse::<Host>(), Err(()), "{invalid}");
        }
    }
}
