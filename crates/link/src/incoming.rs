//! What a peer sends, from the socket to the transport.
//!
//! One read takes as much as there is. It is passed on in the small portions that the transport has
//! capacity for, and nothing else is read before all of it has been. On the way each byte is looked
//! at once: long frames are cut, names are rewritten, messages are counted and judged.
//!
//! Until the node is connected, everything up to the end of its CONNECT packet is passed on, and
//! what comes behind it is held back: the transport, still busy with the CONNECT, would take it
//! for a protocol error. While reading is paused, everything is held back. What is held back is
//! observed all the same: that the peer lives, that it leaves, that its connection ends.

use tokio::io::ReadBuf;

use crate::frame::{Found, Frame, FrameHeader, FrameScanner, Message, complete_header};
use crate::names::NameRewriter;
use crate::packet::Packet;
use crate::read_buffer::{MAX_BUFFERED_BYTES, ReadBuffer};
use crate::throttle::Throttle;

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
    /// Where the first byte is that has not been passed on.
    position: Position,
    /// Counts what is passed on.
    pub(crate) throttle: Throttle,
    names: NameRewriter,
    /// The header of the frame or fragment that is being passed on.
    header: FrameHeader,
    buffer: ReadBuffer,
    ahead: Option<Box<Ahead>>,
}

/// A place in the stream of a peer's bytes.
#[derive(Debug, Clone)]
struct Position {
    scanner: FrameScanner,
    connect_seen: bool,
    connects_elsewhere: u8,
    /// How many messages have ended, modulo 2^32.
    messages: u32,
}

/// How far the bytes have been observed that are held back.
#[derive(Debug)]
struct Ahead {
    position: Position,
    /// How many bytes at the end of the buffer have not been observed.
    remaining: usize,
}

impl Incoming {
    /// What comes of a peer that has to say CONNECT first, or not.
    pub(crate) fn new(throttle: Throttle, awaits_connect: bool) -> Self {
        let position = Position {
            scanner: FrameScanner::default(),
            connect_seen: !awaits_connect,
            connects_elsewhere: 0,
            messages: 0,
        };
        Self {
            position,
            throttle,
            names: NameRewriter::default(),
            header: FrameHeader::default(),
            buffer: ReadBuffer::default(),
            ahead: None,
        }
    }

    /// Takes what was read.
    pub(crate) fn receive(&mut self, read: ReadBuffer) {
        if let Some(ahead) = &mut self.ahead {
            ahead.remaining += read.len();
        }
        self.buffer.append(read);
    }

    /// Passes on what may be passed on now, as much as fits: before the node is admitted, nothing
    /// behind its CONNECT packet. Returns what that says about the peer.
    pub(crate) fn pass_on(&mut self, transport: &mut ReadBuf<'_>, is_admitted: bool) -> Received {
        let mut received = Received::Ordinary;
        while received == Received::Ordinary
            && transport.remaining() > 0
            && !self.throttle.stops()
            && (is_admitted || !self.is_connect_passed())
        {
            match self.pass_on_next(transport) {
                Some(next) => received = next,
                None => break,
            }
        }
        if received == Received::Leave {
            // Whatever follows is not counted.
            self.buffer = ReadBuffer::default();
        }
        self.ahead.take_if(|ahead| self.buffer.is_empty() || ahead.remaining > self.buffer.len());
        received
    }

    /// Passes on a header, or payload up to the next one. `None` if there is nothing.
    fn pass_on_next(&mut self, transport: &mut ReadBuf<'_>) -> Option<Received> {
        if !self.header.as_bytes().is_empty() {
            transport.put_slice(self.header.take(transport.remaining()));
            return Some(Received::Ordinary);
        }
        let Position { scanner, connect_seen, .. } = &mut self.position;
        let buffered = self.buffer.as_mut_bytes();
        let Some(frame) = scanner.frame() else {
            // A header is passed on when it is complete: it may be that of a long frame.
            let header = &buffered[..complete_header(buffered)?];
            scanner.next(header);
            let frame = scanner.frame()?;
            if !*connect_seen && !frame.is_control() && frame.length > MAX_BYTES_BEFORE_CONNECT {
                return Some(Received::Violation);
            }
            if let Some(is_text) = frame.begins_text() {
                self.names.begin(is_text);
            }
            self.header = frame.fragment_header().unwrap_or_else(|| FrameHeader::copied(header));
            let length = header.len();
            self.buffer.advance(length);
            return Some(Received::Ordinary);
        };
        let length = frame.remaining_of_fragment().min(buffered.len()).min(transport.remaining());
        if length == 0 && frame.remaining() > 0 {
            return None;
        }
        let payload = &mut buffered[..length];
        self.names.rewrite(payload, frame);
        transport.put_slice(payload);
        let (_, found) = scanner.next(payload);
        if let Some(header) = scanner.frame().and_then(Frame::fragment_header) {
            self.header = header;
        }
        self.buffer.advance(length);
        self.throttle.count_bytes(length);
        Some(match found {
            Found::Message(message) => {
                self.throttle.count_message(message);
                self.position.judge(message)
            }
            Found::ControlFrame => {
                // Costs as much as a message: the transport replies to pings.
                self.throttle.charge(1);
                Received::Ordinary
            }
            Found::Nothing | Found::Header | Found::Fragment => Received::Ordinary,
        })
    }

