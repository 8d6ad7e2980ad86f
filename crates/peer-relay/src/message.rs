//! What travels through a channel, as text and as values.
//!
//! The first frame of each side is its ID, every later one a message. The wire is that of the npm
//! package `peer-relay` 0.0.2; what a peer does not have to understand passes as the text that
//! came.

use std::borrow::Cow;

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::id::{HexId, PeerId};

/// What a frame has beside the `data` of its message at most, in bytes. It grows on the way: a path
/// of 20 IDs, and the longer form of two more.
pub(crate) const MAX_OVERHEAD_BYTES: usize = 2048;

/// The longest `data` of a message by default, in bytes of its JSON.
pub const MAX_DATA_BYTES: usize = link::MAX_MESSAGE_BYTES - MAX_OVERHEAD_BYTES;

/// How deep arrays and objects may lie in each other. The original's process ends over deeper
/// ones when it passes them on.
const MAX_DEPTH: usize = 128;

/// The longest nonce, in bytes. The original's have up to 15.
const MAX_NONCE_BYTES: usize = 64;

/// One message on its way through the network.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The peer that it is for.
    pub(crate) to: PeerId,
    /// The peer that it came from at first, as it says.
    pub(crate) from: PeerId,
    /// The peers that it came by, the sender first; one may stand there twice.
    pub(crate) path: Vec<PeerId>,
    /// What tells it from other messages: letters and digits.
    pub(crate) nonce: Box<str>,
    /// Its content: the JSON text of an object.
    pub(crate) data: Box<RawValue>,
}

/// A frame that is none of those that a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is no message")]
pub(crate) struct Malformed;

#[derive(Deserialize)]
struct Wire<'a> {
    to: PeerId,
    from: PeerId,
    path: Vec<HexId>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Message {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`Malformed`] if anything in it is not as it must be.
    pub(crate) fn parse(frame: &str) -> Result<Self, Malformed> {
        let wire: Wire<'_> = serde_json::from_str(frame).map_err(|_| Malformed)?;
        let data = wire.data.get();
        let is_nonce = (1..=MAX_NONCE_BYTES).contains(&wire.nonce.len())
            && wire.nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_nonce || !data.starts_with('{') || is_too_deep(data) {
            return Err(Malformed);
        }
        Ok(Self {
            to: wire.to,
            from: wire.from,
            path: wire.path.into_iter().map(|HexId(id)| id).collect(),
            nonce: wire.nonce.into(),
            data: wire.data.to_owned(),
        })
    }

    /// Returns the length of the frame that this message is sent as, or a bit more.
    pub(crate) fn frame_bytes(&self) -> usize {
        150 + self.path.len() * 43 + self.nonce.len() + self.data.get().len()
    }

    /// The frame that this message is sent as.
    pub(crate) fn to_frame(&self) -> String {
        let data = self.data.get();
        let mut frame = String::with_capacity(self.frame_bytes());
        frame.push_str("{\"to\":\"");
        self.to.write_hex(&mut frame);
        frame.push_str("\",\"from\":\"");
        self.from.write_hex(&mut frame);
        frame.push_str("\",\"path\":[");
        for (at, id) in self.path.iter().enumerate() {
            frame.push_str(if at == 0 { "\"" } else { ",\"" });
            id.write_hex(&mut frame);
            frame.push('"');
        }
        frame.push_str("],\"nonce\":\"");
        frame.push_str(&self.nonce);
        frame.push_str("\",\"data\":");
        frame.push_str(data);
        frame.push('}');
        frame
    }
}

