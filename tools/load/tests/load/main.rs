//! Runs the built program: against the real broker, where all must be well, and against brokers
//! that misbehave, where it must say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

mod broker;
mod discovery;
mod fake;
mod floor;
mod honest;
mod hooks;
mod misbehaved;
mod overlay;
mod program;
