//! The time, as signatures, TURN credentials and audit lines count it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970 began. A clock that stands before that counts as 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
