//! WebSocket frames (RFC 6455, 5.2): where they begin and end in a stream of bytes, and how their
//! headers are written.
//!
//! The scanner reads headers and the first bytes of each message and skips the rest. It judges
//! nothing: a frame that breaks the protocol is the transport's to refuse. A close frame counts as
//! a message of its own; other control frames are skipped.

mod header;

pub(crate) use header::FrameHeader;

use crate::packet::{PREFIX_BYTES, Packet};

/// The longest header of a frame, in bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 14;

/// The first byte of a text message in one frame: final, opcode 1.
pub(crate) const TEXT: u8 = 0x81;

/// A ping without a payload, as a server sends it: unmasked.
pub(crate) const PING: [u8; 2] = [0x89, 0x00];

/// The reply to a heartbeat as a client sends it, masked with zeros.
pub(crate) const HEARTBEAT_REPLY: [u8; 7] = [TEXT, 0x81, 0, 0, 0, 0, b'3'];

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const CLOSE_OPCODE: u8 = 0x08;
const TEXT_OPCODE: u8 = 0x01;
const BINARY_OPCODE: u8 = 0x02;
const MASKED: u8 = 0x80;

/// Follows one direction of a WebSocket.
#[derive(Debug, Default, Clone)]
pub(crate) struct FrameScanner {
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: u8,
    frame: Option<Frame>,
    message: Message,
    /// A message has begun and not ended.
    is_message_begun: bool,
    /// Control frames that have ended since they were last asked for.
    control_frames: u32,
}

/// The frame whose payload is being skipped.
#[derive(Debug, Clone)]
struct Frame {
    is_control: bool,
    is_close: bool,
    is_final: bool,
    mask: [u8; 4],
    length: u64,
    skipped: u64,
}

/// A message that has ended, as far as it matters here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    is_text: bool,
    is_close: bool,
    prefix: [u8; PREFIX_BYTES],
    /// The length of the payload in bytes, all fragments together.
    bytes: u64,
}

/// What a scanner stops at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: all bytes were skipped.
    Nothing,
    /// A message has ended.
    Message(Message),
    /// The header of a long data frame has ended.
    LongFrame(LongFrame),
}

/// The header of a data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongFrame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first_byte: u8,
    pub(crate) mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub(crate) length: u64,
    /// The length of the header in bytes.
    pub(crate) header_bytes: usize,
}

impl Message {
    /// The Socket.IO packet that the message is.
    pub(crate) fn packet(&self) -> Packet {
        if self.is_text { Packet::of(self.prefix, self.bytes) } else { Packet::Other }
    }

    /// The length of the payload in bytes, all fragments together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the sender leaves with it: a WebSocket close frame, or a packet that says so.
    pub(crate) fn is_leave(&self) -> bool {
        self.is_close || self.packet() == Packet::Leave
    }

    fn extend(&mut self, payload: &[u8], frame: &Frame) {
        let have = self.bytes.min(PREFIX_BYTES as u64) as usize;
        for (index, byte) in payload.iter().take(PREFIX_BYTES - have).enumerate() {
            let mask = frame.mask[(frame.skipped as usize + index) % 4];
            self.prefix[have + index] = byte ^ mask;
        }
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
    }
}

