//! What a peer sends, from the socket to the transport.
//!
//! One read takes as much as there is, into a buffer on the stack, and passes it on in the small
//! portions that the transport has capacity for. The rest is buffered here, and nothing else is
//! read before it has been passed on. So an idle connection has hardly any buffer, and a burst
//! still costs one system call.
//!
//! Until the node is connected, everything up to the end of its CONNECT packet is passed on, and
//! what comes behind it is held back: the transport, still busy with the CONNECT, would take it
//! for a protocol error. While reading is paused, everything is held back. The peer is observed
//! all the same: that it lives, that it leaves, that its connection ends.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::fragments::{Fragments, MAX_FRAGMENT_BYTES};
use crate::frame::{Found, FrameScanner, Message};
use crate::packet::Packet;
use crate::throttle::Throttle;

/// The most that is buffered, in bytes. More waits in the kernel.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// The longest message that may come before the node is connected, in bytes: a CONNECT packet with
/// a large token.
const MAX_BYTES_BEFORE_CONNECT: u64 = 64 * 1024;

/// The longest CONNECT for another namespace, in bytes. The transport repeats the name in its
/// refusal.
const MAX_CONNECT_ELSEWHERE_BYTES: u64 = 256;

/// How many CONNECTs for other namespaces a connection may send; all are refused.
const MAX_CONNECTS_ELSEWHERE: u8 = 8;

/// What the bytes that were read say about their sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Received {
    Ordinary,
    /// The peer leaves with them.
    Leave,
    /// The peer sent what would cost the transport more than the peer. Nothing more may be passed
    /// on.
    Violation,
}

/// The incoming bytes of one connection.
#[derive(Debug)]
pub(crate) struct Incoming {
    scanner: FrameScanner,
    /// Counts what is passed on.
    pub(crate) throttle: Throttle,
    /// The long frame that is being cut.
    fragments: Option<Fragments>,
    /// Bytes that were read and not passed on yet. Allocated only while there are any.
    buffered: BytesMut,
    /// How many of the buffered bytes may be passed on.
    released: usize,
    connect_seen: bool,
    connects_elsewhere: u8,
    /// How many messages have ended, modulo 2^32.
    messages: u32,
}

/// Writes to the transport as much as fits, and buffers the rest.
struct Sink<'a, 'b> {
    transport: Option<&'a mut ReadBuf<'b>>,
    throttle: &'a mut Throttle,
    buffered: &'a mut BytesMut,
}

impl Incoming {
    /// What comes of a peer that has to say CONNECT first, or not.
    pub(crate) fn new(throttle: Throttle, awaits_connect: bool) -> Self {
        Self {
            scanner: FrameScanner::default(),
            throttle,
            fragments: None,
            buffered: BytesMut::new(),
            released: 0,
            connect_seen: !awaits_connect,
            connects_elsewhere: 0,
            messages: 0,
        }
    }

    /// Receives what was read, and passes it on to `transport` if that may have it now.
    pub(crate) fn receive(&mut self, read: &[u8], transport: Option<&mut ReadBuf<'_>>) -> Received {
        let mut sink =
            Sink { transport, throttle: &mut self.throttle, buffered: &mut self.buffered };
        // A header is passed on when it is complete: it may be that of a long frame.
        let (header, header_bytes) = self.scanner.partial_header();
        let mut partial_header = &header[..header_bytes];
        let (mut passed, mut at) = (0, 0);
        while at < read.len() {
            let portion = match &self.fragments {
                Some(fragments) => {
                    &read[at..][..fragments.remaining_of_fragment().min(read.len() - at)]
                }
                None => &read[at..],
            };
            let (taken, found) = self.scanner.next(portion, MAX_FRAGMENT_BYTES);
            at += taken;
            if let Some(fragments) = &mut self.fragments
                && fragments.advance(taken)
            {
                sink.put(&read[passed..at]);
                passed = at;
                match fragments.next() {
                    Some(header) => sink.put(header.as_bytes()),
                    None => self.fragments = None,
                }
            }
            match found {
                Found::Nothing => {}
                Found::LongFrame(frame) => {
                    if !self.connect_seen && frame.length > MAX_BYTES_BEFORE_CONNECT {
                        return Received::Violation;
                    }
                    if let Some(mut fragments) = Fragments::of(frame) {
                        if at + partial_header.len() > frame.header_bytes {
                            sink.put(partial_header);
                            sink.put(&read[passed..at - frame.header_bytes]);
                        }
                        if let Some(header) = fragments.next() {
                            sink.put(header.as_bytes());
                        }
                        self.fragments = Some(fragments);
                        (partial_header, passed) = (&[], at);
                    }
                }
                Found::Message(message) => {
                    self.messages = self.messages.wrapping_add(1);
                    match judge(message, self.connect_seen, &mut self.connects_elsewhere) {
                        Received::Ordinary => {}
                        Received::Leave => {
                            // Whatever follows is not counted.
                            sink.put(partial_header);
                            sink.put(&read[passed..at]);
                            if !self.connect_seen {
                                self.released = self.buffered.len();
                            }
                            return Received::Leave;
                        }
                        Received::Violation => return Received::Violation,
                    }
                    if message.packet() == Packet::Connect {
                        sink.put(partial_header);
                        sink.put(&read[passed..at]);
                        (partial_header, passed) = (&[], at);
                        self.connect_seen = true;
                        self.released = sink.buffered.len();
                    }
                }
            }
        }
        let (_, unfinished) = self.scanner.partial_header();
        if unfinished < partial_header.len() + read.len() {
            sink.put(partial_header);
            sink.put(&read[passed..read.len() - unfinished]);
        }
        if !self.connect_seen {
            self.released = self.buffered.len();
        }
        Received::Ordinary
    }

