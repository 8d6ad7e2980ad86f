//! Buffers for small frames, reused by all links of a thread.
//!
//! So a message costs no allocation, and an idle link no buffer. What a thread keeps is bounded:
//! [`MAX_BUFFERS`] of at most [`MAX_BUFFER_BYTES`].

use std::cell::RefCell;

/// The most buffers that a thread keeps.
const MAX_BUFFERS: usize = 32;

/// The largest buffer that is kept, in bytes.
const MAX_BUFFER_BYTES: usize = 32 * 1024;

/// The capacity of a new buffer, in bytes: a few small messages.
const NEW_BUFFER_BYTES: usize = 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer.
pub(super) fn take() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(NEW_BUFFER_BYTES))
}

/// Takes back a buffer that is not needed any more.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > MAX_BUFFER_BYTES {
        return;
    }
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < MAX_BUFFERS {
            buffer.clear();
            buffers.push(buffer);
        }
    });
}