impl FrameScanner {
    /// Whether the next byte begins a frame, so that a frame of the link's own may go before it.
    pub(super) fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.header_bytes == 0
    }

    /// The bytes of the message that has begun and not ended.
    pub(super) fn message_bytes(&self) -> u64 {
        self.message.bytes
    }

    /// Whether a message or a frame has begun and not ended.
    pub(super) fn is_within_message(&self) -> bool {
        self.is_message_begun || !self.is_between_frames()
    }

    /// How many control frames have ended since the last call.
    pub(super) fn take_control_frames(&mut self) -> u32 {
        std::mem::take(&mut self.control_frames)
    }

    /// Skips `bytes` up to the end of the next message: how many bytes that took, and the
    /// message. `None` if all bytes were skipped and no message ended with them.
    pub(super) fn next_message(&mut self, bytes: &[u8]) -> Option<(usize, Message)> {
        match self.next(bytes, u64::MAX) {
            (taken, Found::Message(message)) => Some((taken, message)),
            _ => None,
        }
    }

    /// The part of a header that has been skipped so far, if it is not complete.
    pub(super) fn partial_header(&self) -> ([u8; MAX_HEADER_BYTES], usize) {
        (self.header, usize::from(self.header_bytes))
    }

    /// As [`FrameScanner::next_message`], but stops also behind the header of a data frame whose
    /// payload is longer than `long` bytes.
    pub(super) fn next(&mut self, bytes: &[u8], long: u64) -> (usize, Found) {
        let mut at = 0;
        loop {
            let frame = match &mut self.frame {
                Some(frame) => frame,
                None => {
                    at += self.read_header(&bytes[at..]);
                    match &mut self.frame {
                        Some(frame) if frame.length > long && !frame.is_control => {
                            return (at, Found::LongFrame(LongFrame::new(&self.header, frame)));
                        }
                        Some(frame) => frame,
                        None => return (at, Found::Nothing),
                    }
                }
            };
            let rest = &bytes[at..];
            let left = frame.length - frame.skipped;
            let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
            if !frame.is_control {
                self.message.extend(&rest[..taken], frame);
            }
            frame.skipped += taken as u64;
            at += taken;
            if frame.skipped < frame.length {
                return (at, Found::Nothing);
            }
            self.control_frames = self.control_frames.saturating_add(frame.is_control.into());
            let ends_message = frame.is_final && !frame.is_control;
            let is_close = frame.is_close;
            self.frame = None;
            if is_close {
                return (at, Found::Message(Message { is_close, ..Message::default() }));
            }
            if ends_message {
                self.is_message_begun = false;
                return (at, Found::Message(std::mem::take(&mut self.message)));
            }
            if at == bytes.len() {
                return (at, Found::Nothing);
            }
        }
    }

    /// Takes what belongs to the next frame's header; the frame is there once that is complete.
    fn read_header(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        if self.header_bytes == 0
            && let Some(header) = bytes.first_chunk()
        {
            // All of it is there, whatever its length.
            self.header = *header;
            taken = header_length(header);
            self.header_bytes = taken as u8;
        }
        while self.header_bytes < 2 || usize::from(self.header_bytes) < header_length(&self.header)
        {
            let Some(&byte) = bytes.get(taken) else { return taken };
            self.header[usize::from(self.header_bytes)] = byte;
            self.header_bytes += 1;
            taken += 1;
        }
        let frame = Frame::from_header(&self.header, usize::from(self.header_bytes));
        let opcode = self.header[0] & OPCODE;
        if matches!(opcode, TEXT_OPCODE | BINARY_OPCODE) {
            self.message = Message { is_text: opcode == TEXT_OPCODE, ..Message::default() };
            self.is_message_begun = true;
        }
        self.header_bytes = 0;
        self.frame = Some(frame);
        taken
    }
}

