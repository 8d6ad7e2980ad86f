//! The part of the configuration that is about discovery.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use redis_session::RedisSettings;

use super::Source;
use super::reader::Reader;
use crate::discovery::DiscoverySettings;
use crate::discovery::store::{Storage, StoreLimits};

/// `STORAGE_TYPE`.
enum StorageType {
    Memory,
    Sqlite,
    Redis,
}

impl FromStr for StorageType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            "redis" => Ok(Self::Redis),
            _ => Err(()),
        }
    }
}

/// `STORAGE_PATH`: a file, or what SQLite calls its own memory.
struct StoragePath(Option<PathBuf>);

/// Rondevu is told so to keep its sessions in memory.
const IN_MEMORY: &str = ":memory:";

impl FromStr for StoragePath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            IN_MEMORY => Ok(Self(None)),
            _ if text.starts_with(':') || text.starts_with("file:") => Err(()),
            _ => Ok(Self(Some(text.into()))),
        }
    }
}

/// What `STORAGE_TYPE` switches on; none if it is not set. The other variables are checked all
/// the same: a mistake does not wait until it matters.
pub(super) fn read(
    reader: &mut Reader<impl Source>,
    redis: Option<&RedisSettings>,
) -> Option<DiscoverySettings> {
    let storage = reader.optional("STORAGE_TYPE", |text| text.parse().ok());
    let StoragePath(path) = reader.parsed("STORAGE_PATH");
    let most = reader.number("DISCOVERY_MAX_REQUESTS_PER_SECOND", 0);
    let settings = DiscoverySettings {
        storage: Storage::Memory,
        limits: StoreLimits {
            max_sessions: reader.number("DISCOVERY_MAX_SESSIONS", 1),
            max_sessions_per_origin: reader.number("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", 1),
            max_bytes: reader.number("DISCOVERY_MAX_STORED_BYTES", 1),
        },
        session_timeout: reader.milliseconds("SESSION_TIMEOUT", 1),
        allowed_origins: reader.parsed("CORS_ORIGINS"),
        mount: reader.parsed("DISCOVERY_PATH"),
        max_requests_per_second: u32::try_from(most).ok().and_then(NonZeroU32::new),
        max_waiting: reader.number("DISCOVERY_MAX_WAITING", 1),
    };
    Some(match (storage?, path) {
        (StorageType::Sqlite, Some(path)) => {
            DiscoverySettings { storage: Storage::Sqlite(path), ..settings }
        }
        (StorageType::Redis, _) => match redis {
            Some(redis) => DiscoverySettings { storage: Storage::Redis(redis.clone()), ..settings },
            None => {
                reader.conflict("STORAGE_TYPE", "redis needs a valid REDIS_URL");
                settings
            }
        },
        (StorageType::Sqlite, None) | (StorageType::Memory, _) => settings,
    })
}
