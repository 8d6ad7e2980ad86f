//! Extractors for what is in a request's head: who sends it, the topic, the page.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use http::{Extensions, header};

use super::Context;
use super::client_address::ClientAddress;
use super::error::ApiError;
use crate::model::{Origin, Page, Topic};

/// The number of topics on a page by default, and at most.
const TOPICS_PER_PAGE: u64 = 100;
const MAX_TOPICS_PER_PAGE: u64 = 1000;

/// JavaScript's largest exact integer: no page is behind it.
const LAST_PAGE: u64 = (1 << 53) - 1;

/// The origin of a request whose address is within its rate limit.
pub(super) struct Caller(pub(super) Origin);

impl FromRequestParts<Context> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        context.addresses.get(remote_address(&parts.extensions)).check_rate()?;
        let origin = parts.headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
        Ok(Self(Origin::parse(origin)?))
    }
}

/// The address of a request, with what it may do.
pub(super) struct Client(pub(super) Arc<ClientAddress>);

impl FromRequestParts<Context> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Infallible> {
        Ok(Self(context.addresses.get(remote_address(&parts.extensions))))
    }
}

/// Returns the address that a request comes from. The server adds it to every request.
pub(super) fn remote_address(extensions: &Extensions) -> IpAddr {
    let address = extensions.get::<ConnectInfo<SocketAddr>>();
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.0.ip())
}

impl FromRequestParts<Context> for Topic {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let segment = context.base_path.first_segment(parts.uri.path());
        Ok(Self::parse(&decode(segment))?)
    }
}

/// Decodes percent escapes; a run of them that is broken or not UTF-8 stays as it is.
fn decode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(start) = rest.find('%') {
        text += &rest[..start];
        rest = &rest[start..];
        let escapes = escapes_at_start(rest);
        if escapes.is_empty() {
            text.push('%');
            rest = &rest[1..];
            continue;
        }
        let (run, behind) = rest.split_at(escapes.len() * 3);
        match String::from_utf8(escapes) {
            Ok(decoded) => text += &decoded,
            Err(_) => text += run,
        }
        rest = behind;
    }
    text + rest
}

/// Returns the bytes of the escapes at the start of `text`.
fn escapes_at_start(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let escape = |bytes: &[u8]| match *bytes {
        [b'%', high, low] => Some((digit(high)? << 4) | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(3).map_while(escape).collect()
}

impl FromRequestParts<Context> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        Ok(page(parts.uri.query()))
    }
}

/// Parses the page; what is no number counts as not given.
fn page(query: Option<&str>) -> Page {
    let (mut number, mut limit) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "page" => drop(number.get_or_insert_with(|| leading_number(&value))),
            "limit" => drop(limit.get_or_insert_with(|| leading_number(&value))),
            _ => {}
        }
    }
    let number = number.flatten().unwrap_or(1).clamp(1, LAST_PAGE);
    let limit = limit.flatten().unwrap_or(TOPICS_PER_PAGE).clamp(1, MAX_TOPICS_PER_PAGE);
    Page { number, limit }
}

/// Parses the number that a text begins with, as JavaScript's `parseInt` does (ECMA-262, 19.2.5);
/// returns zero for negative ones.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(is_space);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    // Digits fail to parse only if there are too many of them.
    Some(if is_negative { 0 } else { digits[..end].parse().unwrap_or(u64::MAX) })
}

/// JavaScript's white space and line ends (ECMA-262, 12.2 and 12.3): those of Unicode, with the byte
/// order mark and without the next line.
fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_escapes_are_unchanged() {
        for (segment, text) in [
            ("plain+text", "plain+text"),
            ("a%2Fb%20c", "a/b c"),
            ("%F0%9F%99%82", "🙂"),
            ("%", "%"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%E2%82", "%E2%82"),
            ("a%20%FF-%20", "a%20%FF- "),
            ("%00", "\0"),
            ("%2525", "%25"),
        ] {
            assert_eq!(decode(segment), text);
        }
    }

    #[test]
    fn pages_are_parsed_as_javascript_parses_numbers() {
        assert_eq!(page(None), Page { number: 1, limit: 100 });
        for (query, expected) in [
            ("page=3&limit=7", (3, 7)),
            ("page=2x&limit=%205", (2, 5)),
            ("page=%EF%BB%BF2&limit=%C2%A0%0B5", (2, 5)),
            ("page=%C2%852&limit=5", (1, 5)),
            ("page=&limit=x", (1, 100)),
            ("page=0&limit=0", (1, 1)),
            ("page=-4&limit=-4", (1, 1)),
            ("page=1.9&limit=5000", (1, 1000)),
            ("page=2&page=3", (2, 100)),
            ("page=999999999999999999999999&limit=%2B9", (LAST_PAGE, 9)),
        ] {
            let page = page(Some(query));
            assert_eq!((page.number, page.limit), expected, "{query}");
        }
        assert_eq!(page(Some("page=99999999999999999999&limit=1000")).offset() >> 53, 999);
    }

    proptest! {
        #[test]
        fn every_text_can_be_a_topic(text in "\\PC{1,60}") {
            let all = percent_encoding::NON_ALPHANUMERIC;
            let segment = percent_encoding::utf8_percent_encode(&text, all).to_string();
            prop_assert_eq!(decode(&segment), text);
        }

        #[test]
        fn every_segment_is_decoded(segment in "[%0-9a-fA-FzE2ä]{0,40}") {
            decode(&segment);
        }

        #[test]
        fn every_query_is_parsed(query in "[\\PC{}\":,]{0,80}") {
            page(Some(&query));
        }
    }
}
