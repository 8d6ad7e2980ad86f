//! Discovery by topic: peers that do not know each other's IDs meet over plain HTTP, as programs
//! written for Rondevu do.
//!
//! A peer leaves an offer under a topic; another one finds it in the topic's list and leaves an
//! answer; both exchange candidates until they are connected directly. What they leave is a
//! session, which expires after some minutes.
//!
//! [`Discovery::open`] opens a store, and [`Discovery::router`] returns the endpoints. README.md has
//! an example, and `examples/serve.rs` is a whole server.
//!
//! # Reading order
//!
//! - [`model`]: domain types, each parsed once.
//! - [`store`]: where sessions are stored, in one of several backends, and notifications of changes.
//! - [`http`]: the endpoints, their errors and limits, as a router for axum.
//!
//! Modules import only from those named before them; [`Metrics`] is used by all.
//!
//! # Features
//!
//! - `sqlite` (default): sessions in a SQLite file that survives the process.
//! - `redis`: sessions in Redis, shared by all replicas.

#![cfg_attr(all(doctest, feature = "sqlite"), doc = include_str!("../README.md"))]

pub mod http;
mod metrics;
pub mod model;
pub mod store;

pub use http::{AllowedOrigins, BasePath, Demand, Discovery, Settings};
pub use metrics::Metrics;
pub use store::{OpenError, Storage, StoreLimits};
