//! Sessions in a SQLite file that one process uses.
//!
//! They live in memory, where every question is answered, and the file is what makes changes
//! survive. A change takes its room in memory first, which decides whether it may be made; one
//! thread writes it, with what else waits, in one transaction; when that is committed, everybody
//! sees it in memory, and it is answered. So nobody sees what the file does not have, and of a
//! transaction that fails memory has no trace.
//!
//! One process uses the file. If another one opens it, for example the next version while this one
//! ends, that one has it from then on, and here every change is refused.
//!
//! What was answered survives the end of the process, whatever ends it; the end of the machine may
//! take the last moments with it (`synchronous=NORMAL`), as sessions live for minutes.

mod queue;
mod rows;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::mpsc;

use super::super::news::News;
use super::memory::{Kind, MemoryStore};
use super::{
    Code, JsonText, NewSession, OpenError, Origin, Side, StoreError, StoreLimits, Timestamp,
};
use queue::Queue;
use writer::{Change, Writer};

/// The most sessions that are cleaned up in one step.
const CLEANED_AT_ONCE: usize = 256;

/// How long to wait for somebody else who holds the file, for example an operator's shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// One file of sessions; a cheap handle. The writer ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct SqliteStore {
    memory: MemoryStore,
    queue: Queue,
}

impl SqliteStore {
    /// Opens the file and reads all that is not gone by `now`; `news` are told of what changes.
    pub(super) async fn open(
        path: &Path,
        limits: StoreLimits,
        news: News,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || Self::open_now(path, limits, news, now));
        opening.await.map_err(|panic| OpenError::Thread(panic.into()))?
    }

    fn open_now(
        path: PathBuf,
        limits: StoreLimits,
        news: News,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let connection = connect(&path);
        let connection =
            connection.map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        Self::start(connection, path, limits, news, now)
    }

    fn start(
        mut connection: Connection,
        path: PathBuf,
        limits: StoreLimits,
        news: News,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.clone(), source };
        let process = rand::random();
        if !schema::prepare(&mut connection, process).map_err(failed)? {
            return Err(OpenError::Newer { path });
        }
        let memory = MemoryStore::new(limits);
        rows::load(&mut connection, &memory, now).map_err(failed)?;
        let writer = Writer::new(connection, process, memory.clone()).map_err(failed)?;
        let (jobs, todo) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("sessions".into())
            .spawn(move || writer.run(todo))
            .map_err(OpenError::Thread)?;
        Ok(Self { memory, queue: Queue::start(jobs, news) })
    }

    /// What is in the file, for questions: to change it here would not change it there.
    pub(super) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    pub(super) async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let pending = match self.memory.pend(session) {
            Ok(pending) => pending,
            Err(_) => {
                // What is gone may still take room.
                self.clean_up_some(session.created_at).await?;
                self.memory.pend(session)?
            }
        };
        self.queue.change(Change::Create(pending)).await
    }

    pub(super) async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pending = self.memory.pend_text(code, origin, Kind::Answer, answer, now)?;
        self.queue.change(Change::Leave(pending)).await
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
        let pending = self.memory.pend_text(code, origin, kind, candidate, now)?;
        self.queue.change(Change::Leave(pending)).await
    }

    pub(super) async fn delete(&self, code: Code) -> Result<(), StoreError> {
        match self.memory.known(code) {
            Some(kept) => self.queue.change(Change::Remove(vec![kept])).await,
            None => Ok(()),
        }
    }

    /// In steps, so that others get their turn between them.
    pub(super) async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        while self.clean_up_some(now).await? {}
        Ok(self.memory.count())
    }

    /// One step; whether there was anything to do.
    async fn clean_up_some(&self, now: Timestamp) -> Result<bool, StoreError> {
        let gone = self.memory.gone(now, CLEANED_AT_ONCE);
        if gone.is_empty() {
            return Ok(false);
        }
        self.queue.change(Change::Remove(gone)).await?;
        Ok(true)
    }

    /// Ends the writer, when it has put everything into the file itself.
    pub(super) async fn close(&self) {
        self.queue.close().await;
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// What an error of SQLite means to those who ask the store. Told to the log, never to clients.
fn failure(error: &rusqlite::Error) -> StoreError {
    tracing::error!(%error, "the sessions' file failed");
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
        _ => StoreError::Broken,
    }
}

#[cfg(test)]
mod tests;
