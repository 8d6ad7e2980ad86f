//! Sessions in a SQLite file that one process uses.
//!
//! Sessions are in memory, which serves every read; the file makes changes durable. A change is
//! prepared in memory, which decides whether it is allowed; one thread writes it, with all other
//! queued changes, in one transaction; then it is committed in memory and acknowledged. So nobody
//! sees what the file does not have, and a failed transaction leaves no trace in memory.
//!
//! One process uses the file. If another one opens it, for example the next version while this one
//! shuts down, that process owns it from then on, and every change here is rejected.
//!
//! Acknowledged changes survive the end of the process, however it ends. If the machine crashes, the
//! last moments may be lost (`synchronous=NORMAL`), as sessions live for minutes.

mod queue;
mod rows;
mod schema;
mod writer;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::mpsc;

use super::memory::{Kind, MemoryStore};
use super::{Notifications, OpenError, StoreError, StoreLimits};
use crate::model::{Answer, Code, JsonText, NewSession, Origin, Side, Timestamp};
use queue::Queue;
use writer::{Change, Writer};

/// The most sessions that are removed in one step.
const CLEAN_UP_BATCH: usize = 256;

/// How long to wait for another process that locks the file, for example an operator's shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// One file of sessions; a cheap handle. The writer ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct SqliteStore {
    memory: MemoryStore,
    queue: Queue,
}

impl SqliteStore {
    /// Opens the file and loads the sessions that have not expired by `now`.
    pub(super) async fn open(
        path: &Path,
        limits: StoreLimits,
        notifications: Notifications,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let opening =
            tokio::task::spawn_blocking(move || Self::open_now(path, limits, notifications, now));
        opening.await.map_err(|panic| OpenError::Thread(panic.into()))?
    }

    fn open_now(
        path: PathBuf,
        limits: StoreLimits,
        notifications: Notifications,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        open_file(&path).map_err(|source| OpenError::File {
            path: path.clone(),
            user: user_id(),
            source,
        })?;
        let connection =
            connect(&path).map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        Self::start(connection, path, limits, notifications, now)
    }

    fn start(
        mut connection: Connection,
        path: PathBuf,
        limits: StoreLimits,
        notifications: Notifications,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.clone(), source };
        let process = rand::random();
        if let Err(layout) = schema::prepare(&mut connection, process).map_err(failed)? {
            return Err(OpenError::UnknownLayout { path, layout });
        }
        let memory = MemoryStore::new(limits);
        rows::load(&mut connection, &memory, now).map_err(failed)?;
        let writer = Writer::new(connection, process, memory.clone()).map_err(failed)?;
        let (jobs, todo) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("sessions".into())
            .spawn(move || writer.run(todo))
            .map_err(OpenError::Thread)?;
        Ok(Self { memory, queue: Queue::start(jobs, notifications) })
    }

    /// The content of the file, for reads; changing it here does not change the file.
    pub(super) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    pub(super) async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let pending = match self.memory.prepare(session) {
            Ok(pending) => pending,
            Err(_) => {
                // Expired sessions may still take quota.
                self.remove_some(session.created_at).await?;
                self.memory.prepare(session)?
            }
        };
        self.queue.change(Change::Create(pending)).await
    }

    pub(super) async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: Answer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kind = Kind::Answer(answer.secret);
        let pending = self.memory.prepare_text(code, origin, kind, answer.text, now)?;
        self.queue.change(Change::Add(pending)).await
    }

    pub(super) async fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kind = Kind::Candidate(side);
        let pending = self.memory.prepare_text(code, origin, kind, candidate, now)?;
        self.queue.change(Change::Add(pending)).await
    }

    /// Removes expired sessions in steps, so that other changes are written between them.
    pub(super) async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        while self.remove_some(now).await? {}
        Ok(self.memory.count())
    }

    /// Removes some expired sessions; false if there were none.
    async fn remove_some(&self, now: Timestamp) -> Result<bool, StoreError> {
        let expired = self.memory.expired(now, CLEAN_UP_BATCH);
        if expired.is_empty() {
            return Ok(false);
        }
        self.queue.change(Change::Remove(expired)).await?;
        Ok(true)
    }

    /// Closes the file after all queued changes are written.
    pub(super) async fn close(&self) {
        self.queue.close().await;
    }
}

/// Opens the file, or creates an empty one, and closes it. SQLite would do so by itself, but does not
/// say why it cannot.
fn open_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(drop)
}

/// The user that this process runs as, who owns its folder in `/proc`.
fn user_id() -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").ok().map(|process| process.uid())
    }
    #[cfg(not(unix))]
    None
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Logs an error of SQLite, which clients must not see, and returns what it means to them.
fn failure(error: &rusqlite::Error) -> StoreError {
    tracing::error!(%error, "the file of sessions failed");
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory,
        ) => StoreError::Unavailable,
        _ => StoreError::Corrupt,
    }
}

#[cfg(test)]
mod tests;
