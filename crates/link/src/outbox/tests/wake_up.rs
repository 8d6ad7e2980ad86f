//! The handshake between pushes and the stream, in every order of its steps.
//!
//! `cargo test -p crolang-link --features loom --lib outbox` checks it; the rest of the crate does
//! not work with loom's types.

use std::sync::Arc;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::super::{Outbox, Pushed};
use crate::packet::OutgoingPacket;

/// What the stream and those who push share: the outbox, and what stands for the reader's waker.
struct Shared {
    outbox: Outbox,
    waker: Notify,
    wakes: AtomicUsize,
}

fn push(shared: &Shared, id: &str) {
    let packet = OutgoingPacket::Ack { id, argument: "" };
    if shared.outbox.push(&packet, |_| true) == Pushed::MustWake {
        shared.wakes.fetch_add(1, Ordering::SeqCst);
        shared.waker.notify();
    }
}

/// Polls the stream until it has written `frames`, sleeping where it may.
fn run_stream(shared: &Shared, frames: usize) {
    let mut written = 0;
    loop {
        while let Some(mut taken) = shared.outbox.take_or_sleep() {
            let bytes = taken.unwritten_bytes();
            written += bytes / FRAME_BYTES;
            taken.advance(bytes);
        }
        if written == frames {
            return;
        }
        // Deadlocks here, and so fails the model, if a push went unnoticed.
        shared.waker.wait();
        shared.outbox.wake_up();
    }
}

/// The frame of `43<id>[]` with an ID of one digit: a header of two bytes and five of text.
const FRAME_BYTES: usize = 7;

fn shared() -> Arc<Shared> {
    Arc::new(Shared { outbox: Outbox::new(), waker: Notify::new(), wakes: AtomicUsize::new(0) })
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let shared = shared();
        let pushing: Vec<_> = ["1", "2"]
            .map(|id| {
                let shared = shared.clone();
                thread::spawn(move || push(&shared, id))
            })
            .into();
        run_stream(&shared, 2);
        for pushing in pushing {
            pushing.join().unwrap();
        }
        assert!(shared.outbox.take_or_sleep().is_none());
    });
}

#[test]
fn frames_pushed_while_the_stream_is_awake_cost_no_wake_up() {
    loom::model(|| {
        let shared = shared();
        push(&shared, "1");
        push(&shared, "2");
        run_stream(&shared, 2);
        assert_eq!(shared.wakes.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_finished_outbox_refuses_frames_in_time() {
    loom::model(|| {
        let shared = shared();
        let pushing = {
            let shared = shared.clone();
            thread::spawn(move || {
                let packet = OutgoingPacket::Ack { id: "1", argument: "" };
                shared.outbox.push(&packet, |_| true) != Pushed::Refused
            })
        };
        shared.outbox.finish();
        let is_queued = shared.outbox.take_or_sleep().is_some();
        let is_taken = pushing.join().unwrap();
        assert_eq!(is_queued, is_taken, "what is taken after the end was queued before it");
    });
}
