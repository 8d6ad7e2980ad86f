//! Sessions in a SQLite file that one process uses.
//!
//! One thread writes: it takes what waits, up to a limit, into one transaction, and answers when
//! that is committed. Readers stand beside it and never wait for it (WAL). What was answered
//! survives the end of the process, whatever ends it; the end of the machine may take the last
//! moments with it (`synchronous=NORMAL`), as sessions live for minutes.

mod readers;
mod rows;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::{
    Code, JsonText, NewSession, OpenError, Origin, Page, Session, Side, StoreError, StoreLimits,
    Timestamp, Topic, Topics,
};
use readers::Readers;
use writer::{CLEANED_AT_ONCE, Change, Order, Writer};

/// How many changes may wait for the writer; who comes later waits for room.
const MAX_QUEUED_ORDERS: usize = 1024;

/// How long to wait for somebody else who holds the file, for example an operator's shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// One file of sessions; a cheap handle. The writer ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct SqliteStore {
    orders: mpsc::Sender<Order>,
    readers: Readers,
    sessions: Arc<AtomicUsize>,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path, limits: StoreLimits) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || Self::open_now(path, limits));
        opening.await.map_err(|panic| OpenError::Thread(panic.into()))?
    }

    fn open_now(path: PathBuf, limits: StoreLimits) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.clone(), source };
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE).map_err(failed)?;
        if !schema::prepare(&mut connection).map_err(failed)? {
            return Err(OpenError::Newer { path });
        }
        let readers = Readers::open(|| connect(&path, OpenFlags::empty())).map_err(failed)?;
        let sessions = Arc::<AtomicUsize>::default();
        let writer = Writer::new(connection, limits, sessions.clone()).map_err(failed)?;
        let (orders, queue) = mpsc::channel(MAX_QUEUED_ORDERS);
        std::thread::Builder::new()
            .name("sessions".into())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::Thread)?;
        Ok(Self { orders, readers, sessions })
    }

    pub(super) async fn create(&self, session: NewSession) -> Result<(), StoreError> {
        self.change(Change::Create(session)).await.map(drop)
    }

    pub(super) async fn add_answer(
        &self,
        code: Code,
        origin: Origin,
        answer: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(Change::Answer { code, origin, answer, now }).await.map(drop)
    }

    pub(super) async fn add_candidate(
        &self,
        code: Code,
        origin: Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(Change::Candidate { code, origin, side, candidate, now }).await.map(drop)
    }

    pub(super) async fn delete(&self, code: Code) -> Result<(), StoreError> {
        self.change(Change::Delete(code)).await.map(drop)
    }

    /// In steps, so that others get their turn between them.
    pub(super) async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        while self.change(Change::CleanUp(now)).await? == CLEANED_AT_ONCE {}
        Ok(self.sessions.load(Ordering::Relaxed))
    }

    pub(super) async fn topics(
        &self,
        origin: Origin,
        page: Page,
        now: Timestamp,
    ) -> Result<Topics, StoreError> {
        self.readers.read(move |connection| rows::topics(connection, &origin, page, now)).await
    }

    pub(super) async fn sessions(
        &self,
        origin: Origin,
        topic: Topic,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        self.readers.read(move |connection| rows::sessions(connection, &origin, &topic, now)).await
    }

    pub(super) async fn get(
        &self,
        code: Code,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        let found = self.readers.read(move |connection| rows::get(connection, code, &origin, now));
        found.await?.ok_or(StoreError::NotFound)
    }

    /// The readers first, so that the writer's end is the file's: it puts everything into it.
    pub(super) async fn close(&self) {
        self.readers.close();
        let (closed, end) = oneshot::channel();
        if self.orders.send(Order::Close(closed)).await.is_ok() {
            // Fails if the thread is gone, which is what is waited for.
            let _ = end.await;
        }
    }

    async fn change(&self, change: Change) -> Result<usize, StoreError> {
        let (done, answer) = oneshot::channel();
        let order = Order::Change { change, done };
        self.orders.send(order).await.map_err(|_| StoreError::Unavailable)?;
        answer.await.map_err(|_| StoreError::Unavailable)?
    }
}

/// Opens the file; readers may change nothing in it.
fn connect(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if !more.contains(OpenFlags::SQLITE_OPEN_CREATE) {
        connection.pragma_update(None, "query_only", true)?;
    }
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
