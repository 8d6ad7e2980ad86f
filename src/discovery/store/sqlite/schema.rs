//! The tables, and the way from a file of an older version to them.
//!
//! A file knows its version (`user_version`). Version 0 is a new file, or one of the original
//! Rondevu, which keeps everything in one table; each later version is one function here.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::super::super::text::JsonText;
use super::super::MAX_CANDIDATES;
use super::rows::{ANSWERER, OFFERER};

/// Steps from each version to the next.
const STEPS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; 2] = [from_version_0, from_version_1];

/// In version 1 questions were answered from the file. Texts are kept as the JSON literals that they came as; `bytes` is the room that a session
/// takes, `candidates` how many it has of both sides.
pub(super) const VERSION_1: &str = "
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        code TEXT NOT NULL UNIQUE,
        origin TEXT NOT NULL,
        topic TEXT NOT NULL,
        info TEXT NOT NULL,
        offer TEXT NOT NULL,
        answer TEXT,
        answers INTEGER NOT NULL DEFAULT 0,
        candidates INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sessions_listed ON sessions (origin, topic, created_at, id, expires_at)
        WHERE answer IS NULL;
    CREATE INDEX sessions_expiring ON sessions (expires_at);
    CREATE TABLE candidates (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        side INTEGER NOT NULL,
        candidate TEXT NOT NULL
    ) STRICT;
    CREATE INDEX candidates_of_session ON candidates (session, side);
";

/// From version 2 on the file is only there to survive: it is written row by row and read at the
/// start, so it has no index, and keys that grow. Sessions have the numbers that they have in
/// memory; those of candidates are in the order in which they came. The owner is the process that
/// has opened the file last, as one number.
const VERSION_2: &str = "
    CREATE TABLE sessions (
        number INTEGER PRIMARY KEY,
        code TEXT NOT NULL,
        origin TEXT NOT NULL,
        topic TEXT NOT NULL,
        info TEXT NOT NULL,
        offer TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE answers (
        session INTEGER PRIMARY KEY,
        answers INTEGER NOT NULL,
        answer TEXT NOT NULL
    ) STRICT;
    CREATE TABLE candidates (
        session INTEGER NOT NULL,
        number INTEGER NOT NULL,
        side INTEGER NOT NULL,
        candidate TEXT NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE owner (process INTEGER NOT NULL) STRICT;
";

/// Makes the file ready for use by a process; false if a newer version wrote it.
pub(super) fn prepare(connection: &mut Connection, process: i64) -> rusqlite::Result<bool> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // In pages: what is written there again and again is copied into the file itself only once.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // Only version 1 had any.
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let Some(steps) = STEPS.get(version..) else { return Ok(false) };
    for step in steps {
        step(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len())?;
    transaction.execute("DELETE FROM owner", ())?;
    transaction.execute("INSERT INTO owner VALUES (?1)", [process])?;
    transaction.commit()?;
    Ok(true)
}

fn from_version_0(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let is_rondevus = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sessions')";
    if !transaction.query_row(is_rondevus, (), |row| row.get(0))? {
        return transaction.execute_batch(VERSION_1);
    }
    transaction.execute_batch("ALTER TABLE sessions RENAME TO rondevu_sessions")?;
    transaction.execute_batch(VERSION_1)?;
    copy_rondevus(transaction)?;
    // Its indexes go with it.
    transaction.execute_batch("DROP TABLE rondevu_sessions")
}

fn from_version_1(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE sessions RENAME TO old_sessions;
         ALTER TABLE candidates RENAME TO old_candidates;",
    )?;
    transaction.execute_batch(VERSION_2)?;
    // The candidates before the sessions that they refer to; indexes go with their tables.
    transaction.execute_batch(
        "INSERT INTO candidates SELECT session, id, side, candidate FROM old_candidates;
         INSERT INTO answers SELECT id, answers, answer FROM old_sessions WHERE answer IS NOT NULL;
         INSERT INTO sessions SELECT id, code, origin, topic, info, offer, created_at, expires_at
             FROM old_sessions;
         DROP TABLE old_candidates;
         DROP TABLE old_sessions;",
    )
}

/// Copies what the original kept: texts as they are, and candidates as JSON arrays.
fn copy_rondevus(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut old = transaction.prepare(
        "SELECT code, origin, topic, info, offer, answer, offer_candidates, answer_candidates,
                created_at, expires_at
         FROM rondevu_sessions ORDER BY created_at, rowid",
    )?;
    let mut rows = old.query(())?;
    while let Some(row) = rows.next()? {
        let (info, offer) =
            (literal(&row.get::<_, String>(3)?), literal(&row.get::<_, String>(4)?));
        let answer = row.get::<_, Option<String>>(5)?.map(|answer| literal(&answer));
        let mut candidates = Vec::new();
        for (side, column) in [(OFFERER, 6), (ANSWERER, 7)] {
            candidates.extend(texts(&row.get::<_, String>(column)?).map(|text| (side, text)));
        }
        candidates.truncate(MAX_CANDIDATES);
        let texts: usize = candidates.iter().map(|(_, text)| text.len()).sum();
        let bytes = texts + info.len() + offer.len() + answer.as_ref().map_or(0, String::len);
        transaction.execute(
            "INSERT INTO sessions (code, origin, topic, info, offer, answer, answers, candidates,
                                   bytes, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                info,
                offer,
                answer,
                answer.is_some(),
                candidates.len(),
                bytes,
                row.get::<_, i64>(8)?,
                row.get::<_, i64>(9)?,
            ],
        )?;
        let session = transaction.last_insert_rowid();
        for (side, candidate) in candidates {
            transaction.execute(
                "INSERT INTO candidates (session, side, candidate) VALUES (?1, ?2, ?3)",
                params![session, side, candidate],
            )?;
        }
    }
    Ok(())
}

/// The JSON literal of a text.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The texts of a JSON array, as literals; what is no text is left out.
fn texts(array: &str) -> impl Iterator<Item = String> {
    let items: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(array).unwrap_or_default();
    items.into_iter().filter_map(|item| Some(JsonText::new(&item)?.as_json().to_owned()))
}
