//! The thread that writes the file.

use std::sync::Arc;

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use super::super::memory::{Kind, MemoryStore, PendingSession, PendingText, StoredSession};
use super::super::{StoreError, notifications};
use super::failure;
use super::rows::{self, ANSWERER, OFFERER};
use crate::model::{NewSession, Side};

/// What the writer has to do.
pub(super) enum Job {
    /// Completed with the result of each change.
    Write { changes: Vec<Change>, written: oneshot::Sender<Vec<Result<(), StoreError>>> },
    /// The last job; completed when the file is closed.
    Close(oneshot::Sender<()>),
}

/// A change that is prepared in memory, and committed there when it is in the file.
pub(super) enum Change {
    Create(PendingSession),
    Add(PendingText),
    Remove(Vec<Arc<StoredSession>>),
}

impl Change {
    /// Returns the notification to send when the change is made.
    pub(super) fn notification(&self) -> notifications::Change {
        match self {
            Self::Create(session) => notifications::Change::Created(session.session().clone()),
            Self::Add(text) => notifications::Change::Updated(text.code()),
            Self::Remove(sessions) => notifications::Change::Removed(
                sessions.iter().map(|session| session.code()).collect(),
            ),
        }
    }

    fn commit(self, memory: &MemoryStore) -> Result<(), StoreError> {
        match self {
            Self::Create(session) => session.commit(),
            Self::Add(text) => return text.commit(),
            Self::Remove(sessions) => sessions.iter().for_each(|session| memory.remove(session)),
        }
        Ok(())
    }
}

/// The one connection to the file.
pub(super) struct Writer {
    connection: Connection,
    /// This process's number.
    process: i64,
    memory: MemoryStore,
    /// The number of the last candidate, which never decreases.
    last_candidate: u64,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        process: i64,
        memory: MemoryStore,
    ) -> rusqlite::Result<Self> {
        let last_candidate = rows::last_candidate(&connection)?;
        Ok(Self { connection, process, memory, last_candidate })
    }

    /// Writes until the jobs end.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Write { changes, written } => {
                    // Fails if nobody waits for it any more.
                    let _ = written.send(self.write(changes));
                }
                Job::Close(end) => {
                    // Closes the file before the job is completed.
                    drop(self);
                    let _ = end.send(());
                    return;
                }
            }
        }
    }

    /// Makes changes in one transaction. If that fails, each is made in its own, so that one that
    /// cannot be made does not fail the others.
    fn write(&mut self, changes: Vec<Change>) -> Vec<Result<(), StoreError>> {
        let written = self.transact(&changes);
        // An unavailable file is so for all of them, and each attempt may take its time.
        let is_final =
            changes.len() == 1 || written.is_ok() || written == Err(StoreError::Unavailable);
        let finish = |change: Change| {
            let written =
                if is_final { written } else { self.transact(std::slice::from_ref(&change)) };
            // A change that is not in the file is dropped, which leaves no trace in memory.
            written.and_then(|()| change.commit(&self.memory))
        };
        changes.into_iter().map(finish).collect()
    }

    /// Writes all changes into the file, or none.
    fn transact(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let written = self.try_transact(changes);
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match written {
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::error!("another process has opened the file of sessions");
                Err(StoreError::Unavailable)
            }
            Err(error) => Err(failure(&error)),
        }
    }

    /// False if another process owns the file by now.
    fn try_transact(&mut self, changes: &[Change]) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let mut owner = self.connection.prepare_cached("SELECT process FROM owner")?;
        if owner.query_row((), |row| row.get::<_, i64>(0))? != self.process {
            return Ok(false);
        }
        drop(owner);
        for change in changes {
            match change {
                Change::Create(pending) => self.create(pending.number(), pending.session())?,
                Change::Add(text) => self.add(text)?,
                Change::Remove(sessions) => {
                    sessions.iter().try_for_each(|session| self.remove(session.number()))?;
                }
            }
        }
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        Ok(true)
    }

    fn create(&self, number: u64, session: &NewSession) -> rusqlite::Result<()> {
        let NewSession { code, origin, topic, info, offer, secret, created_at, expires_at } =
            session;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO sessions
                 (number, code, origin, topic, info, offer, created_at, expires_at, secret)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let row = params![number, code, origin, topic, info, offer, created_at, expires_at, secret];
        insert.execute(row).map(drop)
    }

    fn add(&mut self, text: &PendingText) -> rusqlite::Result<()> {
        // A session that was removed while this was queued leaves nothing in the file.
        let Some((session, kind, text)) = text.parts() else { return Ok(()) };
        let side = match kind {
            Kind::Answer(secret) => {
                let mut upsert = self.connection.prepare_cached(
                    "INSERT INTO answers (session, answers, answer, secret, secret_of)
                     VALUES (?1, 1, ?2, ?3, 1)
                     ON CONFLICT DO UPDATE SET answers = answers + 1, answer = excluded.answer,
                         secret = excluded.secret, secret_of = answers + 1",
                )?;
                return upsert.execute(params![session, text, secret]).map(drop);
            }
            Kind::Candidate(Side::Offerer) => OFFERER,
            Kind::Candidate(Side::Answerer) => ANSWERER,
        };
        self.last_candidate += 1;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO candidates (session, number, side, candidate) VALUES (?1, ?2, ?3, ?4)",
        )?;
        insert.execute(params![session, self.last_candidate, side, text]).map(drop)
    }

    fn remove(&self, session: u64) -> rusqlite::Result<()> {
        for delete in [
            "DELETE FROM sessions WHERE number = ?1",
            "DELETE FROM answers WHERE session = ?1",
            "DELETE FROM candidates WHERE session = ?1",
        ] {
            self.connection.prepare_cached(delete)?.execute([session])?;
        }
        Ok(())
    }
}