/// The length of a header whose first two bytes are there.
fn header_length(header: &[u8; MAX_HEADER_BYTES]) -> usize {
    let length = match header[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    if header[1] & MASKED == 0 { length } else { length + 4 }
}

impl Frame {
    fn from_header(header: &[u8; MAX_HEADER_BYTES], header_bytes: usize) -> Self {
        let extended = |range: std::ops::Range<usize>| {
            header[range].iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
        };
        let length = match header[1] & 0x7f {
            126 => extended(2..4),
            127 => extended(2..10),
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        if header[1] & MASKED != 0 {
            mask.copy_from_slice(&header[header_bytes - 4..header_bytes]);
        }
        Self {
            is_control: header[0] & CONTROL != 0,
            is_close: header[0] & OPCODE == CLOSE_OPCODE,
            is_final: header[0] & FINAL != 0,
            mask,
            length,
            skipped: 0,
        }
    }
}

impl LongFrame {
    fn new(header: &[u8; MAX_HEADER_BYTES], frame: &Frame) -> Self {
        let is_masked = header[1] & MASKED != 0;
        Self {
            first_byte: header[0],
            mask: is_masked.then_some(frame.mask),
            length: frame.length,
            header_bytes: header_length(header),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = FrameHeader::new(first, payload.len(), mask).as_bytes().to_vec();
        bytes.extend(
            payload.iter().enumerate().map(|(i, byte)| byte ^ mask.map_or(0, |mask| mask[i % 4])),
        );
        bytes
    }

    fn messages(scanner: &mut FrameScanner, mut bytes: &[u8]) -> Vec<Message> {
        let mut found = Vec::new();
        while let Some((taken, message)) = scanner.next_message(bytes) {
            found.push(message);
            bytes = &bytes[taken..];
        }
        found
    }

    #[test]
    fn headers_have_the_shortest_length() {
        assert_eq!(FrameHeader::new(TEXT, 125, None).as_bytes(), [0x81, 125]);
        assert_eq!(FrameHeader::new(TEXT, 126, None).as_bytes(), [0x81, 126, 0, 126]);
        assert_eq!(FrameHeader::new(TEXT, 65_535, None).as_bytes(), [0x81, 126, 255, 255]);
        let long = FrameHeader::new(0x02, 65_536, Some([1, 2, 3, 4]));
        assert_eq!(long.as_bytes(), [0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn knows_when_a_peer_leaves() {
        let is_leave = |first_byte: u8, payload: &[u8]| {
            messages(&mut FrameScanner::default(), &frame(first_byte, payload, Some([9, 8, 7, 6])))
                [0]
            .is_leave()
        };
        for (first_byte, payload) in
            [(0x88, &b""[..]), (0x88, &[3, 232]), (0x81, b"1"), (0x81, b"41"), (0x81, b"41,")]
        {
            assert!(is_leave(first_byte, payload), "{first_byte:x} {payload:?}");
        }
        for (first_byte, payload) in
            [(0x82, &b"1"[..]), (0x81, b"3"), (0x81, b"41/admin,"), (0x81, b"42[]"), (0x81, b"")]
        {
            assert!(!is_leave(first_byte, payload), "{first_byte:x} {payload:?}");
        }
    }

    #[test]
    fn a_message_may_come_in_fragments_with_a_ping_between() {
        let mask = Some([1, 2, 3, 4]);
        let bytes = [
            frame(0x01, b"4", mask),
            frame(0x89, b"ping", mask),
            frame(0x00, b"", mask),
            frame(0x80, b"0{}", mask),
            frame(0x82, b"40", mask),
        ]
        .concat();
        let found = messages(&mut FrameScanner::default(), &bytes);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].packet(), found[0].bytes), (Packet::Connect, 4));
        assert_eq!(found[1].packet(), Packet::Other, "a binary message is no packet");
    }

    #[test]
    fn knows_when_it_is_between_frames() {
        let mut scanner = FrameScanner::default();
        assert!(scanner.is_between_frames());
        for byte in &frame(0x81, b"42", None)[..3] {
            assert_eq!(scanner.next_message(&[*byte]), None);
            assert!(!scanner.is_between_frames());
        }
        assert!(scanner.next_message(b"2").is_some());
        assert!(scanner.is_between_frames());
        // Headers with the longest lengths, however far from true, are only headers.
        assert_eq!(
            scanner
                .next_message(&[0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 1]),
            None
        );
        assert!(!scanner.is_between_frames());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..6),
            mask in prop::option::of(any::<[u8; 4]>()),
            cuts in prop::collection::vec(1usize..90, 1..40),
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x81, payload, mask)).collect();
            let whole = messages(&mut FrameScanner::default(), &bytes);
            prop_assert_eq!(whole.iter().map(|m| m.bytes).collect::<Vec<_>>(), payloads.iter().map(|p| p.len() as u64).collect::<Vec<_>>());
            for (message, payload) in whole.iter().zip(&payloads) {
                prop_assert_eq!(&message.prefix[..payload.len().min(3)], &payload[..payload.len().min(3)]);
            }
            let mut scanner = FrameScanner::default();
            let (mut pieces, mut rest, mut cut) = (Vec::new(), &*bytes, cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                pieces.extend(messages(&mut scanner, piece));
                rest = tail;
            }
            prop_assert_eq!(pieces, whole);
            prop_assert!(scanner.is_between_frames());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scanner = FrameScanner::default();
            let mut rest = &*bytes;
            while let Some((taken, _)) = scanner.next_message(rest) {
                prop_assert!(taken > 0);
                rest = &rest[taken..];
            }
        }
    }
}
