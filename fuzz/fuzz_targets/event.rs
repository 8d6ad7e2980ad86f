//! An event as the transport hands it on: the list in the packet, the addresses in its payload, and the same text
//! as a presence query.
#![no_main]

use crolang_broker::internals::{is_event_packet, presence_ack, receiver_bytes};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some(bytes) = receiver_bytes(text) {
        assert!(is_event_packet(text) && (1..=256).contains(&bytes));
    }
    presence_ack(text, 100, |id| id.len() % 2 == 0);
});