/// Whether brackets lie too deep in each other in a text that is JSON.
fn is_too_deep(json: &str) -> bool {
    // Few that open cannot lie deep, and they are counted much faster than followed.
    if memchr::memchr2_iter(b'[', b'{', json.as_bytes()).nth(MAX_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// The first frame of a channel: the own ID in the form of a Node.js Buffer.
pub(crate) fn id_frame(own: &PeerId) -> String {
    to_json(&Buffer(own.as_bytes())).get().to_owned()
}

/// Reads the first frame of a channel.
///
/// # Errors
/// [`Malformed`] if it is no ID.
pub(crate) fn parse_id_frame(frame: &str) -> Result<PeerId, Malformed> {
    serde_json::from_str(frame).map_err(|_| Malformed)
}

/// What a message for this peer itself says.
#[derive(Debug)]
pub(crate) enum Content {
    /// Something for the application; `null` where there is none.
    User(Box<RawValue>),
    /// The question which peers are close to an ID.
    FindPeers(PeerId),
    /// The answer to that.
    FoundPeers(Vec<PeerId>),
    /// The question how this peer can be reached.
    HandshakeOffer,
    /// The answer to that.
    HandshakeAnswer(Reachable),
    /// Signaling of WebRTC, as the package `simple-peer` has it.
    Signal(Signal),
    /// What the original ignores too.
    Unknown,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// How a peer can be reached.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reachable {
    /// At this URL.
    pub(crate) ws: Option<String>,
    /// By WebRTC.
    #[serde(default)]
    pub(crate) wrtc: bool,
}

/// One step of the negotiation of a WebRTC channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The description of the side that begins.
    Offer(String),
    /// The description of the other side.
    Answer(String),
    /// A candidate for an address, or anything else.
    Other,
}

#[derive(Deserialize)]
struct SessionDescription<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    sdp: String,
}

impl Content {
    /// Reads the `data` of a message.
    ///
    /// # Errors
    /// [`Malformed`] if its type is known and the rest does not fit it.
    pub(crate) fn parse(data: &RawValue) -> Result<Self, Malformed> {
        let body: Body<'_> = serde_json::from_str(data.get()).map_err(|_| Malformed)?;
        // A type that is no text is one that nobody knows.
        let kind: String =
            body.kind.and_then(|kind| serde_json::from_str(kind.get()).ok()).unwrap_or_default();
        let data = body.data.map_or("null", RawValue::get);
        Ok(match kind.as_str() {
            "user" => Self::User(body.data.unwrap_or(RawValue::NULL).to_owned()),
            "findPeers" => Self::FindPeers(read(data)?),
            "foundPeers" => Self::FoundPeers(read(data)?),
            "handshake-offer" => Self::HandshakeOffer,
            "handshake-answer" => {
                Self::HandshakeAnswer(read::<Option<_>>(data)?.unwrap_or_default())
            }
            "signal" => Self::Signal(Signal::parse(data)),
            _ => Self::Unknown,
        })
    }
}

impl Signal {
    fn parse(data: &str) -> Self {
        let Ok(SessionDescription { kind, sdp }) = read(data) else { return Self::Other };
        match &*kind {
            "offer" => Self::Offer(sdp),
            "answer" => Self::Answer(sdp),
            _ => Self::Other,
        }
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(json).map_err(|_| Malformed)
}

/// The `data` of a message for an application.
pub(crate) fn user(data: &RawValue) -> Box<RawValue> {
    to_json(&Typed { kind: "user", data: Some(data) })
}

/// The `data` of a question which peers are close to `target`.
pub(crate) fn find_peers(target: &PeerId) -> Box<RawValue> {
    to_json(&Typed { kind: "findPeers", data: Some(target) })
}

/// The `data` of the answer to that.
pub(crate) fn found_peers(found: &[PeerId]) -> Box<RawValue> {
    to_json(&Typed { kind: "foundPeers", data: Some(found) })
}

/// The `data` of a question how a peer can be reached.
pub(crate) fn handshake_offer() -> Box<RawValue> {
    to_json(&Typed::<()> { kind: "handshake-offer", data: None })
}

/// The `data` of the answer to that.
pub(crate) fn handshake_answer(reachable: &Reachable) -> Box<RawValue> {
    to_json(&Typed { kind: "handshake-answer", data: Some(reachable) })
}

/// The `data` of a message that carries a description of a WebRTC channel's side.
#[cfg(feature = "webrtc")]
pub(crate) fn signal(kind: &'static str, sdp: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Description<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        sdp: &'a str,
    }
    to_json(&Typed { kind: "signal", data: Some(&Description { kind, sdp }) })
}

#[derive(Serialize)]
struct Typed<'a, T: Serialize + ?Sized> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a T>,
}

/// Bytes in the form that Node.js gives a Buffer in JSON.
pub(crate) struct Buffer<'a>(pub(crate) &'a [u8]);

impl Serialize for Buffer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = serializer.serialize_struct("Buffer", 2)?;
        buffer.serialize_field("type", "Buffer")?;
        buffer.serialize_field("data", self.0)?;
        buffer.end()
    }
}

/// The JSON of a value that always has one: there are no maps with odd keys in it.
pub(crate) fn to_json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
