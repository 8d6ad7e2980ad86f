//! What was read of a peer and has not been passed on.
//!
//! All links of a thread read into the same buffer of 64 KB. While a link is polled it has that
//! buffer; before it sleeps it gives it back and keeps a copy of what is left, which is most often
//! nothing. So a burst costs one system call and no allocation, and an idle link has no buffer.

use std::cell::Cell;

use bytes::Bytes;

/// The most that is buffered, in bytes. More waits in the kernel.
pub(crate) const MAX_BUFFERED_BYTES: usize = 64 * 1024;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The bytes are those of the thread's buffer.
    is_shared: bool,
}

impl ReadBuffer {
    /// Has the thread's buffer, which is empty.
    pub(crate) fn shared() -> Self {
        let mut bytes = SHARED.take();
        bytes.resize(MAX_BUFFERED_BYTES, 0);
        Self { bytes, start: 0, end: 0, is_shared: true }
    }

    /// What is free of the thread's buffer, which is empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Has `bytes` of what the space was.
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.end = bytes;
    }

    /// Appends what was read later.
    pub(crate) fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.park();
        self.bytes.drain(..self.start);
        self.bytes.extend_from_slice(later.as_bytes());
        (self.start, self.end) = (0, self.bytes.len());
    }

    /// Gives the thread's buffer back, and keeps what is left in a buffer of its own.
    pub(crate) fn park(&mut self) {
        if self.is_shared {
            let bytes = self.as_bytes().to_vec();
            *self = Self { start: 0, end: bytes.len(), bytes, is_shared: false };
        }
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Removes bytes from the front. No memory is kept once there are none.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Removes all but the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.end = self.end.min(self.start + bytes);
    }
}

impl From<Bytes> for ReadBuffer {
    fn from(bytes: Bytes) -> Self {
        Self { start: 0, end: bytes.len(), bytes: bytes.into(), is_shared: false }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if self.is_shared {
            // Fails where the thread ends.
            let _ = SHARED.try_with(|shared| shared.set(std::mem::take(&mut self.bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_kept_and_no_more() {
        let mut buffer = ReadBuffer::shared();
        buffer.space()[..8].copy_from_slice(b"01234567");
        buffer.fill(8);
        buffer.advance(2);
        buffer.park();
        assert_eq!((buffer.as_bytes(), buffer.capacity()), (&b"234567"[..], 6));
        buffer.advance(1);
        let mut later = ReadBuffer::shared();
        later.space()[..2].copy_from_slice(b"89");
        later.fill(2);
        buffer.append(later);
        assert_eq!(buffer.as_bytes(), b"3456789");
        buffer.truncate(6);
        assert_eq!(buffer.as_bytes(), b"345678");
        buffer.advance(6);
        assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
    }

    #[test]
    fn links_that_are_polled_in_turns_use_the_same_buffer() {
        let buffer = ReadBuffer::shared();
        let address = buffer.bytes.as_ptr();
        assert_ne!(ReadBuffer::shared().bytes.as_ptr(), address, "nobody else has it");
        drop(buffer);
        assert_eq!(ReadBuffer::shared().bytes.as_ptr(), address);
    }
}
