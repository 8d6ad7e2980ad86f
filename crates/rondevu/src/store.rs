//! Where sessions are stored: one interface, several backends, one suite of tests for all of them.
//!
//! Every change is atomic: candidates and answers that arrive at the same time are all stored. The
//! store notifies those who wait of each change, even if the client that made it has disconnected.
//! The time is an argument, so a session expires for everybody at the same millisecond, whether it
//! has been cleaned up or not.

mod memory;
mod notifications;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod reference;

pub use notifications::{Lagged, Notifications, SessionWatch, TopicStream};

use std::time::Duration;

use crate::metrics::Metrics;
use crate::model::{
    Answer, Code, JsonText, NewSession, Origin, Page, Session, Side, Timestamp, Topic, Topics,
};
use memory::MemoryStore;
use notifications::Change;

/// The most sessions in a list; the newest are listed.
pub const MAX_LISTED_SESSIONS: usize = 1000;

/// The most bytes of the sessions in a list, which become one response.
pub const MAX_LISTED_BYTES: usize = 8 << 20;

/// The most bytes of one session. A usual one has ten thousand.
pub const MAX_SESSION_BYTES: usize = 1 << 20;

/// The most candidates in a session, of both sides together.
pub const MAX_CANDIDATES: usize = 256;

/// The timeout of one operation.
#[cfg(any(feature = "sqlite", feature = "redis"))]
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Which backend stores the sessions.
#[derive(Debug, Clone)]
pub enum Storage {
    /// The memory of this process.
    Memory,
    /// A SQLite file that one process uses.
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    /// Redis, shared by all replicas.
    #[cfg(feature = "redis")]
    Redis(redis_session::RedisSettings),
}

impl Storage {
    /// Returns the name of the backend.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
        }
    }
}

/// What a store may hold.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// The most sessions.
    pub max_sessions: usize,
    /// The most sessions of one origin.
    pub max_sessions_per_origin: usize,
    /// The most bytes of all sessions together.
    pub max_bytes: usize,
}

