//! A frame from another peer of the peer-relay network.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &str| {
    peer_relay::is_message(frame);
});