    /// How much more may be buffered, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        MAX_BUFFERED_BYTES.saturating_sub(self.buffered.len())
    }

    /// Bytes of the message that the peer has begun, and of what is buffered.
    pub(crate) fn held_bytes(&self) -> usize {
        self.scanner.message_bytes() as usize + self.buffered.len()
    }

    /// The number of the message that the peer has begun and not finished.
    pub(crate) fn begun_message(&self) -> Option<u32> {
        self.scanner.is_within_message().then_some(self.messages)
    }

    /// Whether all that was read has been passed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffered.is_empty()
    }

    /// Whether bytes are buffered and none of them may be passed on.
    pub(crate) fn is_held_back(&self) -> bool {
        self.released == 0 && !self.buffered.is_empty()
    }

    /// Whether the transport has the whole CONNECT packet, and so replies to it.
    pub(crate) fn is_connect_passed(&self) -> bool {
        self.connect_seen && self.released == 0
    }

    /// Lets everything be passed on.
    pub(crate) fn release(&mut self) {
        self.released = self.buffered.len();
    }

    /// Passes on what may be passed on, as much as fits. Returns whether there was anything.
    pub(crate) fn pass_on(&mut self, transport: &mut ReadBuf<'_>) -> bool {
        let length = self.released.min(transport.remaining());
        let length = self.throttle.pass(&self.buffered[..length]);
        if length == 0 {
            return false;
        }
        transport.put_slice(&self.buffered[..length]);
        self.released -= length;
        if length == self.buffered.len() {
            self.buffered = BytesMut::new();
        } else {
            self.buffered.advance(length);
        }
        true
    }
}

/// Classifies a message. The library spawns a task for every CONNECT, and answers every unknown
/// namespace with its name, outside of all accounting.
fn judge(message: Message, connect_seen: bool, connects_elsewhere: &mut u8) -> Received {
    let is_violation = match message.packet() {
        Packet::Connect if connect_seen => true,
        Packet::ConnectElsewhere => {
            *connects_elsewhere = connects_elsewhere.saturating_add(1);
            *connects_elsewhere > MAX_CONNECTS_ELSEWHERE
                || message.bytes() > MAX_CONNECT_ELSEWHERE_BYTES
        }
        _ => !connect_seen && message.bytes() > MAX_BYTES_BEFORE_CONNECT,
    };
    if is_violation {
        Received::Violation
    } else if message.is_leave() {
        Received::Leave
    } else {
        Received::Ordinary
    }
}

impl Sink<'_, '_> {
    fn put(&mut self, bytes: &[u8]) {
        let fits = match &mut self.transport {
            Some(transport) if self.buffered.is_empty() => {
                let fits = bytes.len().min(transport.remaining());
                let fits = self.throttle.pass(&bytes[..fits]);
                transport.put_slice(&bytes[..fits]);
                fits
            }
            _ => 0,
        };
        if fits < bytes.len() {
            self.buffered.extend_from_slice(&bytes[fits..]);
        }
    }
}

#[cfg(test)]
mod tests;
