//! Domain types, each parsed once: code that has one need not check it again.
//!
//! The texts that peers leave for each other are never interpreted: a [`JsonText`] is forwarded
//! byte for byte.

mod code;
mod origin;
mod secret;
mod session;
mod text;
mod timestamp;
mod topic;

pub use code::Code;
pub use origin::{Origin, OriginTooLong};
pub use secret::{Answer, Secret, SecretHash};
#[cfg(feature = "redis")]
pub(crate) use session::TEXT_OVERHEAD_BYTES;
pub(crate) use session::text_bytes;
pub use session::{NewSession, Session, Side};
pub use text::JsonText;
pub use timestamp::{Clock, Timestamp};
pub use topic::{InvalidTopic, Page, Topic, TopicCount, Topics};
