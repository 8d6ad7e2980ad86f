//! The body of a webhook's response, and an RTC configuration in it.
#![no_main]

use crolang_broker::internals::{is_rtc_configuration, says_yes};

libfuzzer_sys::fuzz_target!(|reply: &[u8]| {
    says_yes(reply, "authenticated");
    if let Ok(text) = std::str::from_utf8(reply) {
        is_rtc_configuration(text);
    }
});
