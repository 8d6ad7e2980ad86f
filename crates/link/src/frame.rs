//! WebSocket frames (RFC 6455, 5.2): where they begin and end in a stream of bytes, and how their
//! headers are written.
//!
//! The scanner reads headers and the first bytes of each message and skips the rest. It judges
//! nothing: a frame that breaks the protocol is the transport's to refuse. A close frame counts as
//! a message of its own.

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

pub(crate) const FINAL: u8 = 0x80;
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
}

/// A frame whose header has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first_byte: u8,
    pub(crate) mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub(crate) length: u64,
    /// How much of the payload has been skipped, in bytes.
    pub(crate) skipped: u64,
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
    /// The end of a header.
    Header,
    /// The end of a frame in the middle of a message.
    Fragment,
    /// The end of a ping or pong.
    ControlFrame,
    /// The end of a message.
    Message(Message),
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
        let mask = frame.mask.unwrap_or_default();
        for (index, byte) in payload.iter().take(PREFIX_BYTES - have).enumerate() {
            self.prefix[have + index] = byte ^ mask[(frame.skipped as usize + index) % 4];
        }
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
    }
}

impl FrameScanner {
    /// Whether the next byte begins a frame, so that a frame of the link's own may go before it.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.header_bytes == 0
    }

    /// The frame whose payload is being skipped.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The bytes of the message that has begun and not ended.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.message.bytes
    }

    /// Whether a message or a frame has begun and not ended.
    pub(crate) fn is_within_message(&self) -> bool {
        self.is_message_begun || !self.is_between_frames()
    }

    /// Skips `bytes` up to the end of the next message: how many bytes that took, and the
    /// message. `None` if all bytes were skipped and no message ended with them.
    pub(crate) fn next_message(&mut self, bytes: &[u8]) -> Option<(usize, Message)> {
        let mut at = 0;
        loop {
            let (taken, found) = self.next(&bytes[at..]);
            at += taken;
            match found {
                Found::Nothing => return None,
                Found::Message(message) => return Some((at, message)),
                Found::Header | Found::Fragment | Found::ControlFrame => {}
            }
        }
    }

    /// Skips `bytes` up to the end of a header or of a frame. Returns how many bytes that took, and
    /// what has ended.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> (usize, Found) {
        let Some(frame) = &mut self.frame else {
            let taken = self.read_header(bytes);
            return (taken, if self.frame.is_some() { Found::Header } else { Found::Nothing });
        };
        let taken = frame.remaining().min(bytes.len());
        if !frame.is_control() {
            self.message.extend(&bytes[..taken], frame);
        }
        frame.skipped += taken as u64;
        if frame.remaining() > 0 {
            return (taken, Found::Nothing);
        }
        let first_byte = frame.first_byte;
        self.frame = None;
        let found = if first_byte & OPCODE == CLOSE_OPCODE {
            Found::Message(Message { is_close: true, ..Message::default() })
        } else if first_byte & CONTROL != 0 {
            Found::ControlFrame
        } else if first_byte & FINAL == 0 {
            Found::Fragment
        } else {
            self.is_message_begun = false;
            Found::Message(std::mem::take(&mut self.message))
        };
        (taken, found)
    }

    /// Takes what belongs to the next frame's header; the frame is there once that is complete.
    fn read_header(&mut self, bytes: &[u8]) -> usize {
        if self.header_bytes == 0
            && let Some(length) = complete_header(bytes)
        {
            self.begin(Frame::from_header(&bytes[..length]));
            return length;
        }
        for (before, byte) in bytes.iter().enumerate() {
            self.header[usize::from(self.header_bytes)] = *byte;
            self.header_bytes += 1;
            let header = &self.header[..usize::from(self.header_bytes)];
            if complete_header(header).is_some() {
                self.begin(Frame::from_header(header));
                self.header_bytes = 0;
                return before + 1;
            }
        }
        bytes.len()
    }

    fn begin(&mut self, frame: Frame) {
        if let Some(is_text) = frame.begins_text() {
            self.message = Message { is_text, ..Message::default() };
            self.is_message_begun = true;
        }
        self.frame = Some(frame);
    }
}

/// The length of the header that `bytes` begin with. `None` if it is not complete.
pub(crate) fn complete_header(bytes: &[u8]) -> Option<usize> {
    let [_, second] = bytes.first_chunk()?;
    let length = match second & !MASKED {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let length = if second & MASKED == 0 { length } else { length + 4 };
    (length <= bytes.len()).then_some(length)
}

impl Frame {
    /// Reads a complete header.
    fn from_header(header: &[u8]) -> Self {
        let is_masked = header[1] & MASKED != 0;
        let (fields, mask) = header.split_at(header.len() - if is_masked { 4 } else { 0 });
        let length = match &fields[2..] {
            [] => (fields[1] & !MASKED).into(),
            extended => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Self { first_byte: header[0], mask: mask.try_into().ok(), length, skipped: 0 }
    }

    /// How much of the payload is to come, in bytes.
    pub(crate) fn remaining(&self) -> usize {
        usize::try_from(self.length - self.skipped).unwrap_or(usize::MAX)
    }

    /// Whether it may come in the middle of a message.
    pub(crate) fn is_control(&self) -> bool {
        self.first_byte & CONTROL != 0
    }

    /// The kind of message that begins with it: whether that is text. `None` for all other frames.
    pub(crate) fn begins_text(&self) -> Option<bool> {
        match self.first_byte & OPCODE {
            TEXT_OPCODE => Some(true),
            BINARY_OPCODE => Some(false),
            _ => None,
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
