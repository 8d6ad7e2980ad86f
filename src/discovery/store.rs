//! Where sessions are kept: one interface, several backends, one suite of tests for all of them.
//!
//! Every change is one step that nothing comes between: candidates and answers that come at the
//! same time are all kept. Where it is made it is told, so that those who wait learn of what is
//! stored even if its client has left. The time is handed in, so that a session is gone for
//! everybody at the same millisecond, whether it has been cleaned up or not.

mod memory;
mod redis;
mod sqlite;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod model;

use std::path::PathBuf;
use std::time::Duration;

use redis_session::RedisSettings;
use serde::Serialize;

use self::redis::RedisStore;
use super::news::{News, NewsItem};
use super::requests::Page;
use super::session::{Code, NewSession, Origin, Session, Side, Timestamp, Topic};
use super::text::JsonText;
use crate::metrics::Metrics;
use memory::MemoryStore;
use sqlite::SqliteStore;

/// The most sessions in a list, the newest.
pub const MAX_LISTED_SESSIONS: usize = 1000;

/// The most bytes of the sessions in a list; they become one answer.
pub const MAX_LISTED_BYTES: usize = 8 << 20;

/// The most bytes of one session. A usual one has ten thousand.
pub const MAX_SESSION_BYTES: usize = 1 << 20;

/// The most candidates in a session, those of both sides.
pub const MAX_CANDIDATES: usize = 256;

/// The longest time that a store may take for one step.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which backend keeps the sessions (`STORAGE_TYPE`, `STORAGE_PATH`).
#[derive(Debug, Clone)]
pub enum Storage {
    /// This process's memory: gone when it ends.
    Memory,
    /// A SQLite file that one process uses.
    Sqlite(PathBuf),
    /// Redis, which all replicas share.
    Redis(RedisSettings),
}

impl Storage {
    /// The backend's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite(_) => "sqlite",
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

/// Why a store did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such session, or it is another origin's.
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
    /// The store is away, or too slow; it may be back soon.
    #[error("the store is not available")]
    Unavailable,
    /// The store holds what it should not.
    #[error("the store is broken")]
    Broken,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite's own reason.
    #[error("cannot open the sessions in {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer version of the program wrote the file.
    #[error("cannot open the sessions in {path}: a newer version wrote them")]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The thread that writes could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A topic and how many sessions are listed under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicCount {
    /// The topic.
    pub topic: Topic,
    /// How many sessions it has, at least one.
    pub count: u64,
}

/// A page of an origin's topics, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Those of the page.
    pub topics: Vec<TopicCount>,
    /// How many there are on all pages.
    pub total: u64,
}

/// The sessions and the news of them; a cheap handle.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    news: News,
}

#[derive(Clone)]
enum Backend {
    Memory(MemoryStore),
    Sqlite(SqliteStore),
    Redis(RedisStore),
}

