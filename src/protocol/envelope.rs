//! The part of a message that the broker reads: its sender and receiver.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use crate::node::trim;

/// The addresses on a message. Everything else in it is the nodes' own business.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    /// The receiver's ID: trimmed, not empty.
    pub(crate) to: Cow<'a, str>,
    /// The sender's ID as the message claims it, trimmed.
    pub(crate) from: Option<Cow<'a, str>>,
}

/// A message that is no JSON object, or whose `to` or `from` is missing, twice there, blank or
/// not a string; a `from` of `null` counts as absent. (Two values for one key are refused because
/// parsers disagree on which counts, and a receiver must never see a sender that was not checked.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with one readable `to` and at most one `from`")]
pub(crate) struct InvalidEnvelope;

impl<'a> Envelope<'a> {
    /// Reads the addresses from a message's content.
    pub(crate) fn parse(content: &'a [u8]) -> Result<Self, InvalidEnvelope> {
        let Addresses { to, from } =
            serde_json::from_slice(content).map_err(|_| InvalidEnvelope)?;
        Self::new(to.ok_or(InvalidEnvelope)?, from)
    }

    /// An envelope with these addresses, which it trims.
    pub(super) fn new(
        to: Cow<'a, str>,
        from: Option<Cow<'a, str>>,
    ) -> Result<Self, InvalidEnvelope> {
        let to = trimmed(to);
        if to.is_empty() {
            return Err(InvalidEnvelope);
        }
        Ok(Self { to, from: from.map(trimmed) })
    }

    pub(super) fn into_owned<'b>(self) -> Envelope<'b> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Envelope { to: owned(self.to), from: self.from.map(owned) }
    }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
        Cow::Owned(text) => Cow::Owned(trim(&text).to_owned()),
    }
}

#[derive(Default)]
struct Addresses<'a> {
    to: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Addresses<'a> {
    /// Written by hand because a derived one would also take an array, and would fail at
    /// keys with half a surrogate pair.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Addresses<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut addresses = Addresses::default();
                while let Some(key) = object.next_key()? {
                    let (address, value) = match key {
                        Key::To => (&mut addresses.to, Some(object.next_value()?)),
                        Key::From => (&mut addresses.from, object.next_value()?),
                        Key::Other => {
                            object.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    // Some libraries write an absent `from` as `null`.
                    let Some(Text(text)) = value else { continue };
                    if address.replace(text).is_some() {
                        return Err(Error::custom("an address is given twice"));
                    }
                }
                Ok(addresses)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

enum Key {
    To,
    From,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"to" => Key::To,
                    b"from" => Key::From,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parse(content: &str) -> Result<(String, Option<String>), InvalidEnvelope> {
        Envelope::parse(content.as_bytes())
            .map(|e| (e.to.into_owned(), e.from.map(Cow::into_owned)))
    }

    #[test]
    fn addresses_are_found_anywhere_and_trimmed() {
        let bob = ("bob".to_owned(), Some("alice".to_owned()));
        assert_eq!(parse(r#"{"from":"alice","to":"bob"}"#), Ok(bob.clone()));
        assert_eq!(
            parse(r#" {"x":[{"to":"eve"}],"to":" bob\ufeff","y":1.0,"from":"\u0061lice"} "#),
            Ok(bob)
        );
        assert_eq!(parse(r#"{"t\u006f":"bob"}"#), Ok(("bob".into(), None)));
        assert_eq!(parse(r#"{"to":"bob","from":null}"#), Ok(("bob".into(), None)));
    }

    #[test]
    fn what_is_not_read_may_be_anything() {
        let deep = format!(r#"{{"to":"b","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for content in [r#"{"to":"b","\ud800":"\udfff"}"#, r#"{"to":"b","n":1e999}"#, &deep] {
            assert_eq!(parse(content), Ok(("b".into(), None)));
        }
        assert!(Envelope::parse(b"{\"to\":\"b\",\"x\":\"\xed\xa0\x80\"}").is_ok());
    }

    #[test]
    fn invalid_envelopes() {
        for content in [
            "",
            "null",
            "1",
            "[]",
            r#"["bob","alice"]"#,
            r#""to""#,
            "{}",
            r#"{"to":null}"#,
            r#"{"to":1}"#,
            r#"{"to":["b"]}"#,
            r#"{"to":""}"#,
            r#"{"to":" \u2028 "}"#,
            r#"{"to":"b","to":"b"}"#,
            r#"{"to":"b","from":1}"#,
            r#"{"to":"b","from":"a","from":"a"}"#,
            r#"{"to":"b"} x"#,
            r#"{"to":"b""#,
            r#"{"to":"\ud800"}"#,
            r#"{"TO":"b"}"#,
        ] {
            assert_eq!(parse(content), Err(InvalidEnvelope), "{content}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("to|from|[a-z]{1,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The oracle reads the whole document into a tree and looks the two keys up there.
        #[test]
        fn agrees_with_serde_json(value in json_value(), to in prop::option::of("\\PC{0,8}"), pretty in any::<bool>()) {
            let mut value = value;
            if let (Value::Object(object), Some(to)) = (&mut value, to) {
                object.insert("to".into(), json!(to));
            }
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let address = |key: &str| match value.get(key) {
                None => Ok(None),
                Some(Value::Null) if key == "from" => Ok(None),
                Some(Value::String(text)) => Ok(Some(trim(text).to_owned())),
                Some(_) => Err(InvalidEnvelope),
            };
            let expected = match (value.is_object(), address("to"), address("from")) {
                (true, Ok(Some(to)), Ok(from)) if !to.is_empty() => Ok((to, from)),
                _ => Err(InvalidEnvelope),
            };
            prop_assert_eq!(parse(&text), expected);
        }

        #[test]
        fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Envelope::parse(&content);
        }
    }
}
