//! The client's address behind proxies, from `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Anybody can write these headers, so only what trusted proxies have appended counts: hops are read
//! from the right, up to the first that is not a trusted proxy. That is the client.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

use super::networks::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address of the client whose request came from `remote_addr` with these headers.
///
/// A proxy writes one of the headers and passes the other on unchanged. If both name different
/// addresses, the client has forged one of them, and neither counts.
pub(super) fn client_addr(
    headers: &HeaderMap,
    remote_addr: SocketAddr,
    proxies: &Networks,
) -> SocketAddr {
    if !proxies.contains(remote_addr.ip()) {
        return remote_addr;
    }
    let client = |header, hop: fn(&[u8]) -> Option<SocketAddr>| {
        rightmost_untrusted(hops(headers, header).map(hop), proxies)
    };
    let (x_forwarded_for, forwarded) = (client(X_FORWARDED_FOR, node), client(FORWARDED, element));
    match (x_forwarded_for, forwarded) {
        (Some(one), Some(other)) if one.ip() != other.ip() => remote_addr,
        (client, other) => client.or(other).unwrap_or(remote_addr),
    }
}

/// Returns the first hop that is not a trusted proxy, or the last one before something unreadable.
fn rightmost_untrusted(
    hops: impl Iterator<Item = Option<SocketAddr>>,
    proxies: &Networks,
) -> Option<SocketAddr> {
    let mut nearest = None;
    for hop in hops {
        let Some(hop) = hop else { break };
        nearest = Some(hop);
        if !proxies.contains(hop.ip()) {
            break;
        }
    }
    nearest
}

/// Returns the items of a header that is a list, from the right. Commas in quotes separate too: the
/// quotes may be the client's, and addresses have none.
fn hops(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter().rev();
    values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
}

/// Parses an element of `Forwarded`, such as `for="[2001:db8::1]:4711";proto=https`.
fn element(element: &[u8]) -> Option<SocketAddr> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| node(value.as_bytes()))?
    })
}

/// Parses an address with or without a port; zero stands for an unknown port.
fn node(node: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(node).ok()?.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().map(|address: IpAddr| SocketAddr::new(address, 0));
    let address = address.or_else(|_| text.parse()).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// The client of a request from `from` with these headers, if 10.0.0.0/8 are proxies.
    fn client(from: &str, headers: &[(HeaderName, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let remote_addr = SocketAddr::new(from.parse().unwrap(), 1);
        client_addr(&map, remote_addr, &"10.0.0.0/8".parse().unwrap()).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_counts() {
        for (headers, expected) in [
            ("192.0.2.1", "192.0.2.1:0"),
            ("192.0.2.9, 192.0.2.1", "192.0.2.1:0"),
            ("192.0.2.9, 192.0.2.1 ,10.0.0.2,10.0.0.3", "192.0.2.1:0"),
            ("192.0.2.1:4711", "192.0.2.1:4711"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("::ffff:192.0.2.1", "192.0.2.1:0"),
            ("10.0.0.4, 10.0.0.3", "10.0.0.4:0"),
            ("192.0.2.1, unknown, 10.0.0.3", "10.0.0.3:0"),
            ("192.0.2.1, unknown", "10.0.0.1:1"),
            ("", "10.0.0.1:1"),
        ] {
            assert_eq!(client("10.0.0.1", &[(X_FORWARDED_FOR, headers)]), expected, "{headers}");
        }
        let lines = [(X_FORWARDED_FOR, "192.0.2.9"), (X_FORWARDED_FOR, "192.0.2.1, 10.0.0.2")];
        assert_eq!(client("10.0.0.1", &lines), "192.0.2.1:0");
    }

    #[test]
    fn the_standard_header_is_read_too() {
        for (header, expected) in [
            ("for=192.0.2.1", "192.0.2.1:0"),
            ("for=192.0.2.9, proto=https; For = \"[2001:db8::1]:4711\"", "[2001:db8::1]:4711"),
            ("for=\"192.0.2.9, for=192.0.2.1;by=10.0.0.1, for=10.0.0.2", "192.0.2.1:0"),
            ("for=_hidden, for=10.0.0.2", "10.0.0.2:0"),
            ("proto=https", "10.0.0.1:1"),
        ] {
            assert_eq!(client("10.0.0.1", &[(FORWARDED, header)]), expected, "{header}");
        }
    }

    #[test]
    fn what_a_client_writes_does_not_count() {
        let forged = "192.0.2.9";
        assert_eq!(client("192.0.2.1", &[(X_FORWARDED_FOR, forged)]), "192.0.2.1:1");
        // The proxy writes one header and passes on the other.
        for (written, passed_on) in [
            ((X_FORWARDED_FOR, "192.0.2.1"), (FORWARDED, "for=192.0.2.9")),
            ((FORWARDED, "for=192.0.2.1"), (X_FORWARDED_FOR, "192.0.2.9")),
        ] {
            assert_eq!(client("10.0.0.1", &[written, passed_on]), "10.0.0.1:1");
        }
        let both = [(X_FORWARDED_FOR, "192.0.2.1"), (FORWARDED, "for=\"192.0.2.1:80\"")];
        assert_eq!(client("10.0.0.1", &both), "192.0.2.1:0");
    }

    proptest! {
        #[test]
        fn every_header_is_read(text in "[ -~]{0,60}", tail in "[0-9a-f:.,;=\"\\[\\] for]{0,60}") {
            for name in [X_FORWARDED_FOR, FORWARDED] {
                let appended = format!("{text}{tail}, for=192.0.2.1");
                let client = client("10.0.0.1", &[(name.clone(), &appended)]);
                prop_assert_eq!(client, if name == FORWARDED { "192.0.2.1:0" } else { "10.0.0.1:1" });
            }
        }
    }
}
