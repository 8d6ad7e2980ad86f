//! A run of finished frames, written front to back in as few system calls as possible.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::pool;
use crate::frame::{FrameHeader, MAX_HEADER_BYTES, TEXT};
use crate::packet::OutgoingPacket;

/// A frame whose payload has at least this many bytes is a chunk of its own.
const LARGE_BYTES: usize = 4096;

/// From this length on, a chunk of small frames takes no more. A ping goes between two chunks, and
/// should not wait for long.
const CHUNK_BYTES: usize = 16 * 1024;

/// Frames in order. The first may have been written in part.
#[derive(Default)]
pub(crate) struct Frames {
    /// Most often the only chunk; so the queue behind it needs no memory.
    first: Chunk,
    rest: VecDeque<Chunk>,
    /// How much of the first chunk has been written, in bytes.
    written: usize,
}

/// Whole frames that are written together. Empty only where there is nothing to write.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// How many of the bytes are acks.
    ack_bytes: usize,
    /// Takes no more frames.
    is_closed: bool,
}

/// A packet as a text frame, with a buffer of its own if it is large.
pub(super) struct TextFrame<'a> {
    packet: &'a OutgoingPacket<'a>,
    header: FrameHeader,
    payload_bytes: usize,
    large: Option<Vec<u8>>,
}

impl<'a> TextFrame<'a> {
    /// Prepares the frame. A large one is written here, so that no lock is held for it.
    pub(super) fn new(packet: &'a OutgoingPacket<'a>) -> Self {
        let payload_bytes = packet.pieces().iter().map(|piece| piece.len()).sum();
        let header = FrameHeader::new(TEXT, payload_bytes, None);
        let mut frame = Self { packet, header, payload_bytes, large: None };
        if payload_bytes >= LARGE_BYTES {
            let mut buffer = Vec::with_capacity(payload_bytes + MAX_HEADER_BYTES);
            frame.write(&mut buffer);
            frame.large = Some(buffer);
        }
        frame
    }

    /// The length with its header, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.header.as_bytes().len() + self.payload_bytes
    }

    fn ack_bytes(&self) -> usize {
        if matches!(self.packet, OutgoingPacket::Ack { .. }) { self.bytes() } else { 0 }
    }

    fn write(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.header.as_bytes());
        for piece in self.packet.pieces() {
            buffer.extend_from_slice(piece.as_bytes());
        }
    }
}

impl Frames {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.bytes.is_empty()
    }

    /// Whether a frame has been written in part, so that nothing else may go before its rest.
    pub(crate) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, mut frame: TextFrame<'_>) {
        let ack_bytes = frame.ack_bytes();
        if let Some(bytes) = frame.large.take() {
            return self.push_chunk(Chunk { bytes, ack_bytes, is_closed: true });
        }
        let last = self.rest.back().unwrap_or(&self.first);
        if last.is_closed || last.bytes.is_empty() || last.bytes.len() >= CHUNK_BYTES {
            self.push_chunk(Chunk { bytes: pool::take(), ack_bytes: 0, is_closed: false });
        }
        let last = self.rest.back_mut().unwrap_or(&mut self.first);
        frame.write(&mut last.bytes);
        last.ack_bytes += ack_bytes;
    }

    /// Puts the bytes of a frame before all others. Nothing may have been begun.
    pub(crate) fn push_front(&mut self, frame: &[u8]) {
        let mut bytes = pool::take();
        bytes.extend_from_slice(frame);
        let front = Chunk { bytes, ack_bytes: 0, is_closed: true };
        let behind = std::mem::replace(&mut self.first, front);
        if !behind.bytes.is_empty() {
            self.rest.push_front(behind);
        }
    }

    /// Points `slices` to what has to be written next. Returns how many of them are used.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let first = self.first.bytes.get(self.written..).unwrap_or_default();
        let chunks = std::iter::once(first).chain(self.rest.iter().map(|chunk| &*chunk.bytes));
        let filled = slices.iter_mut().zip(chunks.filter(|bytes| !bytes.is_empty()));
        filled.map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    /// The bytes that have not been written.
    #[cfg(all(test, feature = "loom"))]
    pub(crate) fn unwritten_bytes(&self) -> usize {
        let rest: usize = self.rest.iter().map(|chunk| chunk.bytes.len()).sum();
        self.first.bytes.len() - self.written + rest
    }

    /// Removes `bytes` that have been written. Returns how many bytes of acks have left with that;
    /// they are counted when the whole chunk has left.
    pub(crate) fn advance(&mut self, bytes: usize) -> usize {
        let mut ack_bytes = 0;
        self.written += bytes;
        while !self.is_empty() && self.written >= self.first.bytes.len() {
            self.written -= self.first.bytes.len();
            ack_bytes += self.first.ack_bytes;
            let next = self.rest.pop_front().unwrap_or_default();
            pool::give_back(std::mem::replace(&mut self.first, next).bytes);
        }
        if self.rest.is_empty() {
            // An idle link holds no memory for it.
            self.rest = VecDeque::new();
        }
        ack_bytes
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        if self.is_empty() {
            self.first = chunk;
        } else {
            self.rest.push_back(chunk);
        }
    }
}
