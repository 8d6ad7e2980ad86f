//! Long incoming frames, cut into short fragments.
//!
//! The WebSocket layer reserves its read buffer for a whole frame at once and keeps it for as
//! long as the connection lives. So it never sees a long frame: the link makes fragments of it
//! (RFC 6455, 5.4), which are put together again in a buffer that goes when the message does.

use crate::frame::{FINAL, Frame, FrameHeader};

/// The longest payload that is passed on in one frame, in bytes. A multiple of four, so that every
/// fragment is masked from the mask's first byte on.
pub(crate) const MAX_FRAGMENT_BYTES: u64 = 4096;

/// The longest message that a peer may send, in bytes. A frame that announces more is not cut: the
/// transport has to see from its header that it is too long.
pub const MAX_MESSAGE_BYTES: usize = 1_000_000;

const OPCODE: u8 = 0x0f;
const LAST_DATA_OPCODE: u8 = 2;

impl Frame {
    /// Whether it is cut: it is long, and none that the transport refuses as it is.
    pub(crate) fn is_cut(&self) -> bool {
        let is_data = self.first_byte & OPCODE <= LAST_DATA_OPCODE;
        is_data && (MAX_FRAGMENT_BYTES + 1..=MAX_MESSAGE_BYTES as u64).contains(&self.length)
    }

    /// The header of the fragment that begins here, if the frame is cut and one does.
    pub(crate) fn fragment_header(&self) -> Option<FrameHeader> {
        let begins = self.skipped.is_multiple_of(MAX_FRAGMENT_BYTES) && self.skipped < self.length;
        if !begins || !self.is_cut() {
            return None;
        }
        let remaining = self.length - self.skipped;
        let length = remaining.min(MAX_FRAGMENT_BYTES);
        let opcode = if self.skipped == 0 { self.first_byte & !FINAL } else { 0 };
        let is_final = if length == remaining { self.first_byte & FINAL } else { 0 };
        Some(FrameHeader::new(opcode | is_final, length as usize, self.mask))
    }

    /// How many bytes may be passed on before the next header, if the frame is cut.
    pub(crate) fn remaining_of_fragment(&self) -> usize {
        let of_fragment = (MAX_FRAGMENT_BYTES - self.skipped % MAX_FRAGMENT_BYTES) as usize;
        if self.is_cut() { self.remaining().min(of_fragment) } else { self.remaining() }
    }
}
