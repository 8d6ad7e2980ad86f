//! The ID of a peer: 160 bits, and the XOR distance between two of them.

use std::fmt;

use rand::{Rng, RngExt};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The length of an ID in bytes.
pub const ID_BYTES: usize = 20;

/// The length of an ID in bits.
pub(crate) const ID_BITS: usize = ID_BYTES * 8;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What stands in [`VALUES`] for a byte that is no hexadecimal digit.
const NO_DIGIT: u8 = 255;

/// The values of bytes as hexadecimal digits, in upper or lower case: every message has several IDs to
/// read, and a table is the fastest.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        let digit = DIGITS[value];
        values[digit as usize] = value as u8;
        values[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    values
};

/// The ID by which peers address each other.
///
/// Written as 40 lower-case hexadecimal digits. Read from JSON in each of the three forms that
/// peers send: hexadecimal digits, an array of 20 bytes, and Node.js's
/// `{"type":"Buffer","data":[…]}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId([u8; ID_BYTES]);

/// How far two IDs are apart: their exclusive or, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; ID_BYTES]);

/// Why a text is no [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer ID has {} hexadecimal digits", ID_BYTES * 2)]
pub struct InvalidPeerId;

impl PeerId {
    /// The ID with these bytes, the most significant one first.
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// A random ID.
    pub fn random(random: &mut impl Rng) -> Self {
        Self(random.random())
    }

    /// Reads 40 hexadecimal digits, in upper or lower case.
    ///
    /// # Errors
    /// [`InvalidPeerId`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidPeerId> {
        let digits = text.as_bytes();
        if digits.len() != ID_BYTES * 2 {
            return Err(InvalidPeerId);
        }
        let mut id = [0; ID_BYTES];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            if high.max(low) == NO_DIGIT {
                return Err(InvalidPeerId);
            }
            *byte = high << 4 | low;
        }
        Ok(Self(id))
    }

    /// The bytes, the most significant one first.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// How far `other` is.
    pub fn distance(&self, other: &PeerId) -> Distance {
        Distance(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }

    /// How many bits the two IDs have in common at their start, from 0 to 160.
    pub fn common_bits(&self, other: &PeerId) -> usize {
        let differing = self.0.iter().zip(&other.0).position(|(a, b)| a != b);
        differing.map_or(ID_BITS, |at| at * 8 + (self.0[at] ^ other.0[at]).leading_zeros() as usize)
    }

    /// The bit at this place, from 0 to 159.
    pub(crate) fn bit(&self, at: usize) -> bool {
        self.0[at / 8] & (0x80 >> (at % 8)) != 0
    }

    /// A random ID that has `common` bits in common with this one, from 0 to 159.
    pub(crate) fn random_in_bucket(&self, common: usize, random: &mut impl Rng) -> Self {
        let mut id = Self::random(random);
        for at in 0..=common {
            let is_one = self.bit(at) ^ (at == common);
            let mask = 0x80 >> (at % 8);
            id.0[at / 8] = if is_one { id.0[at / 8] | mask } else { id.0[at / 8] & !mask };
        }
        id
    }

    /// Writes the digits behind `text`.
    pub(crate) fn write_hex(&self, text: &mut String) {
        let mut digits = [0; ID_BYTES * 2];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        // Digits are text.
        text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(ID_BYTES * 2);
        self.write_hex(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PeerId {
    type Err = InvalidPeerId;

    fn from_str(text: &str) -> Result<Self, InvalidPeerId> {
        Self::parse(text)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm)
    }
}

/// An ID that must be hexadecimal digits, as those in a path.
pub(crate) struct HexId(pub(crate) PeerId);

impl<'de> Deserialize<'de> for HexId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyForm).map(Self)
    }
}

struct AnyForm;

