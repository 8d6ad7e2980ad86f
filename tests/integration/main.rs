//! Tests that speak the wire to a real server, in raw frames where a byte matters.
//!
//! CONTRIBUTING.md tells which test holds which promise, and the variables for a single run.
//!
//! One binary, so that it is linked once. Every server listens on a free port of the loopback
//! address; whatever is waited for has a limit.
#![allow(unreachable_pub, reason = "what the tests share is public to them")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

mod support;

mod addresses;
mod admission;
mod api_access;
mod api_bans;
mod api_commands;
mod api_events;
mod api_nodes;
mod api_replicas;
mod bad_input;
mod discovery;
mod discovery_limits;
mod discovery_redis;
mod discovery_secret;
mod discovery_storage;
mod discovery_waiting;
mod duplicates;
mod health;
mod http_connections;
mod leaving;
mod log_output;
mod login;
mod long_messages;
mod memory;
mod monitoring;
mod no_leak;
mod node_events;
#[cfg(feature = "overlay")]
mod overlay_bridge;
#[cfg(feature = "overlay")]
mod overlay_bridge_outage;
#[cfg(feature = "overlay")]
mod overlay_broker;
#[cfg(feature = "overlay")]
mod overlay_hostile;
#[cfg(feature = "overlay")]
mod overlay_program;
#[cfg(feature = "webrtc")]
mod overlay_webrtc;
mod presence;
mod program;
mod proxies;
mod rates;
mod readiness;
mod redis_modes;
mod redis_outage;
mod redis_outage_faults;
mod redis_refusals;
mod redis_start;
mod reference;
mod relay;
mod replicas_conflict;
mod replicas_cost;
mod replicas_delivery;
mod replicas_messages;
mod replicas_one_owner;
mod replicas_order;
mod replicas_relay;
mod replicas_release;
mod shutdown;
mod slow_receiver;
mod tidy;
mod tls;
mod tls_reload;
mod tools;
mod turn;
mod webhooks_authentication;
mod webhooks_authorization;
mod webhooks_breaker;
mod webhooks_fairness;
mod webhooks_faults;
mod webhooks_order;
mod webhooks_rtc;
mod webhooks_secrets;
mod webhooks_soak;
mod webhooks_socket_message;
mod webhooks_transport;
mod webhooks_validity;
