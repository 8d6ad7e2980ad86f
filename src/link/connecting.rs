//! What a node sends while it is being connected.
//!
//! Everything up to the end of its CONNECT packet is handed on as it comes. What stands behind
//! that is held back until the node is admitted.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

/// The most that is read ahead of a node's admission. More waits in the kernel.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// The way in of a WebSocket whose node has not been admitted yet.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    /// Read from the peer and not handed on yet.
    held: BytesMut,
    /// How many of these bytes may be handed on.
    free: usize,
    connect_seen: bool,
}

impl Connecting {
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

    fn handed_on(connecting: &mut Connecting) -> Vec<u8> {
        let mut space = [0; 4];
        let mut all = Vec::new();
        loop {
            let mut buf = ReadBuf::new(&mut space);
            if !connecting.hand_on(&mut buf) {
                return all;
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn what_stands_behind_connect_waits_for_the_release() {
        let mut connecting = Connecting::default();
        connecting.take_in(b"ping ", None);
        connecting.take_in(b"connect event", Some(7));
        connecting.take_in(b" more", None);
        assert_eq!(handed_on(&mut connecting), b"ping connect");
        assert!(connecting.connect_seen() && !connecting.is_empty());
        connecting.release();
        assert_eq!(handed_on(&mut connecting), b" event more");
        assert!(connecting.is_empty());
    }

    #[test]
    fn not_everything_is_read_ahead() {
        let mut connecting = Connecting::default();
        connecting.take_in(&[0; MAX_HELD_BYTES - 1], Some(1));
        assert!(!connecting.is_full());
        connecting.take_in(&[0], None);
        assert!(connecting.is_full());
    }
}