impl<'de> Visitor<'de> for AnyForm {
    type Value = PeerId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a peer ID")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerId, E> {
        PeerId::parse(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<PeerId, A::Error> {
        let mut id = [0; ID_BYTES];
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = bytes.next_element()?.ok_or_else(|| de::Error::invalid_length(at, &self))?;
        }
        match bytes.next_element::<IgnoredAny>()? {
            None => Ok(PeerId(id)),
            Some(_) => Err(de::Error::invalid_length(ID_BYTES + 1, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<PeerId, A::Error> {
        let (mut is_buffer, mut id) = (false, None);
        while let Some(name) = fields.next_key::<Field>()? {
            match name {
                Field::Type => {
                    fields.next_value::<BufferMark>()?;
                    is_buffer = true;
                }
                Field::Data => id = Some(fields.next_value::<Bytes>()?.0),
            }
        }
        id.filter(|_| is_buffer).ok_or_else(|| de::Error::custom("not a Buffer of 20 bytes"))
    }
}

/// The fields of a Buffer; there are no others.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Type,
    Data,
}

#[derive(serde::Deserialize)]
enum BufferMark {
    Buffer,
}

/// The array in a Buffer.
struct Bytes(PeerId);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AnyForm).map(Self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    /// Any ID; close ones as often as distant ones.
    pub(crate) fn ids() -> impl Strategy<Value = PeerId> {
        (any::<[u8; ID_BYTES]>(), 0..=ID_BYTES).prop_map(|(mut bytes, same)| {
            bytes[..same].fill(0);
            PeerId(bytes)
        })
    }

    fn read(json: &str) -> Option<PeerId> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn is_read_in_every_form() {
        let id = PeerId(std::array::from_fn(|at| at as u8 * 13));
        let bytes = format!("{:?}", id.0);
        for json in [
            format!("\"{id}\""),
            format!("\"{}\"", id.to_string().to_uppercase()),
            bytes.clone(),
            format!(r#"{{"type":"Buffer","data":{bytes}}}"#),
            format!(r#" {{"data": {bytes}, "type": "Buffer"}} "#),
        ] {
            assert_eq!(read(&json), Some(id), "{json}");
        }
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn nothing_else_is_an_id() {
        let hex = "ab".repeat(20);
        let bytes = |count| format!("{:?}", vec![7; count]);
        for json in [
            "null".to_owned(),
            "1".to_owned(),
            "\"\"".to_owned(),
            format!("\"{}\"", &hex[1..]),
            format!("\"{hex}a\""),
            format!("\"{}g\"", &hex[1..]),
            format!("\"+{}\"", &hex[1..]),
            format!("\"{}é\"", &hex[2..]),
            bytes(19),
            bytes(21),
            bytes(20).replacen('7', "256", 1),
            bytes(20).replacen('7', "-1", 1),
            bytes(20).replacen('7', "1.5", 1),
            bytes(20).replacen('7', "null", 1),
            format!(r#"{{"data":{}}}"#, bytes(20)),
            r#"{"type":"Buffer"}"#.to_owned(),
            format!(r#"{{"type":"buffer","data":{}}}"#, bytes(20)),
            format!(r#"{{"type":"Buffer","data":{}}}"#, bytes(19)),
            format!(r#"{{"type":"Buffer","data":"{hex}"}}"#),
            "[".repeat(100_000),
        ] {
            assert_eq!(read(&json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(id in ids()) {
            prop_assert_eq!(PeerId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn the_distance_is_a_metric(a in ids(), b in ids(), c in ids()) {
            prop_assert_eq!(a.distance(&b), b.distance(&a));
            prop_assert_eq!(a.distance(&b) == a.distance(&a), a == b);
            // More bits in common is nearer.
            if a.common_bits(&b) > a.common_bits(&c) {
                prop_assert!(a.distance(&b) < a.distance(&c));
            }
            // Seen from one ID, no two others are equally far.
            prop_assert_eq!(a.distance(&b) == a.distance(&c), b == c);
        }

        #[test]
        fn an_id_can_be_drawn_from_any_bucket(own in ids(), common in 0..ID_BITS, seed in any::<u64>()) {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            prop_assert_eq!(own.random_in_bucket(common, &mut random).common_bits(&own), common);
        }

        #[test]
        fn bits_in_common_end_where_they_differ(a in ids(), b in ids()) {
            let common = a.common_bits(&b);
            prop_assert!((0..common).all(|at| a.bit(at) == b.bit(at)));
            prop_assert!(common == ID_BITS || a.bit(common) != b.bit(common));
        }
    }
}