    /// Looks at what is held back. Whatever follows a packet with which the peer leaves is
    /// discarded.
    pub(crate) fn observe(&mut self) -> Received {
        if self.buffer.is_empty() {
            return Received::Ordinary;
        }
        let Ahead { position, remaining } = &mut **self.ahead.get_or_insert_with(|| {
            let position = self.position.clone();
            Box::new(Ahead { position, remaining: self.buffer.len() })
        });
        while *remaining > 0 {
            let observed = self.buffer.len() - *remaining;
            let rest = &self.buffer.as_bytes()[observed..];
            let Some((taken, message)) = position.scanner.next_message(rest) else {
                *remaining = 0;
                break;
            };
            *remaining -= taken;
            let received = position.judge(message);
            if received == Received::Leave {
                self.buffer.truncate(observed + taken);
                *remaining = 0;
            }
            if received != Received::Ordinary {
                return received;
            }
        }
        Received::Ordinary
    }

    /// Keeps no more memory than it needs, before the task sleeps.
    pub(crate) fn park(&mut self) {
        self.buffer.park();
    }

    /// Whether all bytes that were read have been passed on or observed.
    pub(crate) fn is_observed(&self) -> bool {
        self.buffer.is_empty() || self.ahead.as_ref().is_some_and(|ahead| ahead.remaining == 0)
    }

    /// How much more may be buffered, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        MAX_BUFFERED_BYTES.saturating_sub(self.buffer.len())
    }

    /// Bytes of the message that has been begun, and of what is buffered.
    pub(crate) fn held_bytes(&self) -> usize {
        self.position.scanner.message_bytes() as usize + self.buffer.len()
    }

    /// The number of the message that the peer has begun and not finished, as far as that has been
    /// observed.
    pub(crate) fn begun_message(&self) -> Option<u32> {
        let position = self.ahead.as_ref().map_or(&self.position, |ahead| &ahead.position);
        position.scanner.is_within_message().then_some(position.messages)
    }

    /// Whether a message of the link's own may be passed on now.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.header.as_bytes().is_empty() && !self.position.scanner.is_within_message()
    }

    /// Whether all that was read has been passed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether bytes wait for the node to be admitted.
    pub(crate) fn is_held_back(&self) -> bool {
        self.is_connect_passed() && !self.buffer.is_empty()
    }

    /// Whether the transport has the whole CONNECT packet, and so replies to it.
    pub(crate) fn is_connect_passed(&self) -> bool {
        self.position.connect_seen
    }
}

impl Position {
    /// Classifies the message that ends here. The library spawns a task for every CONNECT, and
    /// answers every unknown namespace with its name, outside of all accounting.
    fn judge(&mut self, message: Message) -> Received {
        self.messages = self.messages.wrapping_add(1);
        let packet = message.packet();
        let is_violation = match packet {
            Packet::Connect if self.connect_seen => true,
            Packet::ConnectElsewhere => {
                self.connects_elsewhere = self.connects_elsewhere.saturating_add(1);
                self.connects_elsewhere > MAX_CONNECTS_ELSEWHERE
                    || message.bytes() > MAX_CONNECT_ELSEWHERE_BYTES
            }
            _ => !self.connect_seen && message.bytes() > MAX_BYTES_BEFORE_CONNECT,
        };
        if is_violation {
            return Received::Violation;
        }
        self.connect_seen |= packet == Packet::Connect;
        if message.is_leave() { Received::Leave } else { Received::Ordinary }
    }
}

#[cfg(test)]
mod tests;
