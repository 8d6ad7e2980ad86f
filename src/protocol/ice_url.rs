//! URLs of STUN servers (RFC 7064) and TURN servers (RFC 7065).
//!
//! A browser rejects a whole configuration for one wrong URL in it. So what the grammars allow but
//! browsers reject (an empty port, transports other than UDP and TCP) is an error here too.

use std::net::Ipv6Addr;

/// Returns whether this is a URL of a STUN server: `stun:host`, `stuns:host:port`.
pub(crate) fn is_stun_url(url: &str) -> bool {
    after_scheme(url, ["stun", "stuns"]).is_some_and(is_authority)
}

/// Returns whether this is a URL of a TURN server: `turn:host`,
/// `turns:host:port?transport=tcp`.
pub(crate) fn is_turn_url(url: &str) -> bool {
    let Some(rest) = after_scheme(url, ["turn", "turns"]) else { return false };
    match rest.split_once('?') {
        None => is_authority(rest),
        Some((authority, query)) => {
            is_authority(authority) && ["transport=udp", "transport=tcp"].contains(&query)
        }
    }
}

fn after_scheme<'u>(url: &'u str, schemes: [&str; 2]) -> Option<&'u str> {
    let (scheme, rest) = url.split_once(':')?;
    schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(rest)
}

/// A host, and a port if there is a colon.
fn is_authority(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    match text.split_once(':') {
        None => is_name(text),
        Some((host, port)) => is_name(host) && is_port(port),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A registered name of RFC 3986, 3.2.2, or an IPv4 address, which looks like one.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_valid = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_valid {
            return false;
        }
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_urls() {
        for url in ["stun:a", "stuns:a.example:5349", "STUN:1.2.3.4:1", "stun:[2001:db8::1]:65535"]
        {
            assert!(is_stun_url(url) && !is_turn_url(url), "{url}");
        }
        for url in [
            "",
            "a",
            "stun",
            "stun:",
            "stun::1",
            "stun:a:",
            "stun:a:0",
            "stun:a:65536",
            "stun:a:+1",
            "stun:a:x",
            "stun://a",
            "stun:a/b",
            "stun:a?transport=udp",
            "stun:u@a",
            "stun:a b",
            " stun:a",
            "stun:\u{e4}",
            "stun:2001:db8::1",
            "stun:[::1",
            "stun:[a]",
            "stun:[::1]1",
            "stun:%4",
            "http:a",
        ] {
            assert!(!is_stun_url(url), "{url}");
        }
    }

    #[test]
    fn turn_urls() {
        for url in ["turn:a", "turns:a:1?transport=tcp", "turn:[::1]?transport=udp", "turn:%41"] {
            assert!(is_turn_url(url) && !is_stun_url(url), "{url}");
        }
        for url in [
            "turn:?transport=udp",
            "turn:a?",
            "turn:a?transport=sctp",
            "turn:a?x=udp",
            "turn:a?transport=udp&x=y",
            "turn://a",
            "turn:a#b",
        ] {
            assert!(!is_turn_url(url), "{url}");
        }
    }
}
