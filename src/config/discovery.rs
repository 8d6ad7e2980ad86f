//! Reads the configuration of discovery.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use redis_session::RedisSettings;
use rondevu::{BasePath, Settings, Storage, StoreLimits};

use super::Source;
use super::reader::Reader;

/// `STORAGE_TYPE`.
enum StorageType {
    Memory,
    Sqlite,
    Redis,
}

/// What the original takes for "no file".
const IN_MEMORY: &str = ":memory:";

/// First segments of paths that other endpoints have.
const RESERVED: [&str; 6] = ["health", "healthz", "livez", "metrics", "readyz", "socket.io"];

/// Reads what `STORAGE_TYPE` switches on; `None` if it is not set. The other variables are checked
/// all the same, so that an error in them shows now.
pub(super) fn read(
    reader: &mut Reader<impl Source>,
    redis: Option<&RedisSettings>,
    write_timeout: Duration,
) -> Option<Settings> {
    let storage = reader.optional("STORAGE_TYPE", |text| match text {
        "memory" => Some(StorageType::Memory),
        "sqlite" => Some(StorageType::Sqlite),
        "redis" => Some(StorageType::Redis),
        _ => None,
    });
    let path = reader.value("STORAGE_PATH", storage_path);
    let base_path = reader.value("DISCOVERY_PATH", base_path);
    let max_percent_per_address = reader.value("DISCOVERY_MAX_PERCENT_PER_ADDRESS", |text| {
        text.parse().ok().filter(|percent| (1..=100).contains(percent))
    });
    let max_requests_per_second = reader.number("DISCOVERY_MAX_REQUESTS_PER_SECOND", 0);
    let settings = Settings {
        storage: Storage::Memory,
        limits: StoreLimits {
            max_sessions: reader.number("DISCOVERY_MAX_SESSIONS", 1),
            max_sessions_per_origin: reader.number("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", 1),
            max_bytes: reader.number("DISCOVERY_MAX_STORED_BYTES", 1),
        },
        session_timeout: reader.milliseconds("SESSION_TIMEOUT", 1),
        allowed_origins: reader.parsed("CORS_ORIGINS"),
        base_path,
        max_requests_per_second: u32::try_from(max_requests_per_second)
            .ok()
            .and_then(NonZeroU32::new),
        max_waiting: reader.number("DISCOVERY_MAX_WAITING", 1),
        max_incomplete_bytes: reader.number("DISCOVERY_MAX_UNFINISHED_BYTES", 1),
        max_response_bytes: reader.number("DISCOVERY_MAX_RESPONSE_BYTES", 1),
        response_timeout: write_timeout,
        max_percent_per_address,
    };
    let storage = match (storage?, path, redis) {
        (StorageType::Memory, ..) | (StorageType::Sqlite, None, _) => Ok(Storage::Memory),
        (StorageType::Sqlite, Some(path), _) => sqlite(path),
        (StorageType::Redis, _, Some(redis)) => Ok(Storage::Redis(redis.clone())),
        (StorageType::Redis, _, None) => Err("redis needs a valid REDIS_URL"),
    };
    match storage {
        Ok(storage) => Some(Settings { storage, ..settings }),
        Err(problem) => {
            reader.conflict("STORAGE_TYPE", problem);
            None
        }
    }
}

/// A file; none for SQLite's name of a database in memory, but no other of its special names.
fn storage_path(text: &str) -> Option<Option<PathBuf>> {
    match text {
        IN_MEMORY => Some(None),
        _ if text.starts_with(':') || text.starts_with("file:") => None,
        _ => Some(Some(text.into())),
    }
}

/// A base path that does not begin with a segment of other endpoints.
fn base_path(text: &str) -> Option<BasePath> {
    let path: BasePath = text.parse().ok()?;
    let first = path.as_str().split('/').nth(1).unwrap_or_default();
    (!RESERVED.contains(&first)).then_some(path)
}

#[cfg(feature = "discovery-sqlite")]
fn sqlite(path: PathBuf) -> Result<Storage, &'static str> {
    Ok(Storage::Sqlite(path))
}

#[cfg(not(feature = "discovery-sqlite"))]
fn sqlite(_: PathBuf) -> Result<Storage, &'static str> {
    Err("this program was built without sqlite (the cargo feature discovery-sqlite)")
}
