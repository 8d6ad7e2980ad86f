//! The words of discovery, each parsed once: code, origin, topic, side, session.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::fault::Fault;
use super::text::JsonText;

/// The longest topic in UTF-16 units.
const MAX_TOPIC_UNITS: usize = 256;

/// The longest `Origin` header in bytes; those of browsers are host names.
const MAX_ORIGIN_BYTES: usize = 1024;

/// The origin of requests without the header.
const NO_ORIGIN: &str = "unknown";

/// A time in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time of the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis() as u64)
    }

    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }

    /// How long it is from `earlier` to this.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The name of a session: a random UUID, written as it is given out and in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(Uuid);

impl Code {
    /// A new one (RFC 9562, version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The code that is written so; none for other texts, which name no session.
    pub fn parse(text: &str) -> Option<Self> {
        let code = Self(Uuid::try_parse(text).ok()?);
        (code.to_string() == text).then_some(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whose sessions these are: the value of the `Origin` header. Origins do not see each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// The origin that a header's value names.
    ///
    /// # Errors
    /// [`Fault::OriginTooLong`].
    pub(super) fn parse(header: Option<&[u8]>) -> Result<Self, Fault> {
        match header {
            None | Some([]) => Ok(Self(NO_ORIGIN.into())),
            Some(value) if value.len() > MAX_ORIGIN_BYTES => Err(Fault::OriginTooLong),
            Some(value) => Ok(Self(String::from_utf8_lossy(value).into())),
        }
    }

    /// An origin that was stored.
    pub(super) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What peers meet by: any text of 1 to 256 UTF-16 units.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Topic(#[serde(serialize_with = "as_text")] Arc<str>);

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Topic {
    /// The topic that a segment of a request's path names.
    ///
    /// # Errors
    /// It may be empty or too long.
    pub(super) fn from_segment(segment: &str) -> Result<Self, Fault> {
        let text = decode_segment(segment);
        if text.is_empty() {
            return Err(Fault::MissingTopic);
        }
        if text.encode_utf16().count() > MAX_TOPIC_UNITS {
            return Err(Fault::TopicTooLong);
        }
        Ok(Self(text.into()))
    }

    /// A topic that was stored.
    pub(super) fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Decodes percent escapes; a run of them that is broken or no UTF-8 stays as it is.
fn decode_segment(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(start) = rest.find('%') {
        text += &rest[..start];
        rest = &rest[start..];
        let escapes = escapes_at_start(rest);
        if escapes.is_empty() {
            text.push('%');
            rest = &rest[1..];
            continue;
        }
        let (run, behind) = rest.split_at(escapes.len() * 3);
        match String::from_utf8(escapes) {
            Ok(decoded) => text += &decoded,
            Err(_) => text += run,
        }
        rest = behind;
    }
    text + rest
}

/// The bytes that the escapes at the start of `text` stand for.
fn escapes_at_start(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let escape = |bytes: &[u8]| match *bytes {
        [b'%', high, low] => Some((digit(high)? << 4) | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(3).map_while(escape).collect()
}

/// The two who meet in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Made the session.
    Offerer,
    /// Found it.
    Answerer,
}

impl Side {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "offerer" => Some(Self::Offerer),
            "answerer" => Some(Self::Answerer),
            _ => None,
        }
    }
}

/// A session that is to be stored.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its name.
    pub code: Code,
    /// Whose it is.
    pub origin: Origin,
    /// Under which topic it is listed.
    pub topic: Topic,
    /// What the offerer says of itself.
    pub info: JsonText,
    /// The offerer's description.
    pub offer: JsonText,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is gone.
    pub expires_at: Timestamp,
}

/// The room that a session takes beside its texts, in bytes: names, times, places in indexes.
const SESSION_OVERHEAD_BYTES: usize = 512;

/// The room that an answer or a candidate takes beside its text, in bytes.
pub(super) const TEXT_OVERHEAD_BYTES: usize = 64;

impl NewSession {
    /// The room that it takes in a store.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.info.as_json().len() + self.offer.as_json().len();
        SESSION_OVERHEAD_BYTES + self.origin.as_str().len() + self.topic.as_str().len() + texts
    }

    /// As it is at its beginning.
    pub(super) fn as_session(&self) -> Session {
        Session {
            code: self.code,
            info: self.info.clone(),
            offer: self.offer.clone(),
            answer: None,
            answers: 0,
            offer_candidates: Vec::new(),
            answer_candidates: Vec::new(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

/// The room that an answer or a candidate takes in a store.
pub(super) fn text_bytes(text: &JsonText) -> usize {
    TEXT_OVERHEAD_BYTES + text.as_json().len()
}

/// A session as a store gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its name.
    pub code: Code,
    /// What the offerer says of itself.
    pub info: JsonText,
    /// The offerer's description.
    pub offer: JsonText,
    /// The last answer that was given.
    pub answer: Option<JsonText>,
    /// How many answers were given.
    pub answers: u32,
    /// The offerer's candidates, in the order in which they came.
    pub offer_candidates: Vec<JsonText>,
    /// The answerer's candidates, in the order in which they came.
    pub answer_candidates: Vec<JsonText>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is gone.
    pub expires_at: Timestamp,
}

impl Session {
    /// How much has happened that is news to `side`; only ever grows. The offer is none: who
    /// polls as the answerer has found it in a list.
    pub fn revision(&self, side: Side) -> u32 {
        match side {
            Side::Offerer => self.answers + self.answer_candidates.len() as u32,
            Side::Answerer => self.offer_candidates.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_written_in_one_way() {
        let code = Code::random().to_string();
        assert_eq!(Code::parse(&code).map(|code| code.to_string()), Some(code.clone()));
        let others =
            [code.to_uppercase(), code.replace('-', ""), format!("{{{code}}}"), "x".into()];
        for text in others.iter().filter(|text| **text != code) {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        for (segment, text) in [
            ("plain+text", "plain+text"),
            ("a%2Fb%20c", "a/b c"),
            ("%F0%9F%99%82", "🙂"),
            ("%", "%"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%E2%82", "%E2%82"),
            ("a%20%FF-%20", "a%20%FF- "),
            ("%00", "\0"),
            ("%2525", "%25"),
        ] {
            assert_eq!(decode_segment(segment), text);
        }
    }

    #[test]
    fn topics_are_measured_as_javascript_does() {
        assert_eq!(Topic::from_segment(""), Err(Fault::MissingTopic));
        assert!(Topic::from_segment(&"ä".repeat(256)).is_ok());
        assert!(Topic::from_segment(&"%F0%9F%99%82".repeat(128)).is_ok());
        assert_eq!(Topic::from_segment(&"🙂".repeat(129)), Err(Fault::TopicTooLong));
    }

    #[test]
    fn no_header_is_an_origin_too() {
        let origin = |header| Origin::parse(header).map(|origin| origin.as_str().to_owned());
        assert_eq!(origin(None), Ok("unknown".into()));
        assert_eq!(origin(Some(b"")), Ok("unknown".into()));
        assert_eq!(origin(Some(b"https://a")), Ok("https://a".into()));
        assert_eq!(origin(Some(&[b'a'; 1025])), Err(Fault::OriginTooLong));
    }

    proptest! {
        #[test]
        fn every_text_can_be_a_topic(text in "\\PC{1,60}") {
            let all = percent_encoding::NON_ALPHANUMERIC;
            let segment = percent_encoding::utf8_percent_encode(&text, all).to_string();
            prop_assert_eq!(decode_segment(&segment), text);
        }

        #[test]
        fn no_segment_is_too_odd(segment in "[%0-9a-fA-FzE2ä]{0,40}") {
            decode_segment(&segment);
        }
    }
}
