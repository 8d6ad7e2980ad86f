//! The query of an upgrade request.
#![no_main]

use crolang_broker::internals::is_handshake;

libfuzzer_sys::fuzz_target!(|query: &str| {
    is_handshake(query);
});
