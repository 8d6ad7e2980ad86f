//! The fields of a request's body.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What some programs write at the start of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The known fields of a request's body, undecoded. Others are ignored; of equal fields the last one
/// counts, as everywhere in JavaScript.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) info: Option<&'a RawValue>,
    pub(super) peer_id: Option<&'a RawValue>,
    pub(super) offer: Option<&'a RawValue>,
    pub(super) code: Option<&'a RawValue>,
    pub(super) side: Option<&'a RawValue>,
    pub(super) answer: Option<&'a RawValue>,
    pub(super) candidate: Option<&'a RawValue>,
    pub(super) wait: Option<&'a RawValue>,
    pub(super) secret: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Parses a body. One that is no JSON object has no fields, so that the error names the first
    /// missing one. A byte order mark is ignored, which RFC 8259 (8.1) allows and Rondevu does.
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
                Name::PeerId => &mut fields.peer_id,
                Name::Offer => &mut fields.offer,
                Name::Code => &mut fields.code,
                Name::Side => &mut fields.side,
                Name::Answer => &mut fields.answer,
                Name::Candidate => &mut fields.candidate,
                Name::Wait => &mut fields.wait,
                Name::Secret => &mut fields.secret,
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
#[serde(rename_all = "camelCase")]
enum Name {
    Info,
    PeerId,
    Offer,
    Code,
    Side,
    Answer,
    Candidate,
    Wait,
    Secret,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_that_is_no_object_has_no_fields() {
        for body in ["", "x", "[]", r#"["a","b"]"#, "null", "1", r#"{"info":1"#, r#"{"info":1}x"#] {
            assert!(Fields::parse(body.as_bytes()).info.is_none(), "{body}");
        }
        assert!(Fields::parse(b"{\"info\":\"\xff\"}").info.is_none());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!(r#"{{"x":{deep},"info":{deep}}}"#);
        assert!(Fields::parse(body.as_bytes()).info.is_none_or(|info| info.get() == deep));
    }

    #[test]
    fn the_last_of_equal_fields_counts_and_names_may_be_escaped() {
        let fields = Fields::parse(br#"{"info":1,"\u0069nfo":2,"other":{},"INFO":3}"#);
        assert_eq!(fields.info.map(RawValue::get), Some("2"));
    }

    proptest! {
        #[test]
        fn every_body_is_parsed(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            Fields::parse(&body);
        }
    }
}
