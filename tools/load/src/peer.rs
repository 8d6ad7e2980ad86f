//! Peers of the peer-relay network: their IDs, and what they send each other, as the npm package
//! `peer-relay` 0.0.2 does.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// The length of an ID in bytes.
const ID_BYTES: usize = 20;

/// A peer's ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerId([u8; ID_BYTES]);

impl PeerId {
    /// An ID that looks random, and is the same for the same name.
    pub fn made_from(name: &str) -> Self {
        let mut bytes = [0; ID_BYTES];
        for (number, chunk) in bytes.chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&hash(&(name, number)).to_be_bytes()[..chunk.len()]);
        }
        Self(bytes)
    }

    /// Nine digits for the nonces of a run with this prefix: peers remember those of all runs.
    pub fn salt(prefix: &str) -> u64 {
        100_000_000 + hash(&(prefix, "nonce")) % 900_000_000
    }

    /// Reads the first frame of a channel.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        serde_json::from_slice(frame).ok()
    }

    /// The first frame of a channel: the JSON of a Node.js Buffer.
    pub fn to_frame(self) -> String {
        format!("{{\"type\":\"Buffer\",\"data\":{:?}}}", self.0).replace(' ', "")
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// 40 hexadecimal digits.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Any of the three forms in which peers write IDs.
impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Digits(String),
            Bytes([u8; ID_BYTES]),
            Buffer { data: [u8; ID_BYTES] },
        }
        match Form::deserialize(deserializer)? {
            Form::Bytes(bytes) | Form::Buffer { data: bytes } => Ok(Self(bytes)),
            Form::Digits(digits) => {
                from_hex(&digits).ok_or_else(|| de::Error::custom("not 40 hexadecimal digits"))
            }
        }
    }
}

fn from_hex(digits: &str) -> Option<PeerId> {
    let mut id = [0; ID_BYTES];
    if digits.len() != 2 * ID_BYTES {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.as_bytes().chunks(2)) {
        for digit in pair {
            *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
        }
    }
    Some(PeerId(id))
}

/// A message as it comes to a peer.
#[derive(Debug, Deserialize)]
pub struct PeerMessage<'a> {
    /// Whom it is for.
    pub to: PeerId,
    /// Whom it is from.
    pub from: PeerId,
    /// Whom it came by, its sender first.
    pub path: Vec<PeerId>,
    /// What tells it from others.
    #[serde(borrow)]
    pub nonce: Cow<'a, str>,
    /// What it is about.
    #[serde(borrow)]
    pub data: Content<'a>,
}

/// What a message is about.
#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    /// `user` for what programs send each other.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// What they send.
    #[serde(default)]
    pub data: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_every_form() {
        let id = PeerId::made_from("a");
        assert_eq!(PeerId::parse(id.to_frame().as_bytes()), Some(id));
        assert_eq!(PeerId::parse(format!("\"{id}\"").as_bytes()), Some(id));
        let upper = id.to_string().to_uppercase();
        assert_eq!(PeerId::parse(format!("\"{upper}\"").as_bytes()), Some(id));
        assert_eq!(PeerId::parse(format!("{:?}", id.0).as_bytes()), Some(id));
        for text in ["\"ab\"", "[1]", "{}", "null", "7", &format!("\"{}zz\"", "0".repeat(38))] {
            assert_eq!(PeerId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_are_written_as_the_package_does() {
        let mut bytes = [7; ID_BYTES];
        bytes[0] = 255;
        let data = format!("255{}", ",7".repeat(19));
        assert_eq!(PeerId(bytes).to_frame(), format!(r#"{{"type":"Buffer","data":[{data}]}}"#));
        assert_eq!(PeerId(bytes).to_string(), format!("ff{}", "07".repeat(19)));
    }

    #[test]
    fn names_make_ids_of_their_own() {
        assert_eq!(PeerId::made_from("a"), PeerId::made_from("a"));
        assert_ne!(PeerId::made_from("a"), PeerId::made_from("b"));
        assert_ne!(PeerId::salt("a"), PeerId::salt("b"));
        assert_eq!(PeerId::salt("a").to_string().len(), 9);
    }
}
