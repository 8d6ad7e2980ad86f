//! The text of a JSON string.

use std::borrow::Cow;

use memchr::memchr;
use serde::Serialize;
use serde_json::value::RawValue;

/// The text of a JSON string, quotes and escapes included: what a message's payload is from its
/// sender to its receiver, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename = "$serde_json::private::RawValue")]
pub(crate) struct JsonString<'a> {
    /// By this name serde_json writes a text as it is, like its own `RawValue`; but that can only
    /// be had by reading the text again, which took a seventh of all instructions of a relayed
    /// message.
    #[serde(rename = "$serde_json::private::RawValue")]
    text: &'a str,
}

/// The text of a JSON string that was written here.
#[derive(Debug)]
pub(crate) struct JsonStringBuf(String);

/// A text that is no JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON string")]
pub(crate) struct NotAString;

impl<'a> JsonString<'a> {
    /// Takes a text that is a JSON string, from its first quote to its last.
    ///
    /// # Errors
    /// Fails if it is anything else.
    pub(crate) fn parse(text: &'a str) -> Result<Self, NotAString> {
        let mut rest = text.as_bytes().strip_prefix(b"\"").ok_or(NotAString)?;
        loop {
            rest = &rest[ordinary_bytes(rest)..];
            rest = match rest {
                [b'"'] => return Ok(Self { text }),
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
                [b'\\', b'u', digits @ ..] => hex_unit(digits).ok_or(NotAString)?.1,
                _ => return Err(NotAString),
            };
        }
    }

    /// Takes a JSON value, if it is a string.
    pub(crate) fn of(value: &'a RawValue) -> Option<Self> {
        let text = value.get();
        text.starts_with('"').then_some(Self { text })
    }

    /// Takes a text that was read as a JSON string already.
    pub(super) fn trusted(text: &'a str) -> Self {
        Self { text }
    }

    /// The text, with its quotes.
    pub(crate) fn as_str(self) -> &'a str {
        self.text
    }

    /// The string's content. Bytes, because JSON allows `\ud800`, which has no UTF-8: such a half
    /// of a pair becomes three bytes that are no character.
    pub(crate) fn content(self) -> Cow<'a, [u8]> {
        let text = self.text.as_bytes();
        // Between the quotes. The text was read as a JSON string before, so its escapes are
        // valid; were one not, the empty content would be no valid message either.
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        unescape(inner).unwrap_or_default()
    }
}

impl JsonStringBuf {
    /// Writes a JSON string with this content.
    pub(crate) fn new(content: &str) -> Self {
        // A text always has JSON.
        Self(serde_json::to_string(content).unwrap_or_default())
    }

    /// The text, as one that was read.
    pub(crate) fn as_json(&self) -> JsonString<'_> {
        JsonString { text: &self.0 }
    }
}

impl From<JsonString<'_>> for JsonStringBuf {
    /// Copies a text, so that it can outlive its packet.
    fn from(json: JsonString<'_>) -> Self {
        Self(json.text.to_owned())
    }
}

