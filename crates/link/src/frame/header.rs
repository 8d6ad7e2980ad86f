//! How the header of a frame is written.

use super::{MASKED, MAX_HEADER_BYTES};

/// The header of a frame, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct FrameHeader {
    bytes: [u8; MAX_HEADER_BYTES],
    written: u8,
    end: u8,
}

impl FrameHeader {
    /// The header of a frame that begins with `first_byte` (FIN and opcode) and has `length` bytes
    /// of payload.
    pub(crate) fn new(first_byte: u8, length: usize, mask: Option<[u8; 4]>) -> Self {
        let mut header = Self::default();
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

    /// A header as it was read: its length need not have the shortest form.
    pub(crate) fn copied(header: &[u8]) -> Self {
        let mut copy = Self::default();
        copy.push(header);
        copy
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.end.into()..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len() as u8;
    }

    /// What has not been written.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.written.into()..self.end.into()]
    }

    /// Takes up to `most` bytes that have not been written.
    pub(crate) fn take(&mut self, most: usize) -> &[u8] {
        let from = self.written;
        self.written += self.as_bytes().len().min(most) as u8;
        &self.bytes[from.into()..self.written.into()]
    }
}
