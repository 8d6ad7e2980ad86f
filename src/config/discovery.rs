//! The part of the configuration that is about discovery.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

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

/// `STORAGE_PATH`: a file, or none for SQLite's name of a database in memory.
struct StoragePath(Option<PathBuf>);

/// Rondevu is told so to store its sessions in memory.
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

/// A percentage from 1 to 100.
struct Percent(u32);

impl FromStr for Percent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self).ok_or(())
    }
}

/// `DISCOVERY_PATH`: a base path that does not begin with a segment of other endpoints.
struct DiscoveryPath(BasePath);

/// First segments that other endpoints have.
const RESERVED: [&str; 6] = ["health", "healthz", "livez", "metrics", "readyz", "socket.io"];

impl FromStr for DiscoveryPath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let path: BasePath = text.parse().map_err(|_| ())?;
        let first = path.as_str().split('/').nth(1).unwrap_or_default();
        if RESERVED.contains(&first) { Err(()) } else { Ok(Self(path)) }
    }
}

/// Reads what `STORAGE_TYPE` switches on; `None` if it is not set. The other variables are checked
/// all the same, so that an error in them shows now.
pub(super) fn read(
    reader: &mut Reader<impl Source>,
    redis: Option<&RedisSettings>,
) -> Option<Settings> {
    let storage = reader.optional("STORAGE_TYPE", |text| match text {
        "memory" => Some(StorageType::Memory),
        "sqlite" => Some(StorageType::Sqlite),
        "redis" => Some(StorageType::Redis),
        _ => None,
    });
    let StoragePath(path) = reader.parsed("STORAGE_PATH");
    let DiscoveryPath(base_path) = reader.parsed("DISCOVERY_PATH");
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
        max_percent_per_address: reader.parsed::<Percent>("DISCOVERY_MAX_PERCENT_PER_ADDRESS").0,
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

#[cfg(feature = "discovery-sqlite")]
fn sqlite(path: PathBuf) -> Result<Storage, &'static str> {
    Ok(Storage::Sqlite(path))
}

#[cfg(not(feature = "discovery-sqlite"))]
fn sqlite(_: PathBuf) -> Result<Storage, &'static str> {
    Err("this program was built without sqlite (the cargo feature discovery-sqlite)")
}
