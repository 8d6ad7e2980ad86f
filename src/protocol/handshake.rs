//! The query string in which a node describes itself.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode;

use super::Refusal;
use crate::node::NodeId;

/// The longest `version` and `runtime`, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// What a node says about itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The ID that it wants to be reached by.
    pub(crate) id: NodeId,
    /// The version of its Crolang library.
    pub(crate) version: String,
    /// The platform that it runs on.
    pub(crate) runtime: String,
    /// Whatever the authentication webhook is to be given; the official nodes send an empty text
    /// where their program gave them nothing.
    pub(crate) data: Option<String>,
}

/// A required key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum RequiredKey {
    Id,
    Version,
    Runtime,
}

impl fmt::Display for RequiredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequiredKey::Id => "id",
            RequiredKey::Version => "version",
            RequiredKey::Runtime => "runtime",
        })
    }
}

impl Handshake {
    /// Reads the query of the upgrade request. Unknown keys are passed over; a key that is given
    /// twice or is not UTF-8 counts as missing.
    ///
    /// # Errors
    /// [`Refusal::Missing`] with the first of `id`, `version`, `runtime` that is missing. An `id`
    /// that is no [`NodeId`], an empty one for instance, counts as missing too.
    /// [`Refusal::TooLong`] with the first of `version`, `runtime`, `data` that is too long; `data`
    /// may have `max_data_bytes`.
    pub(crate) fn parse(query: &str, max_data_bytes: usize) -> Result<Self, Refusal> {
        let version = value(query, "version");
        let runtime = value(query, "runtime");
        let id = value(query, "id").and_then(|id| {
            let is_jvm = runtime.as_deref() == Some("JVM");
            NodeId::parse(&if is_jvm { with_outer_pluses(id) } else { id }).ok()
        });
        let handshake = Self {
            id: id.ok_or(Refusal::Missing(RequiredKey::Id))?,
            version: version.ok_or(Refusal::Missing(RequiredKey::Version))?,
            runtime: runtime.ok_or(Refusal::Missing(RequiredKey::Runtime))?,
            data: value(query, "data"),
        };
        let lengths = [
            ("version", handshake.version.len(), MAX_NAME_BYTES),
            ("runtime", handshake.runtime.len(), MAX_NAME_BYTES),
            ("data", handshake.data.as_ref().map_or(0, String::len), max_data_bytes),
        ];
        match lengths.into_iter().find(|(_, bytes, most)| bytes > most) {
            Some((key, ..)) => Err(Refusal::TooLong(key)),
            None => Ok(handshake),
        }
    }
}

/// Restores the pluses at the ends of an ID. Official nodes on the JVM do not encode their IDs, so
/// a plus arrives as a blank. Inside an ID the two cannot be distinguished; at its ends there are
/// no blanks, because such an ID could not be addressed.
fn with_outer_pluses(id: String) -> String {
    let inner = id.trim_matches(' ');
    if inner.len() == id.len() || inner.is_empty() {
        return id;
    }
    let leading = id.len() - id.trim_start_matches(' ').len();
    let trailing = id.len() - leading - inner.len();
    format!("{}{inner}{}", "+".repeat(leading), "+".repeat(trailing))
}

/// The value of `key` if it is there exactly once and is UTF-8; it may be empty.
fn value(query: &str, key: &str) -> Option<String> {
    let mut values = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| decode(name).as_deref() == Some(key))
        .map(|(_, value)| value);
    let only = values.next()?;
    if values.next().is_some() {
        return None;
    }
    decode(only).map(Cow::into_owned)
}

