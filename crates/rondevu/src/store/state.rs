//! What a store says of its backend.

use super::{Backend, Store};
use crate::model::Clock;

impl Store {
    /// The clock by which sessions expire here.
    pub fn clock(&self) -> Clock {
        match &self.backend {
            // Other replicas compare their times with those of this one.
            #[cfg(feature = "redis")]
            Backend::Redis(_) => Clock::System,
            _ => Clock::Steady,
        }
    }

    /// Whether its Redis is connected; always true for a store without one.
    pub fn is_connected(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => true,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(_) => true,
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => redis.is_connected(),
        }
    }

    /// Returns a command that its Redis refuses at present.
    #[cfg(feature = "redis")]
    pub fn refusal(&self) -> Option<redis_session::Refusal> {
        match &self.backend {
            Backend::Redis(redis) => redis.refusal(),
            _ => None,
        }
    }
}
