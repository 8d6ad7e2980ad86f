//! The text of a `.env` file.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    crolang_broker::internals::env_variables(text);
});
