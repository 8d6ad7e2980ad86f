//! How the header of a frame is written.

use super::{MASKED, MAX_HEADER_BYTES};

/// The header of a frame, ready to be written.
pub(crate) struct FrameHeader {
    bytes: [u8; MAX_HEADER_BYTES],
    length: usize,
}

impl FrameHeader {
    /// The header of a frame that begins with `first_byte` (FIN and opcode) and has `length` bytes
    /// of payload.
    pub(crate) fn new(first_byte: u8, length: usize, mask: Option<[u8; 4]>) -> Self {
        let mut header = Self { bytes: [0; MAX_HEADER_BYTES], length: 0 };
        let masked = if mask.is_some() { MASKED } else { 0 };
        header.push(&[first_byte]);
        match length {
            0..=125 => header.push(&[masked | length as u8]),
            126..=0xffff => {
                header.push(&[masked | 126]);
                header.push(&(length as u16).to_be_bytes());
            }
            _ => {
                header.push(&[masked | 127]);
                header.push(&(length as u64).to_be_bytes());
            }
        }
        header.push(mask.as_ref().map_or(&[], |mask| mask));
        header
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
