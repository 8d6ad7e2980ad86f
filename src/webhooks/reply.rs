//! The response to a webhook call: a JSON object, of which only the requested fields are parsed.
//!
//! Servers may respond with more than the broker reads, such as an echo of the request. Those
//! fields may contain what our parser rejects (half a surrogate pair, a number beyond a double,
//! lists nested a thousand times), so they are skipped without parsing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::CallError;

/// What UTF-8 may begin with, and JSON may not.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The text of a JSON object.
#[derive(Clone, Copy)]
pub(crate) struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    /// Wraps the body of a response. Some frameworks begin every text with a byte order mark.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
    }

    /// Returns the text of the field; of several with this name, that of the last one.
    ///
    /// # Errors
    /// [`CallError::Malformed`] if the reply is not one JSON object.
    pub(super) fn field(self, name: &str) -> Result<Option<&'a str>, CallError> {
        let mut json = serde_json::Deserializer::from_slice(self.0);
        let field = json.deserialize_map(Field(name));
        let field = field.and_then(|field| json.end().map(|()| field));
        field.map_err(|_| CallError::Malformed("a JSON object"))
    }

    /// Returns whether the field is a yes. Only the JSON value `true` is: a text "true" may come
    /// from a server that says "false" the same way.
    ///
    /// # Errors
    /// [`CallError::Malformed`] if the reply is not one JSON object.
    pub(crate) fn says_yes(self, name: &str) -> Result<bool, CallError> {
        Ok(self.field(name)? == Some("true"))
    }

    /// Returns the whole text.
    pub(super) fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Reads one field of an object.
struct Field<'n>(&'n str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_wanted) = fields.next_key_seed(IsNamed(self.0))? {
            if is_wanted {
                found = Some(fields.next_value::<&RawValue>()?.get());
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a field's name as bytes, since it may be no Unicode text.
struct IsNamed<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_bytes(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<bool, E> {
        Ok(name == self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_is_yes() {
        let says_yes = |text: &str| Reply::new(text.as_bytes()).says_yes("authorized").unwrap();
        for text in [
            r#"{"a":1,"authorized": true }"#,
            "\u{feff}{\"authorized\":true}",
            r#"{"authorized":false,"\u0061uthorized":true}"#,
        ] {
            assert!(says_yes(text), "{text}");
        }
        for text in [
            r#"{"authorized":"true"}"#,
            r#"{"authorized":1}"#,
            r#"{"authorized":[true]}"#,
            r#"{"authorized":true,"authorized":false}"#,
            r#"{"Authorized":true}"#,
            "{}",
        ] {
            assert!(!says_yes(text), "{text}");
        }
    }

    #[test]
    fn fields_that_nobody_reads_do_not_matter() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let others: [&[u8]; 6] =
            [br#""\ud83d""#, b"1e400", b"\"\xff\"", deep.as_bytes(), b"{\"a\":1,\"a\":2}", b"-0.0"];
        for other in others {
            let text = [b"{\"x\":", other, b",\"yes\":true,\"\xfe\":", other, b"}"].concat();
            assert_eq!(Reply::new(&text).says_yes("yes"), Ok(true));
        }
        assert_eq!(Reply::new(br#"{"\ud83d":1,"yes":true}"#).says_yes("yes"), Ok(true));
    }

    #[test]
    fn anything_but_one_object_is_malformed() {
        for text in ["", "null", "true", "[{}]", "{", "{}{}", "{\"a\"}", "{\"a\":tru}", "<p>"] {
            let field = Reply::new(text.as_bytes()).field("b");
            assert_eq!(field, Err(CallError::Malformed("a JSON object")), "{text}");
        }
    }
}