impl Default for StoreLimits {
    /// 100,000 sessions, 20,000 of one origin, 256 MiB.
    fn default() -> Self {
        Self { max_sessions: 100_000, max_sessions_per_origin: 20_000, max_bytes: 256 << 20 }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another session has the code.
    #[error("another session has the code")]
    CodeTaken,
    /// There is no such session, or it belongs to another origin.
    #[error("there is no such session")]
    NotFound,
    /// [`StoreLimits::max_sessions`].
    #[error("there are too many sessions")]
    TooManySessions,
    /// [`StoreLimits::max_sessions_per_origin`].
    #[error("there are too many sessions of the origin")]
    TooManyOfOrigin,
    /// [`MAX_CANDIDATES`].
    #[error("there are too many candidates in the session")]
    TooManyCandidates,
    /// [`MAX_SESSION_BYTES`].
    #[error("the session is too large")]
    SessionTooLarge,
    /// [`StoreLimits::max_bytes`].
    #[error("the sessions are too large together")]
    TooManyBytes,
    /// The store is unavailable or too slow; it may be back soon.
    #[error("the store is unavailable")]
    Unavailable,
    /// The store holds what it should not.
    #[error("the store is corrupt")]
    Corrupt,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened for reading and writing, or cannot be created.
    #[cfg(feature = "sqlite")]
    #[error("cannot open the sessions in {path}{user}: {source}", user = as_user(*user))]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The ID of the user that this process runs as, if the system tells.
        user: Option<u32>,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// SQLite cannot open the file.
    #[cfg(feature = "sqlite")]
    #[error("cannot open the sessions in {path}: {source}")]
    Sqlite {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The file has a layout that this version does not know.
    #[cfg(feature = "sqlite")]
    #[error("cannot open the sessions in {path}: another version wrote them (layout {layout})")]
    UnknownLayout {
        /// The file.
        path: std::path::PathBuf,
        /// The number of its layout.
        layout: i64,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// The file's owner is compared with this user.
#[cfg(feature = "sqlite")]
fn as_user(user: Option<u32>) -> String {
    user.map_or(String::new(), |user| format!(" as user {user}"))
}

/// The sessions, and the notifications of their changes; a cheap handle.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    notifications: Notifications,
}

#[derive(Clone)]
enum Backend {
    Memory(MemoryStore),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::SqliteStore),
    #[cfg(feature = "redis")]
    Redis(redis::RedisStore),
}

impl Store {
    /// Opens a store whose sessions live for at most `lifetime`.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "counts Redis alone"))]
    pub async fn open(
        storage: &Storage,
        limits: StoreLimits,
        lifetime: Duration,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let notifications = Notifications::new(limits.max_sessions, lifetime);
        let backend = match storage {
            Storage::Memory => Backend::Memory(MemoryStore::new(limits)),
            #[cfg(feature = "sqlite")]
            Storage::Sqlite(path) => {
                let (changes, now) = (notifications.clone(), crate::model::Clock::Steady.now());
                Backend::Sqlite(sqlite::SqliteStore::open(path, limits, changes, now).await?)
            }
            #[cfg(feature = "redis")]
            Storage::Redis(settings) => {
                let (changes, metrics) = (notifications.clone(), metrics.redis());
                let settings = settings.clone();
                Backend::Redis(redis::RedisStore::open(settings, limits, changes, metrics).await)
            }
        };
        Ok(Self { backend, notifications })
    }

    /// The notifications of changes in this store.
    pub fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// Stores a new session.
    ///
    /// # Errors
    /// Its code may be taken, there may be too many, or the store may be unavailable.
    pub async fn create(&self, session: NewSession) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.create(&session)?;
                self.notifications.notify(Change::Created(session));
                Ok(())
            }
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => in_time(sqlite.create(&session)).await,
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.create(&session)).await,
        }
    }

    /// Returns a page of the origin's topics that have a listed session.
    ///
    /// # Errors
    /// The store may be unavailable.
    pub async fn topics(
        &self,
        origin: &Origin,
        page: Page,
        now: Timestamp,
    ) -> Result<Topics, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.topics(origin, page, now)),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => Ok(sqlite.memory().topics(origin, page, now)),
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.topics(origin, page, now)).await,
        }
    }

    /// Returns the sessions of a topic that have no answer yet, newest first, at most
    /// [`MAX_LISTED_SESSIONS`] of at most [`MAX_LISTED_BYTES`] together.
    ///
    /// # Errors
    /// The store may be unavailable.
    pub async fn sessions(
        &self,
        origin: &Origin,
        topic: &Topic,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.sessions(origin, topic, now)),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => Ok(sqlite.memory().sessions(origin, topic, now)),
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.sessions(origin, topic, now)).await,
        }
    }

    /// Returns one session.
    ///
    /// # Errors
    /// There may be none, or the store may be unavailable.
    pub async fn get(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => memory.get(code, origin, now),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => sqlite.memory().get(code, origin, now),
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.get(code, origin, now)).await,
        }
    }

    /// Sets a session's answer, which replaces an earlier one.
    ///
    /// # Errors
    /// There may be no such session, or the store may be full or unavailable.
    pub async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: Answer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.add_answer(code, origin, answer, now)?;
                self.notifications.notify(Change::Updated(code));
                Ok(())
            }
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => in_time(sqlite.add_answer(code, origin, answer, now)).await,
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.add_answer(code, origin, answer, now)).await,
        }
    }

    /// Appends a candidate to those of `side`.
    ///
    /// # Errors
    /// There may be no such session, the session or the store may be full, or the store may be
    /// unavailable.
    pub async fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.add_candidate(code, origin, side, candidate, now)?;
                self.notifications.notify(Change::Updated(code));
                Ok(())
            }
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => {
                in_time(sqlite.add_candidate(code, origin, side, candidate, now)).await
            }
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => {
                in_time(redis.add_candidate(code, origin, side, candidate, now)).await
            }
        }
    }

    /// Removes expired sessions, and returns the number of those that remain.
    ///
    /// # Errors
    /// The store may be unavailable.
    pub async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.clean_up(now)),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => in_time(sqlite.clean_up(now)).await,
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => in_time(redis.clean_up(now)).await,
        }
    }

    /// Closes the store after all changes it has accepted are stored. Later operations may find it
    /// unavailable.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Memory(_) => {}
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(sqlite) => sqlite.close().await,
            #[cfg(feature = "redis")]
            Backend::Redis(redis) => redis.close().await,
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "redis"))]
async fn in_time<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(OPERATION_TIMEOUT, operation).await.unwrap_or(Err(StoreError::Unavailable))
}
