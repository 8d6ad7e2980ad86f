//! What replicas say to each other, byte by byte.
//!
//! ```text
//! batch  = version (1)  sender (16)  sequence (8)  entry*
//! entry  = kind (1)  id (8)  length (4)  body (length)
//!
//! deliver   (1)    connection (8)  event (1)  to  opener  opener's connection (8)  argument
//! probe     (2)    connection (8)  replace (1)  node  connecting (1)
//! call      (3)    request               JSON, see `broker/calls`
//! unknown   (128)                       the kind of a request is not known here
//! delivered (129)  outcome (1)
//! status    (130)  status (1)
//! result    (131)  result                JSON
//! ```
//!
//! Numbers are big-endian; `to`, `node`, `opener`, `argument`, `request` and `result` are a length (4)
//! and so many bytes of UTF-8. `opener` is the sender of a CONNECTION_ATTEMPT, else empty. `connecting` says
//! whether the newcomer has said CONNECT; where it is missing, as if it had. An answer has the ID
//! of its request.
//!
//! How versions live together: a body may grow at its end, and what is longer than expected is
//! not looked at. Kinds below 128 are requests; one that is not known is answered `unknown`, so
//! that its sender need not wait. Answers that are not known are passed over. Whatever
//! does not fit this gets a new version, and batches of an unknown version are dropped.

use crate::delivery::Outcome;
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use crate::protocol::{Event, JsonString};

/// The version that is spoken here. 0 is not a version: probes of the channel begin with it.
const VERSION: u8 = 1;

const DELIVER: u8 = 1;
const PROBE: u8 = 2;
const CALL: u8 = 3;
const UNKNOWN: u8 = 128;
const DELIVERED: u8 = 129;
const STATUS: u8 = 130;
const RESULT: u8 = 131;

/// The least kind that is an answer.
const FIRST_ANSWER: u8 = 128;

/// A message to a node on another replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteMessage<'a> {
    /// The receiver.
    pub to: &'a str,
    /// The connection that it has, as far as the sending replica knows.
    pub connection: ConnectionId,
    /// The event.
    pub event: Event,
    /// The event's argument.
    pub argument: JsonString<'a>,
    /// The owner that opens a pair with this message, if it does.
    pub opener: Option<(&'a str, Owner)>,
}

/// The state of a connection whose ID another connection wants. The numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HolderStatus {
    /// It is alive and keeps the ID.
    Alive = 0,
    /// It is not there, or is not any more: the ID is free.
    Gone = 1,
    /// It sends more than is read of it, so a missing answer says nothing.
    Busy = 2,
    /// It is on its way in or out; its state will be clear soon.
    InTransition = 3,
    /// Its node has not sent CONNECT: a new connection that does gets the ID.
    Unconnected = 4,
}

/// What a connection that wants an ID may do to the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newcomer {
    /// It gets the ID even if the holder is alive.
    pub replaces: bool,
    /// It has said CONNECT, so it gets the ID from a holder that has not.
    pub is_connecting: bool,
}

/// What a batch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sender: ReplicaId,
    pub(super) sequence: u64,
}

/// One entry of a batch.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Deliver {
        id: u64,
        message: RemoteMessage<'a>,
    },
    Probe {
        id: u64,
        node: NodeId,
        connection: ConnectionId,
        newcomer: Newcomer,
    },
    Delivered {
        id: u64,
        outcome: Outcome,
    },
    Status {
        id: u64,
        status: HolderStatus,
    },
    Call {
        id: u64,
        request: &'a str,
    },
    Result {
        id: u64,
        result: &'a str,
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

/// A batch that cannot be read, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("a batch of an unknown version")]
    Version,
    #[error("a truncated or malformed batch")]
    Malformed,
}

/// The length of a batch's header.
pub(super) const HEADER_BYTES: usize = 1 + 16 + 8;

pub(super) fn write_header(batch: &mut Vec<u8>, header: Header) {
    batch.push(VERSION);
    batch.extend(header.sender.as_bytes());
    batch.extend(header.sequence.to_be_bytes());
}

pub(super) fn write_deliver(batch: &mut Vec<u8>, id: u64, message: &RemoteMessage<'_>) {
    entry(batch, DELIVER, id, |batch| {
        batch.extend(message.connection.number().to_be_bytes());
        batch.push(event_code(message.event));
        text(batch, message.to);
        let (opener, connection) =
            message.opener.map_or(("", 0), |(node, owner)| (node, owner.connection.number()));
        text(batch, opener);
        batch.extend(connection.to_be_bytes());
        text(batch, message.argument.as_str());
    });
}

pub(super) fn write_probe(
    batch: &mut Vec<u8>,
    id: u64,
    node: &NodeId,
    connection: ConnectionId,
    newcomer: Newcomer,
) {
    entry(batch, PROBE, id, |batch| {
        batch.extend(connection.number().to_be_bytes());
        batch.push(newcomer.replaces.into());
        text(batch, node.as_str());
        batch.push(newcomer.is_connecting.into());
    });
}

pub(super) fn write_delivered(batch: &mut Vec<u8>, id: u64, outcome: Outcome) {
    entry(batch, DELIVERED, id, |batch| batch.push(outcome_code(outcome)));
}

pub(super) fn write_status(batch: &mut Vec<u8>, id: u64, status: HolderStatus) {
    entry(batch, STATUS, id, |batch| batch.push(status as u8));
}

