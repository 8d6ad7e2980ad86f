//! The thread that writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::super::super::session::{TEXT_OVERHEAD_BYTES, text_bytes};
use super::super::{
    Code, JsonText, MAX_CANDIDATES, MAX_SESSION_BYTES, NewSession, Origin, Side, StoreError,
    StoreLimits, Timestamp,
};
use super::failure;
use super::rows::{ANSWERER, OFFERER};

/// The most changes in one transaction.
const MAX_GROUPED: usize = 256;

/// The most sessions that are cleaned up in one step.
pub(super) const CLEANED_AT_ONCE: usize = 256;

/// What the writer is told.
pub(super) enum Order {
    Change {
        change: Change,
        done: Done,
    },
    /// The last order; answered when everything before it is in the file.
    Close(oneshot::Sender<()>),
}

/// Who waits for a change.
type Done = oneshot::Sender<Result<usize, StoreError>>;

/// A change; answered with how many sessions it has touched.
pub(super) enum Change {
    Create(NewSession),
    Answer { code: Code, origin: Origin, answer: JsonText, now: Timestamp },
    Candidate { code: Code, origin: Origin, side: Side, candidate: JsonText, now: Timestamp },
    Delete(Code),
    CleanUp(Timestamp),
}

/// Why a change was not made.
enum Failure {
    /// The change alone is at fault; others in the transaction go on.
    Refused(StoreError),
    /// The transaction is.
    File(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
    }
}

/// The one connection that writes, and what the file holds.
pub(super) struct Writer {
    connection: Connection,
    limits: StoreLimits,
    usage: Usage,
    /// The number of sessions, for others to see.
    sessions: Arc<AtomicUsize>,
}

