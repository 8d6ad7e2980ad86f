//! The JSON array of a Socket.IO event: its name and its one argument.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{Envelope, InvalidEnvelope};
use super::scan::{Addresses, scan};

/// An event as it came: `["NAME","argument"]`.
#[derive(Debug)]
pub struct EventPacket<'a> {
    /// The event's name.
    pub name: Cow<'a, str>,
    /// The argument, if there is exactly one and it is a string; every event of the contract
    /// takes just that.
    pub payload: Option<Payload<'a>>,
}

/// The argument of an event: the text of a JSON string, quotes and escapes included. It is
/// forwarded as this text and never built anew.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    raw: &'a RawValue,
    /// If they were seen on the way.
    pub(super) addresses: Option<Addresses<'a>>,
}

impl<'a> EventPacket<'a> {
    /// Reads the array behind a packet's type and acknowledgement ID.
    ///
    /// # Errors
    /// Fails if `text` is no array that begins with a string. Everything else that may be wrong
    /// leaves [`EventPacket::payload`] empty, because the name decides how it is answered.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        if let Some(scanned) = scan(text) {
            let raw = serde_json::from_str(scanned.argument)?;
            let payload = Payload { raw, addresses: Some(scanned.addresses) };
            return Ok(Self { name: Cow::Borrowed(scanned.name), payload: Some(payload) });
        }
        Self::parse_in_general(text)
    }

    pub(super) fn parse_in_general(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut packet = Self::deserialize(&mut deserializer)?;
        // Bytes behind the array would make the receiver's parser close its connection.
        if deserializer.end().is_err() {
            packet.payload = None;
        }
        Ok(packet)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for EventPacket<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = EventPacket<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of an event's name and its argument")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let Some(Name(name)) = array.next_element()? else {
                    return Err(serde::de::Error::invalid_length(0, &self));
                };
                let argument: Option<&'de RawValue> = array.next_element()?;
                let mut payload = argument
                    .filter(|raw| raw.get().starts_with('"'))
                    .map(|raw| Payload { raw, addresses: None });
                while array.next_element::<IgnoredAny>()?.is_some() {
                    payload = None;
                }
                Ok(EventPacket { name, payload })
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

/// A string that is borrowed where it has no escapes; a bare `Cow` would always copy.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Payload<'a> {
    /// The JSON text of the string, as it came.
    pub fn raw(self) -> &'a RawValue {
        self.raw
    }

    /// The addresses on the message that the string's content is.
    ///
    /// # Errors
    /// See [`InvalidEnvelope`].
    pub fn envelope(self) -> Result<Envelope<'a>, InvalidEnvelope> {
        match self.addresses {
            Some(Addresses { to, from }) => {
                Envelope::new(Cow::Borrowed(to), from.map(Cow::Borrowed))
            }
            None => Envelope::parse(&self.content()).map(Envelope::into_owned),
        }
    }

    /// The string's content. Bytes, because JSON allows `\ud800`, which has no UTF-8: such a
    /// half of a pair becomes three bytes that are no character, and hurts nobody who passes
    /// them over.
    pub fn content(self) -> Cow<'a, [u8]> {
        let text = self.raw.get().as_bytes();
        // Between the quotes. The text was read as a JSON string before, so its escapes are
        // valid; were one not, the empty content would be no valid message either.
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        unescape(inner).unwrap_or_default()
    }
}

/// Resolves the escapes of a JSON string (RFC 8259, 7). By hand because most of a message's
/// escapes are quotes a few bytes apart: the library took three times as many instructions for
/// them, a quarter of all that a relayed message took. `None` if one is not valid.
fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(mut at) = next_escape(text) else { return Some(Cow::Borrowed(text)) };
    let mut content = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        content.extend_from_slice(&rest[..at]);
        let kind = *rest.get(at + 1)?;
        rest = &rest[at + 2..];
        match kind {
            b'"' | b'\\' | b'/' => content.push(kind),
            b'b' => content.push(0x08),
            b'f' => content.push(0x0c),
            b'n' => content.push(b'\n'),
            b'r' => content.push(b'\r'),
            b't' => content.push(b'\t'),
            b'u' => rest = push_unit(&mut content, rest)?,
            _ => return None,
        }
        match next_escape(rest) {
            Some(next) => at = next,
            None => {
                content.extend_from_slice(rest);
                return Some(Cow::Owned(content));
            }
        }
    }
}

