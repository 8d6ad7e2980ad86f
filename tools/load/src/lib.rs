//! A load generator for brokers that speak as crolang-broker does, for discovery and for peers of
//! the peer-relay network: it makes up nodes, clients or peers, lets them do one thing as hard or as
//! steadily as it is told, and says how fast, how late, at what cost, and whether anything was
//! wrong.
//!
//! # How a message is measured
//!
//! A sender writes a [`message`] into its [`outbox`], and into its [`ledger`] when it was due. The
//! broker's ack comes back on the sender's [`connection`], the message itself on the receiver's.
//! Both are the same process, so one [`clock`] times both. What comes is compared with what was
//! sent ([`answer`], [`sequence`]); what should not have come has a name ([`wrong`]).
//!
//! Everything runs on one thread: no lock, and its CPU time is easy to tell from the broker's.
//!
//! # Reading order
//!
//! [`frame`], [`packet`], [`peer`]: the wire. [`door`], [`connection`], [`outbox`]: one node.
//! [`message`], [`answer`], [`ledger`], [`sequence`]: what is sent and what should come of it.
//! [`clock`], [`schedule`], [`latency`], [`tally`], [`process`], [`meter`], [`wrong`]: what is
//! measured, and when. [`exchange`] (relay, fan-in, presence and overlay), [`discovery`],
//! [`churn`], [`idle`], [`storm`], [`flood`]: the modes. [`stage`], [`report`], [`table`]: what people see.
//! [`run`] puts them together.

pub mod answer;
pub mod arguments;
pub mod churn;
pub mod clock;
pub mod connection;
pub mod discovery;
pub mod door;
pub mod exchange;
pub mod flood;
pub mod frame;
pub mod idle;
pub mod latency;
pub mod ledger;
pub mod message;
pub mod meter;
pub mod outbox;
pub mod packet;
pub mod peer;
pub mod process;
pub mod report;
pub mod run;
pub mod schedule;
pub mod sequence;
pub mod stage;
pub mod storm;
pub mod table;
pub mod tally;
pub mod wrong;
