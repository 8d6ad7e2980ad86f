//! JSON strings as they were received: what clients leave for each other is never decoded.
//!
//! So an escape stays an escape, and a string that JavaScript allows and Rust does not (half of a
//! surrogate pair) is forwarded unharmed.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON string that is not empty, with its quotes and escapes.
#[derive(Clone)]
pub struct JsonText(Arc<RawValue>);

impl JsonText {
    /// Returns the value if it is a string and not empty.
    pub fn new(value: &RawValue) -> Option<Self> {
        is_text(value).then(|| Self(value.to_owned().into()))
    }

    /// Parses what [`JsonText::as_json`] returned.
    pub fn from_json(text: String) -> Option<Self> {
        let value = RawValue::from_string(text).ok()?;
        is_text(&value).then(|| Self(value.into()))
    }

    /// Returns the string literal.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// Returns the length of the decoded text in UTF-16 units, as JavaScript counts.
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
    /// Leaves out the text, which must not be logged.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Option<JsonText> {
        JsonText::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn only_non_empty_strings_are_texts() {
        for json in [r#""""#, "0", "null", "true", "[]", r#"["a"]"#, r#"{"a":"b"}"#] {
            assert_eq!(text(json), None, "{json}");
        }
        assert_eq!(text(r#" "a" "#).unwrap().as_json(), r#""a""#);
    }

    #[test]
    fn half_a_surrogate_pair_is_unchanged() {
        let half = text(r#""\ud83d""#).unwrap();
        assert_eq!((half.as_json(), half.utf16_len()), (r#""\ud83d""#, 1));
        assert_eq!(serde_json::to_string(&half).unwrap(), r#""\ud83d""#);
    }

    #[test]
    fn lengths_are_as_in_javascript() {
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

    proptest! {
        #[test]
        fn lengths_agree_with_a_decoder(decoded in "\\PC*|[\"\\\\\n\u{0}-\u{1f}🙂a]*") {
            let json = serde_json::to_string(&decoded).unwrap();
            let length = text(&json).map_or(0, |text| text.utf16_len());
            prop_assert_eq!(length, decoded.encode_utf16().count());
        }
    }
}
