//! What a node sends while the transport must not see it yet.
//!
//! While it is being connected, everything up to the end of its CONNECT packet is handed on as it
//! comes, and what stands behind that is held back until the node is admitted. While reading is
//! paused, everything is held back. The node is heard all the same: its end is noticed, and that
//! it lives.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

/// The most that is read ahead. More waits in the kernel.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Bytes that were read ahead.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Read from the peer and not handed on yet.
    held: BytesMut,
    /// How many of these bytes may be handed on.
    free: usize,
    connect_seen: bool,
}

impl ReadAhead {
    /// Takes in what was read; `end` is where the CONNECT packet ends in it, if it does.
    pub(super) fn take_in(&mut self, read: &[u8], end: Option<usize>) {
        self.held.extend_from_slice(read);
        if !self.connect_seen {
            self.free += end.unwrap_or(read.len());
        }
        self.connect_seen |= end.is_some();
    }

    /// Whether the CONNECT packet has been read.
    pub(super) fn connect_seen(&self) -> bool {
        self.connect_seen
    }

    /// Whether no more may be read ahead.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= MAX_HELD_BYTES
    }

    /// Whether all that was read has been handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Lets everything be handed on.
    pub(super) fn release(&mut self) {
        self.free = self.held.len();
    }

    /// Hands on what may be handed on, as much as fits. Returns whether there was anything.
    pub(super) fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.free.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.free -= length;
        length > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_on(ahead: &mut ReadAhead) -> Vec<u8> {
        let mut space = [0; 4];
        let mut all = Vec::new();
        loop {
            let mut buf = ReadBuf::new(&mut space);
            if !ahead.hand_on(&mut buf) {
                return all;
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn what_stands_behind_connect_waits_for_the_release() {
        let mut ahead = ReadAhead::default();
        ahead.take_in(b"ping ", None);
        ahead.take_in(b"connect event", Some(7));
        ahead.take_in(b" more", None);
        assert_eq!(handed_on(&mut ahead), b"ping connect");
        assert!(ahead.connect_seen() && !ahead.is_empty());
        ahead.release();
        assert_eq!(handed_on(&mut ahead), b" event more");
        assert!(ahead.is_empty());
    }

    #[test]
    fn not_everything_is_read_ahead() {
        let mut ahead = ReadAhead::default();
        ahead.take_in(&[0; MAX_HELD_BYTES - 1], Some(1));
        assert!(!ahead.is_full());
        ahead.take_in(&[0], None);
        assert!(ahead.is_full());
    }
}