pub(super) fn write_unknown(batch: &mut Vec<u8>, id: u64) {
    entry(batch, UNKNOWN, id, |_| ());
}

pub(super) fn write_call(batch: &mut Vec<u8>, id: u64, request: &str) {
    entry(batch, CALL, id, |batch| text(batch, request));
}

pub(super) fn write_result(batch: &mut Vec<u8>, id: u64, result: &str) {
    entry(batch, RESULT, id, |batch| text(batch, result));
}

fn entry(batch: &mut Vec<u8>, kind: u8, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
    batch.push(kind);
    batch.extend(id.to_be_bytes());
    let length_at = batch.len();
    batch.extend([0; 4]);
    let body_at = batch.len();
    body(batch);
    // Payloads are limited to a megabyte: the length fits.
    let length = (batch.len() - body_at) as u32;
    batch[length_at..body_at].copy_from_slice(&length.to_be_bytes());
}

fn text(batch: &mut Vec<u8>, text: &str) {
    batch.extend((text.len() as u32).to_be_bytes());
    batch.extend(text.as_bytes());
}

/// The number of an event on the wire. Replicas of other versions know it by this, so it never
/// changes, and a new event gets a new one.
const fn event_code(event: Event) -> u8 {
    match event {
        Event::ConnectionAttempt => 0,
        Event::ConnectionAcceptance => 1,
        Event::ConnectionRefusal => 2,
        Event::IncomingConnectionsNotAllowed => 3,
        Event::IceCandidateToResponder => 4,
        Event::IceCandidateToInitiator => 5,
        Event::SocketMessage => 6,
    }
}

/// The number of a message's outcome on the wire. As fixed as [`event_code`].
const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => 0,
        Outcome::QueueFull => 2,
        Outcome::InTransition => 3,
        _ => 1,
    }
}

/// Reads a batch's header; the entries are read one by one.
pub(super) fn read(batch: &[u8]) -> Result<(Header, Entries<'_>), BatchError> {
    if batch.first() != Some(&VERSION) {
        return Err(BatchError::Version);
    }
    let mut rest = Reader(&batch[1..]);
    let sender = ReplicaId::from_bytes(rest.array()?);
    let sequence = rest.number()?;
    Ok((Header { sender, sequence }, Entries { sender, rest }))
}

/// Whether these bytes are a batch that can be read to its end.
pub(crate) fn is_batch(bytes: &[u8]) -> bool {
    read(bytes).is_ok_and(|(_, mut entries)| entries.all(|entry| entry.is_ok()))
}

/// The entries of a batch. After one that cannot be read there are no more.
pub(super) struct Entries<'a> {
    sender: ReplicaId,
    rest: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, BatchError>;

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
    fn entry(&mut self, sender: ReplicaId) -> Result<Entry<'a>, BatchError> {
        let [kind] = self.array()?;
        let id = self.number()?;
        let mut body = Reader(self.bytes()?);
        Ok(match kind {
            DELIVER => Entry::Deliver { id, message: body.message(sender)? },
            PROBE => {
                let connection = ConnectionId::from_number(body.number()?);
                let replaces = body.array::<1>()? != [0];
                let node = NodeId::parse(body.text()?).map_err(|_| BatchError::Malformed)?;
                let is_connecting = body.array::<1>() != Ok([0]);
                let newcomer = Newcomer { replaces, is_connecting };
                Entry::Probe { id, node, connection, newcomer }
            }
            DELIVERED => Entry::Delivered {
                id,
                outcome: match body.array()? {
                    [0] => Outcome::Delivered,
                    [1] => Outcome::NotHere,
                    [2] => Outcome::QueueFull,
                    [3] => Outcome::InTransition,
                    _ => return Err(BatchError::Malformed),
                },
            },
            STATUS => Entry::Status {
                id,
                status: match body.array()? {
                    [0] => HolderStatus::Alive,
                    [1] => HolderStatus::Gone,
                    [2] => HolderStatus::Busy,
                    [3] => HolderStatus::InTransition,
                    [4] => HolderStatus::Unconnected,
                    _ => return Err(BatchError::Malformed),
                },
            },
            CALL => Entry::Call { id, request: body.text()? },
            RESULT => Entry::Result { id, result: body.text()? },
            UNKNOWN => Entry::Unknown { id },
            kind if kind >= FIRST_ANSWER => Entry::UnknownAnswer,
            _ => Entry::UnknownRequest { id },
        })
    }

    fn message(&mut self, sender: ReplicaId) -> Result<RemoteMessage<'a>, BatchError> {
        let connection = ConnectionId::from_number(self.number()?);
        let [event] = self.array()?;
        let event = Event::ALL.into_iter().find(|known| event_code(*known) == event);
        let event = event.ok_or(BatchError::Malformed)?;
        let to = self.text()?;
        let opener = self.text()?;
        let opener_connection = ConnectionId::from_number(self.number()?);
        // Looked at: what is no string would make the receiver close its connection.
        let argument = JsonString::parse(self.text()?).map_err(|_| BatchError::Malformed)?;
        let owner = Owner { replica: sender, connection: opener_connection };
        let opener = (!opener.is_empty()).then_some((opener, owner));
        Ok(RemoteMessage { to, connection, event, argument, opener })
    }

    fn text(&mut self) -> Result<&'a str, BatchError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BatchError::Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BatchError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, BatchError> {
        self.array().map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests;
