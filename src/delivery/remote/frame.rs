//! What replicas say to each other, byte by byte.
//!
//! ```text
//! frame  = version (1)  sender (16)  sequence (8)  entry*
//! entry  = kind (1)  id (8)  length (4)  body (length)
//!
//! deliver   (1)    connection (8)  event (1)  to  opener  opener's connection (8)  argument
//! contest   (2)    connection (8)  replace (1)  node
//! unknown   (128)                       the kind of a request is not known here
//! delivered (129)  outcome (1)
//! contested (130)  verdict (1)
//! ```
//!
//! Numbers are big-endian; `to`, `node`, `opener` and `argument` are a length (4) and so many
//! bytes of UTF-8. `opener` is the sender of a CONNECTION_ATTEMPT, else empty. An answer has the
//! ID of its request.
//!
//! How versions live together: a body may grow at its end, and what is longer than expected is
//! not looked at. Kinds below 128 are requests; one that is not known is answered `unknown`, so
//! that its sender need not wait. Answers that are not known are passed over. Whatever
//! does not fit this gets a new version, and frames of an unknown version are dropped.

use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use crate::protocol::{Event, JsonString};

/// The version that is spoken here. 0 is not a version: probes of the channel begin with it.
const VERSION: u8 = 1;

const DELIVER: u8 = 1;
const CONTEST: u8 = 2;
const UNKNOWN: u8 = 128;
const DELIVERED: u8 = 129;
const CONTESTED: u8 = 130;

/// The least kind that is an answer.
const FIRST_ANSWER: u8 = 128;

/// A message to a node on another replica.
#[derive(Debug, Clone, Copy)]
pub struct RemoteMessage<'a> {
    /// The receiver.
    pub to: &'a str,
    /// The connection that it has, as far as the sending replica knows.
    pub connection: ConnectionId,
    /// The event.
    pub event: Event,
    /// The event's argument.
    pub argument: JsonString<'a>,
    /// Who opens a pair with this message, if that is what it does.
    pub opener: Option<(&'a str, Owner)>,
}

/// What became of a message on the other replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered = 0,
    NotHere = 1,
    QueueFull = 2,
    Passing = 3,
}

/// What another replica says about a connection whose ID somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is alive and keeps the ID.
    Alive = 0,
    /// It is not there, or is not any more: the ID is free.
    Gone = 1,
    /// It sends more than is read of it; whether it is alive cannot be told now.
    Busy = 2,
    /// It is just coming or going; soon it will be clear.
    Passing = 3,
}

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sender: ReplicaId,
    pub(super) sequence: u64,
}

/// One entry of a frame.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Deliver {
        id: u64,
        message: RemoteMessage<'a>,
    },
    Contest {
        id: u64,
        node: NodeId,
        connection: ConnectionId,
        replaces: bool,
    },
    Delivered {
        id: u64,
        outcome: Outcome,
    },
    Contested {
        id: u64,
        verdict: Verdict,
    },
    /// The other side does not know the kind of this request.
    Unknown {
        id: u64,
    },
    /// This side does not know the kind of that request.
    UnknownRequest {
        id: u64,
    },
    UnknownAnswer,
}

/// A frame that cannot be read, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of an unknown version")]
    Version,
    #[error("a frame that is cut off or makes no sense")]
    Malformed,
}

/// The length of a frame's header.
pub(super) const HEADER_BYTES: usize = 1 + 16 + 8;

pub(super) fn write_header(frame: &mut Vec<u8>, header: Header) {
    frame.push(VERSION);
    frame.extend(header.sender.as_bytes());
    frame.extend(header.sequence.to_be_bytes());
}

pub(super) fn write_deliver(frame: &mut Vec<u8>, id: u64, message: &RemoteMessage<'_>) {
    entry(frame, DELIVER, id, |frame| {
        frame.extend(message.connection.number().to_be_bytes());
        frame.push(message.event.index() as u8);
        text(frame, message.to);
        let (opener, connection) =
            message.opener.map_or(("", 0), |(node, owner)| (node, owner.connection.number()));
        text(frame, opener);
        frame.extend(connection.to_be_bytes());
        text(frame, message.argument.as_str());
    });
}

pub(super) fn write_contest(
    frame: &mut Vec<u8>,
    id: u64,
    node: &NodeId,
    connection: ConnectionId,
    replaces: bool,
) {
    entry(frame, CONTEST, id, |frame| {
        frame.extend(connection.number().to_be_bytes());
        frame.push(replaces.into());
        text(frame, node.as_str());
    });
}

