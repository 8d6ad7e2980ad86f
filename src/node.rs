//! The identifiers of nodes, connections, replicas and owners.
//!
//! Untrusted text becomes a [`NodeId`] once, at the edge; nothing behind it checks again.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest ID a node may have, in bytes.
pub(crate) const MAX_NODE_ID_BYTES: usize = 256;

/// The longest text in a field of a log line, in bytes.
const MAX_LOGGED_BYTES: usize = 256;

/// The ID by which nodes address each other: 1 to 256 bytes of UTF-8 without control characters
/// and without blanks at its ends (an ID with outer blanks could never be addressed, because `to`
/// is trimmed).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(Arc<str>);

/// Why a text is no [`NodeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a node ID has 1 to {MAX_NODE_ID_BYTES} bytes, no control characters, no blanks at its ends"
)]
pub(crate) struct InvalidNodeId;

impl NodeId {
    /// Takes `text` as an ID.
    ///
    /// # Errors
    /// [`InvalidNodeId`] if it breaks one of the rules of the type.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidNodeId> {
        let valid = !text.is_empty()
            && Self::may_be(text)
            && trim(text).len() == text.len()
            && !text.chars().any(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(InvalidNodeId) }
    }

    /// Whether `text` is short enough for an ID. Longer texts belong to no node.
    pub(crate) fn may_be(text: &str) -> bool {
        text.len() <= MAX_NODE_ID_BYTES
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Logged(&self.0), f)
    }
}

/// Untrusted text in a log line: quoted, escaped, and cut so that its escapes do not make a short
/// text a long line.
pub(crate) struct Logged<'a>(pub(crate) &'a str);

impl fmt::Debug for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut written = 0;
        for c in self.0.chars() {
            let escaped = c.escape_debug();
            written += escaped.clone().map(char::len_utf8).sum::<usize>();
            if written > MAX_LOGGED_BYTES {
                return f.write_str("\"...");
            }
            write!(f, "{escaped}")?;
        }
        f.write_char('"')
    }
}

/// Cuts the blanks off both ends, as JavaScript's `String.prototype.trim` does: U+FEFF is a blank
/// there, U+0085 is not, unlike in Rust (ECMAScript, "WhiteSpace" and "LineTerminator").
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c == '\u{feff}' || (c != '\u{85}' && c.is_whitespace()))
}

/// One connection of a node, unique within its replica's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// An ID that no connection of this process had before.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The number in messages between replicas.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The connection with this number, perhaps of another replica.
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One broker process, from its start to its end: a restarted process is another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReplicaId(uuid::Uuid);

impl ReplicaId {
    /// A random ID that no other process has.
    pub(crate) fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// The bytes in messages between replicas.
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl FromStr for ReplicaId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// The holder of an ID: a connection on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) replica: ReplicaId,
    pub(crate) connection: ConnectionId,
}

impl fmt::Display for Owner {
    /// The value in Redis: `replica:connection`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.connection)
    }
}

/// Not the text of an [`Owner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the ID of a replica and the number of a connection")]
pub(crate) struct InvalidOwner;

impl FromStr for Owner {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        let (replica, connection) = text.split_once(':').ok_or(InvalidOwner)?;
        let replica = replica.parse().map_err(|_| InvalidOwner)?;
        let connection = connection.parse().map_err(|_| InvalidOwner)?;
        Ok(Self { replica, connection: ConnectionId(connection) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_odd_ids_are_ids() {
        for id in
            ["a", "alice", "a b", "__proto__", "*", "a:b", "socket.io#/#", "ü", &"x".repeat(256)]
        {
            assert_eq!(NodeId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_not_be_addressed_or_logged_are_refused() {
        for id in [
            "",
            " ",
            " a",
            "a\u{a0}",
            "\u{feff}a",
            "a\nb",
            "a\0",
            "a\u{85}",
            &"x".repeat(257),
            &"ü".repeat(129),
        ] {
            assert_eq!(NodeId::parse(id), Err(InvalidNodeId), "{id:?}");
        }
    }

    #[test]
    fn logged_text_is_quoted_escaped_and_cut() {
        let logged = |text: &str| format!("{:?}", Logged(text));
        assert_eq!(logged("a\"b\n\u{1}"), r#""a\"b\n\u{1}""#);
        assert_eq!(logged(&"x".repeat(256)), format!("\"{}\"", "x".repeat(256)));
        assert_eq!(logged(&"x".repeat(257)), format!("\"{}\"...", "x".repeat(256)));
        assert!(logged(&"\u{1}".repeat(256)).len() < 262);
        assert!(logged(&"ü".repeat(1000)).len() < 262);
    }

    #[test]
    fn trims_what_javascript_trims() {
        let blanks = "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
        assert_eq!(trim(&format!("{blanks}a{blanks}")), "a");
        assert_eq!(trim("\u{85}a\u{200b}"), "\u{85}a\u{200b}");
    }

    #[test]
    fn owners_find_their_way_back_from_text() {
        let owner = Owner { replica: ReplicaId::random(), connection: ConnectionId::next() };
        assert_eq!(owner.to_string().parse(), Ok(owner));
        for text in ["", ":", "1:1", "x", &format!("{}:", owner.replica), &format!("{owner}x")] {
            assert_eq!(text.parse::<Owner>(), Err(InvalidOwner), "{text:?}");
        }
    }

    #[test]
    fn connection_ids_do_not_repeat() {
        assert_ne!(ConnectionId::next(), ConnectionId::next());
    }
}
