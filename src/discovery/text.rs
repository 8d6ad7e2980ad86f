//! JSON as it came: what clients leave for each other is kept as its text and never rebuilt.
//!
//! So an escape stays an escape, and a text that JavaScript allows and Rust does not (half of a
//! surrogate pair) passes unharmed.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// What some programs write before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A JSON string that is not empty, with its quotes and escapes.
#[derive(Clone)]
pub struct JsonText(Arc<RawValue>);

impl JsonText {
    /// The value if it is a string and not empty.
    pub fn new(value: &RawValue) -> Option<Self> {
        is_text(value).then(|| Self(value.to_owned().into()))
    }

    /// Reads back what [`JsonText::as_json`] gave.
    pub fn from_json(text: String) -> Option<Self> {
        let value = RawValue::from_string(text).ok()?;
        is_text(&value).then(|| Self(value.into()))
    }

    /// The string literal.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// The length of the decoded text in UTF-16 units, as JavaScript counts.
    pub fn utf16_len(&self) -> usize {
        let literal = self.as_json();
        let mut rest = literal.get(1..literal.len() - 1).unwrap_or_default().chars();
        let mut units = 0;
        while let Some(next) = rest.next() {
            if next != '\\' {
                units += next.len_utf16();
                continue;
            }
            units += 1;
            if rest.next() == Some('u') {
                rest.nth(3);
            }
        }
        units
    }
}

fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"') && value.get() != r#""""#
}

impl fmt::Debug for JsonText {
    /// Without the text: it is nobody's business but the clients'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.as_json().len())
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The fields that a request's body may have, each as it came. Others are passed over; of a field
/// that is there twice the last counts, as everywhere in JavaScript.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) info: Option<&'a RawValue>,
    pub(super) offer: Option<&'a RawValue>,
    pub(super) code: Option<&'a RawValue>,
    pub(super) side: Option<&'a RawValue>,
    pub(super) answer: Option<&'a RawValue>,
    pub(super) candidate: Option<&'a RawValue>,
    pub(super) wait: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The fields of a body. What is no JSON object has none, so that the answer names the first
    /// one that is missing. A byte order mark is passed over, which RFC 8259 (8.1) allows and
    /// Rondevu does.
    pub(super) fn parse(body: &'a [u8]) -> Self {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        serde_json::from_slice(body).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            let field = match name {
                Name::Info => &mut fields.info,
                Name::Offer => &mut fields.offer,
                Name::Code => &mut fields.code,
                Name::Side => &mut fields.side,
                Name::Answer => &mut fields.answer,
                Name::Candidate => &mut fields.candidate,
                Name::Wait => &mut fields.wait,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = Some(map.next_value()?);
        }
        Ok(fields)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Info,
    Offer,
    Code,
    Side,
    Answer,
    Candidate,
    Wait,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Option<JsonText> {
        JsonText::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn only_strings_that_are_not_empty_are_texts() {
        for json in [r#""""#, "0", "null", "true", "[]", r#"["a"]"#, r#"{"a":"b"}"#] {
            assert_eq!(text(json), None, "{json}");
        }
        assert_eq!(text(r#" "a" "#).unwrap().as_json(), r#""a""#);
    }

    #[test]
    fn half_a_surrogate_pair_passes_as_it_came() {
        let half = text(r#""\ud83d""#).unwrap();
        assert_eq!((half.as_json(), half.utf16_len()), (r#""\ud83d""#, 1));
        assert_eq!(serde_json::to_string(&half).unwrap(), r#""\ud83d""#);
    }

    #[test]
    fn lengths_are_those_of_javascript() {
        for (json, length) in [
            (r#""a""#, 1),
            (r#""ä""#, 1),
            (r#""🙂""#, 2),
            (r#""\ud83d\ude42""#, 2),
            (r#""\"""#, 1),
            (r#""\\""#, 1),
            (r#""\\\"""#, 2),
            (r#""\"\"""#, 2),
            (r#""\n\u0000/\/""#, 4),
        ] {
            assert_eq!(text(json).unwrap().utf16_len(), length, "{json}");
        }
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for body in ["", "x", "[]", r#"["a","b"]"#, "null", "1", r#"{"info":1"#, r#"{"info":1}x"#] {
            assert!(Fields::parse(body.as_bytes()).info.is_none(), "{body}");
        }
        assert!(Fields::parse(b"{\"info\":\"\xff\"}").info.is_none());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!(r#"{{"x":{deep},"info":{deep}}}"#);
        assert!(Fields::parse(body.as_bytes()).info.is_none_or(|info| info.get() == deep));
    }

    #[test]
    fn the_last_of_a_field_counts_and_names_may_be_escaped() {
        let fields = Fields::parse(br#"{"info":1,"\u0069nfo":2,"other":{},"INFO":3}"#);
        assert_eq!(fields.info.map(RawValue::get), Some("2"));
    }

    proptest! {
        #[test]
        fn lengths_agree_with_a_decoder(decoded in "\\PC*|[\"\\\\\n\u{0}-\u{1f}🙂a]*") {
            let json = serde_json::to_string(&decoded).unwrap();
            let length = text(&json).map_or(0, |text| text.utf16_len());
            prop_assert_eq!(length, decoded.encode_utf16().count());
        }

        #[test]
        fn no_body_is_too_odd(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            Fields::parse(&body);
        }
    }
}