/// How many bytes there are before the next one that is not just itself in a JSON string: a quote,
/// a backslash or a control character.
pub(super) fn ordinary_bytes(text: &[u8]) -> usize {
    // Many bytes are looked at before any is asked about: the compiler makes one step of it.
    const BLOCK: usize = 16;
    let mut rest = text;
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>()
        && !block.iter().fold(false, |found, byte| found | is_special(*byte))
    {
        rest = behind;
    }
    while let Some((word, behind)) = rest.split_first_chunk() {
        if let Some(place) = first_special(*word) {
            return text.len() - rest.len() + place;
        }
        rest = behind;
    }
    let place = rest.iter().position(|byte| is_special(*byte));
    text.len() - rest.len() + place.unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The place of the first special byte among eight, found in all of them at once: subtracting one
/// from each byte borrows from the high bit of those that are zero, and perhaps of those behind
/// them, so the first is right.
fn first_special(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES << 7;
    let word = u64::from_le_bytes(bytes);
    let below =
        |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let found = below(word, b' ') | equal(b'"') | equal(b'\\');
    (found != 0).then_some(found.trailing_zeros() as usize / 8)
}

/// Resolves the escapes of a JSON string (RFC 8259, 7). By hand because most of a message's
/// escapes are quotes a few bytes apart: the library took three times as many instructions for
/// them. `None` if one is not valid.
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
    use std::fmt;

    use proptest::prelude::*;
    use proptest::sample::select;
    use serde::de::Visitor;

    use super::*;

    /// The bytes of a JSON string as serde_json reads them.
    fn reference(text: &str) -> Option<Vec<u8>> {
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
        // Bytes are read more freely: control characters would pass.
        serde_json::from_str::<&RawValue>(text).ok()?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        serde::Deserializer::deserialize_bytes(&mut deserializer, Bytes).ok()
    }

    fn content(text: &str) -> Option<Vec<u8>> {
        JsonString::parse(text).ok().map(|json| json.content().into_owned())
    }

    #[test]
    fn is_written_as_it_is() {
        for text in [r#""""#, r#""\/\ud800\u0041é""#] {
            let json = JsonString::parse(text).unwrap();
            assert_eq!(serde_json::to_string(&("E", json)).unwrap(), format!("[\"E\",{text}]"));
        }
    }

    #[test]
    fn what_is_written_here_is_one() {
        let json = JsonStringBuf::new("a\"\n\u{1}é");
        assert_eq!(JsonString::parse(json.as_json().as_str()), Ok(json.as_json()));
        assert_eq!(&*json.as_json().content(), "a\"\n\u{1}é".as_bytes());
    }

    #[test]
    fn half_a_surrogate_pair_is_content() {
        assert_eq!(content(r#""a\ud800b""#).unwrap(), b"a\xed\xa0\x80b");
    }

    #[test]
    fn nothing_but_a_string_is_one() {
        for text in [
            "",
            "\"",
            "a",
            "1",
            "null",
            "\"a",
            "a\"",
            "\"a\"b\"",
            " \"a\"",
            "\"a\" ",
            "\"\\\"",
            "\"\\",
            "\"\u{1f}\"",
            "[\"a\"]",
        ] {
            assert_eq!(JsonString::parse(text), Err(NotAString), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ordinary_bytes_are_counted(
            length in 0_usize..60, specials in prop::collection::vec((0_usize..60, any::<u8>()), 0..4),
            filler in any::<u8>().prop_filter("ordinary", |byte| !is_special(*byte)),
        ) {
            let mut text = vec![filler; length];
            for (place, byte) in specials {
                if let Some(at) = text.get_mut(place) {
                    *at = byte;
                }
            }
            let expected = text.iter().position(|byte| is_special(*byte)).unwrap_or(length);
            prop_assert_eq!(ordinary_bytes(&text), expected);
        }

        #[test]
        fn content_is_what_serde_json_reads(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(content(&json), Some(text.into_bytes()));
        }

        #[test]
        fn is_what_serde_json_reads(
            pieces in proptest::collection::vec(
                select(&[
                    "a", "é", "\u{1f600}", " ", "abcdefghijklmnopqrstuvwxyz", r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n",
                    r"\r", r"\t", r"\u0041", r"\u00e9", r"\u20AC", r"\ud83d", r"\uDE00", r"\udbff", r"\udc00",
                    r"\u0000", r"\uffff", r"\ud7ff", r"\ue000",
                ]),
                0..12,
            ),
            odd in prop::option::weighted(0.2, (any::<prop::sample::Index>(), select(&["\"", "\\", "\\u12", "\\x", "\u{1f}", "\n"]))),
        ) {
            let mut pieces = pieces;
            if let Some((at, odd)) = odd {
                pieces.insert(at.index(pieces.len() + 1), odd);
            }
            let text = format!("\"{}\"", pieces.concat());
            prop_assert_eq!(content(&text), reference(&text));
        }

        #[test]
        fn no_text_panics(text in r#""?[a-f0-9\\u"\PC]{0,20}"?"#) {
            prop_assert_eq!(content(&text), reference(&text).filter(|_| text.starts_with('"') && text.ends_with('"')));
        }
    }
}
