//! Tests that speak the wire to a real server, in raw frames where a byte matters.
//!
//! One binary, so that it is linked once. Every server listens on a free port of the loopback
//! address; whatever is waited for has a limit.
#![allow(unreachable_pub, reason = "what the tests share is public to them")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

mod support;

mod admission;
mod bad_input;
mod duplicates;
mod leaving;
mod overlay_broker;
mod overlay_hostile;
mod overlay_networks;
mod overlay_program;
mod presence;
mod program;
mod relay;
mod shutdown;
mod slow_receiver;
mod tidy;
mod turn;
mod webhooks_authentication;
mod webhooks_authorization;
mod webhooks_breaker;
mod webhooks_faults;
mod webhooks_order;
mod webhooks_rtc;
mod webhooks_secrets;
mod webhooks_socket_message;
mod webhooks_transport;
mod webhooks_validity;