pub(super) fn write_delivered(frame: &mut Vec<u8>, id: u64, outcome: Outcome) {
    entry(frame, DELIVERED, id, |frame| frame.push(outcome as u8));
}

pub(super) fn write_contested(frame: &mut Vec<u8>, id: u64, verdict: Verdict) {
    entry(frame, CONTESTED, id, |frame| frame.push(verdict as u8));
}

pub(super) fn write_unknown(frame: &mut Vec<u8>, id: u64) {
    entry(frame, UNKNOWN, id, |_| ());
}

fn entry(frame: &mut Vec<u8>, kind: u8, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
    frame.push(kind);
    frame.extend(id.to_be_bytes());
    let length_at = frame.len();
    frame.extend([0; 4]);
    let body_at = frame.len();
    body(frame);
    // Payloads are limited to a megabyte: the length fits.
    let length = (frame.len() - body_at) as u32;
    frame[length_at..body_at].copy_from_slice(&length.to_be_bytes());
}

fn text(frame: &mut Vec<u8>, text: &str) {
    frame.extend((text.len() as u32).to_be_bytes());
    frame.extend(text.as_bytes());
}

/// Reads a frame's header; the entries are read one by one.
pub(super) fn read(frame: &[u8]) -> Result<(Header, Entries<'_>), FrameError> {
    if frame.first() != Some(&VERSION) {
        return Err(FrameError::Version);
    }
    let mut rest = Reader(&frame[1..]);
    let sender = ReplicaId::from_bytes(rest.array()?);
    let sequence = rest.number()?;
    Ok((Header { sender, sequence }, Entries { sender, rest }))
}

/// The entries of a frame. After one that cannot be read there are no more.
pub(super) struct Entries<'a> {
    sender: ReplicaId,
    rest: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.0.is_empty() {
            return None;
        }
        let entry = self.rest.entry(self.sender);
        if entry.is_err() {
            self.rest.0 = &[];
        }
        Some(entry)
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn entry(&mut self, sender: ReplicaId) -> Result<Entry<'a>, FrameError> {
        let [kind] = self.array()?;
        let id = self.number()?;
        let mut body = Reader(self.bytes()?);
        Ok(match kind {
            DELIVER => Entry::Deliver { id, message: body.message(sender)? },
            CONTEST => Entry::Contest {
                id,
                connection: ConnectionId::from_number(body.number()?),
                replaces: body.array::<1>()? != [0],
                node: NodeId::parse(body.text()?).map_err(|_| FrameError::Malformed)?,
            },
            DELIVERED => Entry::Delivered {
                id,
                outcome: match body.array()? {
                    [0] => Outcome::Delivered,
                    [1] => Outcome::NotHere,
                    [2] => Outcome::QueueFull,
                    [3] => Outcome::Passing,
                    _ => return Err(FrameError::Malformed),
                },
            },
            CONTESTED => Entry::Contested {
                id,
                verdict: match body.array()? {
                    [0] => Verdict::Alive,
                    [1] => Verdict::Gone,
                    [2] => Verdict::Busy,
                    [3] => Verdict::Passing,
                    _ => return Err(FrameError::Malformed),
                },
            },
            UNKNOWN => Entry::Unknown { id },
            kind if kind >= FIRST_ANSWER => Entry::UnknownAnswer,
            _ => Entry::UnknownRequest { id },
        })
    }

    fn message(&mut self, sender: ReplicaId) -> Result<RemoteMessage<'a>, FrameError> {
        let connection = ConnectionId::from_number(self.number()?);
        let [event] = self.array()?;
        let event = *Event::ALL.get(usize::from(event)).ok_or(FrameError::Malformed)?;
        let to = self.text()?;
        let opener = self.text()?;
        let opener_connection = ConnectionId::from_number(self.number()?);
        // Looked at: what is no string would make the receiver close its connection.
        let argument = JsonString::parse(self.text()?).map_err(|_| FrameError::Malformed)?;
        let owner = Owner { replica: sender, connection: opener_connection };
        let opener = (!opener.is_empty()).then_some((opener, owner));
        Ok(RemoteMessage { to, connection, event, argument, opener })
    }

    fn text(&mut self) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| FrameError::Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests;
