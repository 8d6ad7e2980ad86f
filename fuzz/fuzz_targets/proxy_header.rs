//! The start of a connection from a trusted proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    crolang_broker::internals::has_proxy_header(bytes);
});