/// Where the next backslash is. The next few bytes are looked through one by one, as one is most
/// often there.
fn next_escape(text: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let (near, far) = text.split_at(text.len().min(NEAR));
    let at = near.iter().position(|byte| *byte == b'\\');
    at.or_else(|| memchr(b'\\', far).map(|at| NEAR + at))
}

/// Appends the character of the four digits that `rest` begins with, and of the other half if
/// they are the first half of a pair. Returns what is left.
fn push_unit<'a>(content: &mut Vec<u8>, rest: &'a [u8]) -> Option<&'a [u8]> {
    let (unit, rest) = hex_unit(rest)?;
    if (0xd800..0xdc00).contains(&unit)
        && let Some(second) = rest.strip_prefix(b"\\u")
        && let (low @ 0xdc00..0xe000, rest) = hex_unit(second)?
    {
        let code = 0x1_0000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
        let character = char::from_u32(code)?;
        content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return Some(rest);
    }
    match char::from_u32(u32::from(unit)) {
        Some(character) => {
            content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        // Half of a pair, in the form that UTF-8 would have for it.
        None => content.extend_from_slice(&[
            0xe0 | (unit >> 12) as u8,
            0x80 | (unit >> 6 & 0x3f) as u8,
            0x80 | (unit & 0x3f) as u8,
        ]),
    }
    Some(rest)
}

fn hex_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits
        .iter()
        .try_fold(0_u16, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))?;
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(text: &str) -> Option<String> {
        EventPacket::parse(text).unwrap().payload.map(|payload| payload.raw().get().to_owned())
    }

    #[test]
    fn one_string_is_taken_as_it_came() {
        assert_eq!(payload(r#"["E","x"]"#).as_deref(), Some(r#""x""#));
        assert_eq!(
            payload(r#" [ "E" , "\/\ud800\u0041" ] "#).as_deref(),
            Some(r#""\/\ud800\u0041""#)
        );
    }

    #[test]
    fn anything_but_one_string_is_no_payload() {
        for text in [
            r#"["E"]"#,
            r#"["E","a","b"]"#,
            r#"["E",{}]"#,
            r#"["E",["a"]]"#,
            r#"["E",1]"#,
            r#"["E",null]"#,
            r#"["E",true]"#,
            r#"["E","x"]]"#,
            r#"["E","x"],"#,
            r#"["E",{"_placeholder":true,"num":0}]"#,
        ] {
            assert_eq!(payload(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_name_there_is_no_event() {
        for text in
            ["", "{}", "[", "[]", "[null]", r#"[1,"x"]"#, r#"["E""#, r#"["E",]"#, r#"["E","x""#]
        {
            assert!(EventPacket::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(EventPacket::parse(r#"["A\u0042"]"#).unwrap().name, "AB");
    }

    #[test]
    fn half_a_surrogate_pair_is_content() {
        let packet = EventPacket::parse(r#"["E","a\ud800b"]"#).unwrap();
        assert_eq!(&*packet.payload.unwrap().content(), b"a\xed\xa0\x80b");
    }

    /// The bytes of a JSON string as serde_json reads them.
    fn reference(argument: &str) -> Vec<u8> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(bytes.to_vec())
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(argument);
        serde::Deserializer::deserialize_bytes(&mut deserializer, Bytes).unwrap()
    }

    proptest! {
        #[test]
        fn content_is_what_serde_json_reads(text in any::<String>()) {
            let packet = serde_json::to_string(&("E", &text)).unwrap();
            let content = EventPacket::parse(&packet).unwrap().payload.unwrap().content().into_owned();
            prop_assert_eq!(content, text.into_bytes());
        }

        #[test]
        fn escapes_are_read_as_serde_json_reads_them(
            pieces in proptest::collection::vec(
                proptest::sample::select(&[
                    "a", "é", "\u{1f600}", " ", r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r",
                    r"\t", r"\u0041", r"\u00e9", r"\u20AC", r"\ud83d", r"\uDE00", r"\udbff",
                    r"\udc00", r"\u0000", r"\uffff", r"\ud7ff", r"\ue000",
                ]),
                0..12,
            ),
        ) {
            let argument = format!("\"{}\"", pieces.concat());
            let packet = format!("[\"E\",{argument}]");
            let content = EventPacket::parse(&packet).unwrap().payload.unwrap().content().into_owned();
            prop_assert_eq!(content, reference(&argument));
        }

        #[test]
        fn no_text_panics(text in r#"[\[\]"E,:{}0-9\\u\PC]{0,60}"#) {
            if let Ok(packet) = EventPacket::parse(&text) {
                let _ = packet.payload.map(Payload::content);
            }
        }
    }
}
