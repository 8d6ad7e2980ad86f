//! A batch of messages from another replica.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    crolang_broker::internals::is_batch(bytes);
});