/// Decodes one part of a form: `+` is a blank, `%xx` a byte; a `%` without two hexadecimal digits
/// behind it stays as it is (WHATWG URL, "application/x-www-form-urlencoded parsing").
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).decode_utf8().ok();
    }
    let blanks = text.replace('+', " ");
    let decoded = percent_decode(blanks.as_bytes()).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    fn parse(query: &str) -> Result<Handshake, Refusal> {
        Handshake::parse(query, 1000)
    }

    fn missing(query: &str) -> RequiredKey {
        match parse(query) {
            Err(Refusal::Missing(key)) => key,
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn a_complete_handshake() {
        let query = "EIO=4&transport=websocket&id=al+ice%21&version=1.2.0&runtime=JVM&data=%7B%22a%22%3A1%7D&x";
        assert_eq!(
            parse(query),
            Ok(Handshake {
                id: NodeId::parse("al ice!").unwrap(),
                version: "1.2.0".into(),
                runtime: "JVM".into(),
                data: Some("{\"a\":1}".into()),
            })
        );
    }

    #[test]
    fn the_first_missing_key_is_named() {
        assert_eq!(missing(""), RequiredKey::Id);
        assert_eq!(missing("version=1"), RequiredKey::Id);
        assert_eq!(missing("id=a"), RequiredKey::Version);
        assert_eq!(missing("runtime=r&id=a&version=1&version=1"), RequiredKey::Version);
        assert_eq!(missing("id=a&version=1"), RequiredKey::Runtime);
    }

    #[test]
    fn a_version_and_a_runtime_may_be_empty() {
        let handshake = parse("id=a&version=&runtime").unwrap();
        assert_eq!((handshake.version.as_str(), handshake.runtime.as_str()), ("", ""));
    }

    #[test]
    fn an_id_that_is_twice_there_or_not_valid_is_missing() {
        for id in ["id=a&id=a", "id=a&i%64=b", "id=", "id", "id=%20", "id=a+", "id=%ff", "id=a%0Ab"]
        {
            assert_eq!(missing(&format!("{id}&version=1&runtime=r")), RequiredKey::Id, "{id}");
        }
    }

    #[test]
    fn pluses_at_the_ends_of_an_id_of_the_jvm_are_put_back() {
        let id = |id: &str, runtime: &str| {
            let handshake = parse(&format!("id={id}&version=1&runtime={runtime}"));
            handshake.ok().map(|handshake| handshake.id.as_str().to_owned())
        };
        for (sent, expected) in [
            ("+39333", "+39333"),
            // So the Java client writes what it has decoded itself.
            ("%2039333", "+39333"),
            ("+a%20b%20+", "+a b++"),
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("100%", "100%"),
            ("a%25b", "a%b"),
        ] {
            assert_eq!(id(sent, "JVM").as_deref(), Some(expected), "{sent}");
        }
        assert_eq!(id("+", "JVM"), None);
        assert_eq!(id("+39333", "NODEJS"), None, "it encodes, so this is a blank");
    }

    #[test]
    fn data_is_optional_and_never_ambiguous() {
        let data = |tail: &str| parse(&format!("id=a&version=1&runtime=r{tail}")).unwrap().data;
        assert_eq!(data(""), None);
        assert_eq!(data("&data=x"), Some("x".into()));
        assert_eq!(data("&data="), Some("".into()));
        assert_eq!(data("&data"), Some("".into()));
        assert_eq!(data("&data=x&data=y"), None);
        assert_eq!(data("&data=100%"), Some("100%".into()));
    }

    #[test]
    fn values_have_a_longest_length_in_decoded_bytes() {
        let parsed = |version: usize, runtime: usize, data: usize| {
            let query = format!(
                "id=a&version={}&runtime={}&data={}",
                "%C3%BC".repeat(version / 2),
                "r".repeat(runtime),
                "+".repeat(data)
            );
            parse(&query).map(drop)
        };
        assert_eq!(parsed(256, 256, 1000), Ok(()));
        assert_eq!(parsed(258, 257, 1001), Err(Refusal::TooLong("version")));
        assert_eq!(parsed(0, 257, 1001), Err(Refusal::TooLong("runtime")));
        assert_eq!(parsed(0, 0, 1001), Err(Refusal::TooLong("data")));
    }

    proptest! {
        /// The reference decodes lossily, so only texts that are UTF-8 after decoding compare.
        #[test]
        fn decodes_like_the_reference_form_decoder(query in "[a-c=&+%0-9A-Fé~]{0,40}", key in "[a-c]{1,2}") {
            let wanted: Vec<_> = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| *name == key).collect();
            let expected = match wanted.as_slice() {
                [(_, value)] if !value.contains('\u{fffd}') => Some(value.to_string()),
                _ => None,
            };
            prop_assert_eq!(value(&query, &key), expected);
        }

        #[test]
        fn what_a_form_encoder_writes_is_read_back(id in "\\PC{1,60}", data in "\\PC{1,60}") {
            prop_assume!(NodeId::parse(&id).is_ok());
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("id", &*id), ("version", "1"), ("runtime", "r"), ("data", &data)])
                .finish();
            let handshake = parse(&query).unwrap();
            prop_assert_eq!(handshake.id.as_str(), &id);
            prop_assert_eq!(handshake.data, Some(data));
        }

        #[test]
        fn no_query_panics(query in "\\PC{0,200}") {
            let _ = parse(&query);
        }
    }
}