impl Store {
    /// Opens a store; `lifetime` is how long its sessions live at most.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        storage: &Storage,
        limits: StoreLimits,
        lifetime: Duration,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let news = News::new(limits.max_sessions, lifetime);
        let backend = match storage {
            Storage::Memory => Backend::Memory(MemoryStore::new(limits)),
            Storage::Sqlite(path) => {
                let now = Timestamp::now();
                Backend::Sqlite(SqliteStore::open(path, limits, news.clone(), now).await?)
            }
            Storage::Redis(settings) => {
                let (settings, metrics) = (settings.clone(), metrics.clone());
                Backend::Redis(RedisStore::open(settings, limits, news.clone(), metrics).await)
            }
        };
        Ok(Self { backend, news })
    }

    /// Where those who wait for news of this store's sessions are told of them.
    pub(super) fn news(&self) -> &News {
        &self.news
    }

    /// Keeps a new session.
    ///
    /// # Errors
    /// There may be too many, or the store may not be available.
    pub async fn create(&self, session: NewSession) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.create(&session)?;
                self.news.tell(NewsItem::Created(session));
                Ok(())
            }
            Backend::Sqlite(sqlite) => in_time(sqlite.create(&session)).await,
            Backend::Redis(redis) => in_time(redis.create(&session)).await,
        }
    }

    /// A page of an origin's topics; only those that have a listed session.
    ///
    /// # Errors
    /// The store may not be available.
    pub async fn topics(
        &self,
        origin: &Origin,
        page: Page,
        now: Timestamp,
    ) -> Result<Topics, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.topics(origin, page, now)),
            Backend::Sqlite(sqlite) => Ok(sqlite.memory().topics(origin, page, now)),
            Backend::Redis(redis) => in_time(redis.topics(origin, page, now)).await,
        }
    }

    /// The sessions of a topic that have no answer yet, the newest first, at most
    /// [`MAX_LISTED_SESSIONS`] of at most [`MAX_LISTED_BYTES`] together.
    ///
    /// # Errors
    /// The store may not be available.
    pub async fn sessions(
        &self,
        origin: &Origin,
        topic: &Topic,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.sessions(origin, topic, now)),
            Backend::Sqlite(sqlite) => Ok(sqlite.memory().sessions(origin, topic, now)),
            Backend::Redis(redis) => in_time(redis.sessions(origin, topic, now)).await,
        }
    }

    /// One session.
    ///
    /// # Errors
    /// There may be none, or the store may not be available.
    pub async fn get(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => memory.get(code, origin, now),
            Backend::Sqlite(sqlite) => sqlite.memory().get(code, origin, now),
            Backend::Redis(redis) => in_time(redis.get(code, origin, now)).await,
        }
    }

    /// Sets a session's answer, in the place of an earlier one.
    ///
    /// # Errors
    /// There may be no such session, or the store may be full or not available.
    pub async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.add_answer(code, origin, answer, now)?;
                self.news.tell(NewsItem::Changed(code));
                Ok(())
            }
            Backend::Sqlite(sqlite) => in_time(sqlite.add_answer(code, origin, answer, now)).await,
            Backend::Redis(redis) => in_time(redis.add_answer(code, origin, answer, now)).await,
        }
    }

    /// Puts a candidate behind those that `side` has left.
    ///
    /// # Errors
    /// There may be no such session, or the session or the store may be full, or the store may
    /// not be available.
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
                self.news.tell(NewsItem::Changed(code));
                Ok(())
            }
            Backend::Sqlite(sqlite) => {
                in_time(sqlite.add_candidate(code, origin, side, candidate, now)).await
            }
            Backend::Redis(redis) => {
                in_time(redis.add_candidate(code, origin, side, candidate, now)).await
            }
        }
    }

    /// Forgets a session, whoever's it is; one that is not there is forgotten already.
    ///
    /// # Errors
    /// The store may not be available.
    pub async fn delete(&self, code: Code) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(memory) => {
                memory.delete(code);
                self.news.tell(NewsItem::Gone(vec![code]));
                Ok(())
            }
            Backend::Sqlite(sqlite) => in_time(sqlite.delete(code)).await,
            Backend::Redis(redis) => in_time(redis.delete(code)).await,
        }
    }

    /// Frees the room of sessions that are gone, and says how many sessions are left.
    ///
    /// # Errors
    /// The store may not be available.
    pub async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.clean_up(now)),
            Backend::Sqlite(sqlite) => in_time(sqlite.clean_up(now)).await,
            Backend::Redis(redis) => in_time(redis.clean_up(now)).await,
        }
    }

    /// Whether its Redis can be asked now; a store without one always can.
    pub fn is_connected(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) | Backend::Sqlite(_) => true,
            Backend::Redis(redis) => redis.is_connected(),
        }
    }

    /// Ends the store in good order: everything that it took is kept. Whoever asks it for
    /// something afterwards may find it not available.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Memory(_) => {}
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Redis(redis) => redis.close().await,
        }
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, step).await.unwrap_or(Err(StoreError::Unavailable))
}