/// How much of the room is taken.
#[derive(Default)]
struct Usage {
    sessions: usize,
    bytes: usize,
    of_origin: HashMap<String, usize>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        limits: StoreLimits,
        sessions: Arc<AtomicUsize>,
    ) -> rusqlite::Result<Self> {
        let usage = Usage::count(&connection)?;
        Ok(Self { connection, limits, usage, sessions })
    }

    /// Writes until nobody can give orders any more.
    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut group = Vec::new();
        while let Some(first) = orders.blocking_recv() {
            let mut next = Some(first);
            let mut closed = None;
            while let Some(order) = next {
                match order {
                    Order::Change { change, done } => group.push((change, done)),
                    Order::Close(end) => closed = Some(end),
                }
                let is_full = group.len() >= MAX_GROUPED || closed.is_some();
                next = if is_full { None } else { orders.try_recv().ok() };
            }
            self.write(&mut group);
            if let Some(end) = closed {
                // Before the answer, so that the file is closed by then.
                drop(self);
                let _ = end.send(());
                return;
            }
        }
    }

    /// Makes the changes of a group and answers them. If that fails, each is tried by itself, so
    /// that one that cannot be made costs no other.
    fn write(&mut self, group: &mut Vec<(Change, Done)>) {
        let changes: Vec<_> = group.iter().map(|(change, _)| change).collect();
        match self.transact(&changes) {
            Ok(answers) => {
                for ((_, done), answer) in group.drain(..).zip(answers) {
                    // Fails if nobody waits for it any more.
                    let _ = done.send(answer);
                }
            }
            Err(error) => {
                let error = failure(&error);
                // A file that is away is so for all of them, and each try may take its time.
                let is_over = error == StoreError::Unavailable || changes.len() == 1;
                for (change, done) in group.drain(..) {
                    let alone = if is_over { None } else { self.transact(&[&change]).ok() };
                    let answer = alone.and_then(|mut answers| answers.pop());
                    let _ = done.send(answer.unwrap_or(Err(error)));
                }
            }
        }
    }

    /// Makes changes in one transaction: all that are not refused, or none.
    fn transact(
        &mut self,
        changes: &[&Change],
    ) -> rusqlite::Result<Vec<Result<usize, StoreError>>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.try_transact(changes);
        if answers.is_err() {
            if !self.connection.is_autocommit() {
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            // If the file cannot be read either, the old numbers stay until it can.
            if let Ok(usage) = Usage::count(&self.connection) {
                self.usage = usage;
            }
        }
        self.sessions.store(self.usage.sessions, Ordering::Relaxed);
        answers
    }

    fn try_transact(
        &mut self,
        changes: &[&Change],
    ) -> rusqlite::Result<Vec<Result<usize, StoreError>>> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            answers.push(match self.apply(change) {
                Ok(touched) => Ok(touched),
                Err(Failure::Refused(error)) => Err(error),
                Err(Failure::File(error)) => return Err(error),
            });
        }
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        Ok(answers)
    }

    fn apply(&mut self, change: &Change) -> Result<usize, Failure> {
        match change {
            Change::Create(session) => self.create(session),
            Change::Answer { code, origin, answer, now } => {
                self.add_answer(*code, origin, answer, *now)
            }
            Change::Candidate { code, origin, side, candidate, now } => {
                self.add_candidate(*code, origin, *side, candidate, *now)
            }
            Change::Delete(code) => {
                let query = "DELETE FROM sessions WHERE code = ?1 RETURNING origin, bytes";
                self.remove(query, code)
            }
            Change::CleanUp(now) => self.clean_up(*now),
        }
    }

    fn create(&mut self, session: &NewSession) -> Result<usize, Failure> {
        if self.check_room(session).is_err() {
            // What is gone may still take room.
            self.clean_up(session.created_at)?;
            self.check_room(session).map_err(Failure::Refused)?;
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO sessions (code, origin, topic, info, offer, bytes, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let NewSession { code, origin, topic, info, offer, created_at, expires_at } = session;
        let bytes = session.bytes();
        insert.execute(params![code, origin, topic, info, offer, bytes, created_at, expires_at])?;
        self.usage.sessions += 1;
        self.usage.bytes += bytes;
        *self.usage.of_origin.entry(origin.as_str().to_owned()).or_default() += 1;
        Ok(1)
    }

    fn check_room(&self, session: &NewSession) -> Result<(), StoreError> {
        let of_origin = self.usage.of_origin.get(session.origin.as_str()).copied();
        if self.usage.sessions >= self.limits.max_sessions {
            return Err(StoreError::TooManySessions);
        }
        if self.usage.bytes.saturating_add(session.bytes()) > self.limits.max_bytes {
            return Err(StoreError::TooManyBytes);
        }
        if of_origin.unwrap_or(0) >= self.limits.max_sessions_per_origin {
            return Err(StoreError::TooManyOfOrigin);
        }
        Ok(())
    }

    fn add_answer(
        &mut self,
        code: Code,
        origin: &Origin,
        answer: &JsonText,
        now: Timestamp,
    ) -> Result<usize, Failure> {
        let found = self.find(code, origin, now)?;
        self.resize(&found, text_bytes(answer), found.answer_bytes)?;
        self.connection
            .prepare_cached("UPDATE sessions SET answer = ?2, answers = answers + 1 WHERE id = ?1")?
            .execute(params![found.id, answer])?;
        Ok(1)
    }

    fn add_candidate(
        &mut self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: &JsonText,
        now: Timestamp,
    ) -> Result<usize, Failure> {
        let found = self.find(code, origin, now)?;
        if found.candidates >= MAX_CANDIDATES {
            return Err(Failure::Refused(StoreError::TooManyCandidates));
        }
        self.resize(&found, text_bytes(candidate), 0)?;
        self.connection
            .prepare_cached("UPDATE sessions SET candidates = candidates + 1 WHERE id = ?1")?
            .execute([found.id])?;
        let side = match side {
            Side::Offerer => OFFERER,
            Side::Answerer => ANSWERER,
        };
        self.connection
            .prepare_cached(
                "INSERT INTO candidates (session, side, candidate) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![found.id, side, candidate])?;
        Ok(1)
    }

    fn find(&self, code: Code, origin: &Origin, now: Timestamp) -> Result<Found, Failure> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, candidates, octet_length(answer), bytes FROM sessions
             WHERE code = ?1 AND origin = ?2 AND expires_at > ?3",
        )?;
        let found = query.query_row(params![code, origin, now], |row| {
            let answer = row.get::<_, Option<usize>>(2)?;
            let answer_bytes = answer.map_or(0, |length| length + TEXT_OVERHEAD_BYTES);
            let (id, candidates, bytes) = (row.get(0)?, row.get(1)?, row.get(3)?);
            Ok(Found { id, candidates, answer_bytes, bytes })
        });
        found.optional()?.ok_or(Failure::Refused(StoreError::NotFound))
    }

    /// Takes room for what comes into a session, and gives back that of what it replaces.
    fn resize(&mut self, session: &Found, more: usize, less: usize) -> Result<(), Failure> {
        let bytes = (session.bytes + more).saturating_sub(less);
        if bytes > MAX_SESSION_BYTES {
            return Err(Failure::Refused(StoreError::SessionTooLarge));
        }
        if self.usage.bytes.saturating_add(more) > self.limits.max_bytes {
            return Err(Failure::Refused(StoreError::TooManyBytes));
        }
        self.connection
            .prepare_cached("UPDATE sessions SET bytes = ?2 WHERE id = ?1")?
            .execute(params![session.id, bytes])?;
        self.usage.bytes = (self.usage.bytes + more).saturating_sub(less);
        Ok(())
    }

    fn clean_up(&mut self, now: Timestamp) -> Result<usize, Failure> {
        let query = format!(
            "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions WHERE expires_at <= ?1 LIMIT {CLEANED_AT_ONCE})
             RETURNING origin, bytes"
        );
        self.remove(&query, &now)
    }

    /// Removes sessions, with their candidates, and gives their room back.
    fn remove(&mut self, query: &str, which: &dyn rusqlite::ToSql) -> Result<usize, Failure> {
        let mut query = self.connection.prepare_cached(query)?;
        let rows = query.query_map([which], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let removed: Vec<(String, usize)> = rows.collect::<Result<_, _>>()?;
        for (origin, bytes) in &removed {
            self.usage.remove(origin, *bytes);
        }
        Ok(removed.len())
    }
}

/// A session that is changed.
struct Found {
    id: i64,
    candidates: usize,
    /// The room that its answer takes.
    answer_bytes: usize,
    /// All the room that it takes.
    bytes: usize,
}

impl Usage {
    fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let mut usage = Self::default();
        let mut query = connection
            .prepare("SELECT origin, count(*), sum(bytes) FROM sessions GROUP BY origin")?;
        let mut rows = query.query(())?;
        while let Some(row) = rows.next()? {
            let sessions = row.get(1)?;
            usage.of_origin.insert(row.get(0)?, sessions);
            usage.sessions += sessions;
            usage.bytes += row.get::<_, usize>(2)?;
        }
        Ok(usage)
    }

    /// Saturating, because another process may have changed the file.
    fn remove(&mut self, origin: &str, bytes: usize) {
        self.sessions = self.sessions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(of_origin) = self.of_origin.get_mut(origin) {
            *of_origin = of_origin.saturating_sub(1);
            if *of_origin == 0 {
                self.of_origin.remove(origin);
            }
        }
    }
}
