//! Long incoming frames, cut into short fragments.
//!
//! The WebSocket layer reserves its read buffer for a whole frame at once and keeps it for as
//! long as the connection lives. So it never sees a long frame: the link makes fragments of it
//! (RFC 6455, 5.4), which are put together again in a buffer that goes when the message does.

use crate::frame::{FrameHeader, LongFrame};

/// The longest payload that is passed on in one frame, in bytes. A multiple of four, so that every
/// fragment is masked from the mask's first byte on.
pub(crate) const MAX_FRAGMENT_BYTES: u64 = 4096;

/// The longest message that a peer may send, in bytes. A frame that announces more is not cut: the
/// transport has to see from its header that it is too long.
pub const MAX_MESSAGE_BYTES: usize = 1_000_000;

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const LAST_DATA_OPCODE: u8 = 2;

/// A long frame on its way, fragment by fragment.
#[derive(Debug)]
pub(crate) struct Fragments {
    frame: LongFrame,
    /// Payload bytes that no fragment has been begun for.
    remaining: u64,
    remaining_of_fragment: u64,
}

impl Fragments {
    /// Cuts `frame`, unless it is one that the transport refuses as it is.
    pub(crate) fn of(frame: LongFrame) -> Option<Self> {
        let is_data = frame.first_byte & OPCODE <= LAST_DATA_OPCODE;
        let is_cut = is_data && frame.length <= MAX_MESSAGE_BYTES as u64;
        is_cut.then_some(Self { frame, remaining: frame.length, remaining_of_fragment: 0 })
    }

    /// How many bytes are missing until the fragment is complete.
    pub(crate) fn remaining_of_fragment(&self) -> usize {
        self.remaining_of_fragment as usize
    }

    /// Counts `bytes` of the fragment's payload. Returns whether the fragment is complete.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        self.remaining_of_fragment -= bytes as u64;
        self.remaining_of_fragment == 0
    }

    /// Begins the next fragment with its header; `None` if the frame has no more bytes.
    pub(crate) fn next(&mut self) -> Option<FrameHeader> {
        if self.remaining == 0 {
            return None;
        }
        let length = self.remaining.min(MAX_FRAGMENT_BYTES);
        let is_first = self.remaining == self.frame.length;
        self.remaining -= length;
        self.remaining_of_fragment = length;
        let opcode = if is_first { self.frame.first_byte & !FINAL } else { 0 };
        let is_final = if self.remaining == 0 { self.frame.first_byte & FINAL } else { 0 };
        Some(FrameHeader::new(opcode | is_final, length as usize, self.frame.mask))
    }
}
