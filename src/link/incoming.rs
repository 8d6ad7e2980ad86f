//! What a peer sends, from the socket to the transport.
//!
//! As much is read at once as there is, into a buffer that all connections of a thread share, and
//! handed on in the small portions that the transport has room for. What it has no room for yet
//! is held here, and nothing else is read before that is handed on. So an idle connection has
//! hardly any buffer, and a burst still costs one system call.
//!
//! While a node is being connected, everything up to the end of its CONNECT packet is handed on
//! as it comes, and what stands behind that is held back until the node is admitted. While
//! reading is paused, everything is held back. The node is heard all the same: its end is
//! noticed, and that it lives.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::frames::{Found, FrameScanner};
use super::pieces::{MAX_PIECE_BYTES, Pieces};

/// The most that is read ahead. More waits in the kernel.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// One connection's incoming bytes.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    scanner: FrameScanner,
    /// The long frame that is being passed over.
    pieces: Option<Pieces>,
    /// Read from the peer and not handed on yet. Has a buffer only while there is something.
    held: BytesMut,
    /// How many of these bytes may be handed on.
    free: usize,
    connect_seen: bool,
}

/// Where what was read goes: as much as fits to the transport, the rest is held.
struct Outlet<'a, 'b> {
    space: Option<&'a mut ReadBuf<'b>>,
    held: &'a mut BytesMut,
}

impl Incoming {
    /// Takes in what was read, and hands it on into `space` if there is any. Returns whether the
    /// peer said goodbye in it.
    pub(super) fn take_in(&mut self, read: &[u8], space: Option<&mut ReadBuf<'_>>) -> bool {
        let mut outlet = Outlet { space, held: &mut self.held };
        let mut is_goodbye = false;
        // A header is handed on when it is complete, for it may be that of a long frame.
        let (header, header_bytes) = self.scanner.begun_header();
        let mut begun = &header[..header_bytes];
        let (mut handed, mut at) = (0, 0);
        while at < read.len() {
            let portion = match &self.pieces {
                Some(pieces) => &read[at..][..pieces.left_of_piece().min(read.len() - at)],
                None => &read[at..],
            };
            let (taken, found) = self.scanner.next(portion, MAX_PIECE_BYTES);
            at += taken;
            if let Some(pieces) = &mut self.pieces
                && pieces.pass(taken)
            {
                outlet.put(&read[handed..at]);
                handed = at;
                match pieces.next() {
                    Some(header) => outlet.put(header.as_bytes()),
                    None => self.pieces = None,
                }
            }
            match found {
                Found::Nothing => {}
                Found::LongFrame(frame) => {
                    if let Some(mut pieces) = Pieces::of(frame) {
                        if at + begun.len() > frame.header_bytes {
                            outlet.put(begun);
                            outlet.put(&read[handed..at - frame.header_bytes]);
                        }
                        if let Some(header) = pieces.next() {
                            outlet.put(header.as_bytes());
                        }
                        self.pieces = Some(pieces);
                        (begun, handed) = (&[], at);
                    }
                }
                Found::Message(message) => {
                    is_goodbye |= message.is_goodbye();
                    if !self.connect_seen && message.is_connect() {
                        outlet.put(begun);
                        outlet.put(&read[handed..at]);
                        (begun, handed) = (&[], at);
                        self.connect_seen = true;
                        self.free = outlet.held.len();
                    }
                }
            }
        }
        let (_, unfinished) = self.scanner.begun_header();
        if unfinished < begun.len() + read.len() {
            outlet.put(begun);
            outlet.put(&read[handed..read.len() - unfinished]);
        }
        if !self.connect_seen {
            self.free = self.held.len();
        }
        is_goodbye
    }

    /// How much more may be read ahead, in bytes.
    pub(super) fn room(&self) -> usize {
        MAX_HELD_BYTES.saturating_sub(self.held.len())
    }

    /// Whether all that was read has been handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether there is something, and nothing of it may be handed on.
    pub(super) fn is_held_back(&self) -> bool {
        self.free == 0 && !self.held.is_empty()
    }

    /// Lets everything be handed on.
    pub(super) fn release(&mut self) {
        self.free = self.held.len();
    }

    /// Hands on what may be handed on, as much as fits. Returns whether there was anything.
    pub(super) fn hand_on(&mut self, space: &mut ReadBuf<'_>) -> bool {
        let length = self.free.min(space.remaining());
        if length == 0 {
            return false;
        }
        space.put_slice(&self.held[..length]);
        self.free -= length;
        if length == self.held.len() {
            self.held = BytesMut::new();
        } else {
            self.held.advance(length);
        }
        true
    }
}

impl Outlet<'_, '_> {
    fn put(&mut self, bytes: &[u8]) {
        let fits = match &mut self.space {
            Some(space) if self.held.is_empty() => {
                let fits = bytes.len().min(space.remaining());
                space.put_slice(&bytes[..fits]);
                fits
            }
            _ => 0,
        };
        if fits < bytes.len() {
            self.held.extend_from_slice(&bytes[fits..]);
        }
    }
}

#[cfg(test)]
mod tests;
