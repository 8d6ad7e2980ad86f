//! Long incoming frames, cut into short ones.
//!
//! The WebSocket layer reserves its read buffer for a whole frame at once and keeps it for as
//! long as the connection lives. So it never sees a long frame: the link makes fragments of it
//! (RFC 6455, 5.4), which are put together again in a buffer that goes when the message does.

use super::frames::{LongFrame, MAX_HEADER_BYTES};

/// The longest payload that is handed on in one frame. A multiple of four, so that every piece is
/// masked from the mask's first byte on.
pub(super) const MAX_PIECE_BYTES: u64 = 4096;

/// The longest message of a node, in bytes. A frame that announces more is not cut: the transport
/// is to see from its header that it is too long.
pub const MAX_MESSAGE_BYTES: usize = 1_000_000;

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const LAST_KNOWN_OPCODE: u8 = 2;

/// A long frame on its way, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    frame: LongFrame,
    /// Of the payload, in bytes.
    left: u64,
    left_of_piece: u64,
}

/// The header of a piece.
pub(super) struct Header {
    bytes: [u8; MAX_HEADER_BYTES],
    length: usize,
}

impl Pieces {
    /// Cuts `frame`, unless it is one that the transport refuses as it is.
    pub(super) fn of(frame: LongFrame) -> Option<Self> {
        let is_known = frame.first_byte & OPCODE <= LAST_KNOWN_OPCODE;
        let is_cut = is_known && frame.length <= MAX_MESSAGE_BYTES as u64;
        is_cut.then_some(Self { frame, left: frame.length, left_of_piece: 0 })
    }

    /// How many bytes are left of the payload's piece.
    pub(super) fn left_of_piece(&self) -> usize {
        self.left_of_piece as usize
    }

    /// Notes that `bytes` of the piece have passed: whether the piece is complete.
    pub(super) fn pass(&mut self, bytes: usize) -> bool {
        self.left_of_piece -= bytes as u64;
        self.left_of_piece == 0
    }

    /// Begins the next piece with its header; `None` if there is none.
    pub(super) fn next(&mut self) -> Option<Header> {
        if self.left == 0 {
            return None;
        }
        let length = self.left.min(MAX_PIECE_BYTES);
        let is_first = self.left == self.frame.length;
        self.left -= length;
        self.left_of_piece = length;
        let kind = if is_first { self.frame.first_byte & !FINAL } else { 0 };
        let is_final = if self.left == 0 { self.frame.first_byte & FINAL } else { 0 };
        let mut header = Header { bytes: [0; MAX_HEADER_BYTES], length: 2 };
        header.bytes[0] = kind | is_final;
        if length < 126 {
            header.bytes[1] = length as u8;
        } else {
            header.bytes[1] = 126;
            header.push(&(length as u16).to_be_bytes());
        }
        if let Some(mask) = self.frame.mask {
            header.bytes[1] |= 0x80;
            header.push(&mask);
        }
        Some(header)
    }
}

impl Header {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
