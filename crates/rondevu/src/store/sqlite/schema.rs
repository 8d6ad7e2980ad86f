//! The tables of the file, and the import of a file of the original Rondevu.
//!
//! The number of the layout is the file's `user_version`. It is 0 in a new file and in one of the
//! original, which has a single table.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::super::MAX_CANDIDATES;
use super::rows::{ANSWERER, OFFERER};
use crate::model::JsonText;

/// The number of this layout. There is no older one: 1 was never released.
const LAYOUT: i64 = 2;

/// The file only has to survive: it is written row by row and read at the start, so it has no
/// indexes, and growing keys. Sessions have the numbers that they have in memory; those of
/// candidates are in order of arrival. The owner is the process that opened the file last, as one
/// number.
pub(super) const TABLES: &str = "
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

/// Prepares the file for a process; the number of its layout if that is unknown.
pub(super) fn prepare(
    connection: &mut Connection,
    process: i64,
) -> rusqlite::Result<Result<(), i64>> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // In pages: a page that is written again and again is copied into the file only once.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match transaction.query_row("PRAGMA user_version", (), |row| row.get(0))? {
        LAYOUT => {}
        0 => create_tables(&transaction)?,
        unknown => return Ok(Err(unknown)),
    }
    add_secrets(&transaction)?;
    transaction.execute("DELETE FROM owner", ())?;
    transaction.execute("INSERT INTO owner VALUES (?1)", [process])?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// Adds the columns of secrets to the tables unless they have them. They are no layout of their own,
/// so that a version from before them still opens the file. Such a version does not write them: an
/// answer's secret counts only for the answer with the number `secret_of`.
fn add_secrets(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let has_secrets =
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('sessions') WHERE name = 'secret')";
    if transaction.query_row(has_secrets, (), |row| row.get(0))? {
        return Ok(());
    }
    transaction.execute_batch(
        "ALTER TABLE sessions ADD COLUMN secret BLOB;
         ALTER TABLE answers ADD COLUMN secret BLOB;
         ALTER TABLE answers ADD COLUMN secret_of INTEGER;",
    )
}

fn create_tables(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let has_sessions = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sessions')";
    if transaction.query_row(has_sessions, (), |row| row.get(0))? {
        transaction.execute_batch("ALTER TABLE sessions RENAME TO original_sessions")?;
        transaction.execute_batch(TABLES)?;
        import(transaction)?;
        // Its indexes are dropped with it.
        transaction.execute_batch("DROP TABLE original_sessions")?;
    } else {
        transaction.execute_batch(TABLES)?;
    }
    transaction.pragma_update(None, "user_version", LAYOUT)
}

/// Copies the sessions of the original, which stores texts decoded and candidates as JSON arrays.
fn import(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut sessions = transaction.prepare(
        "SELECT code, origin, topic, info, offer, answer, offer_candidates, answer_candidates,
                created_at, expires_at
         FROM original_sessions ORDER BY created_at, rowid",
    )?;
    let (mut rows, mut last_candidate) = (sessions.query(())?, 0);
    while let Some(row) = rows.next()? {
        transaction.execute(
            "INSERT INTO sessions (code, origin, topic, info, offer, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                literal(&row.get::<_, String>(3)?),
                literal(&row.get::<_, String>(4)?),
                row.get::<_, i64>(8)?,
                row.get::<_, i64>(9)?,
            ],
        )?;
        let session = transaction.last_insert_rowid();
        if let Some(answer) = row.get::<_, Option<String>>(5)? {
            let insert = "INSERT INTO answers (session, answers, answer) VALUES (?1, 1, ?2)";
            transaction.execute(insert, params![session, literal(&answer)])?;
        }
        let mut candidates = Vec::new();
        for (side, column) in [(OFFERER, 6), (ANSWERER, 7)] {
            candidates.extend(texts(&row.get::<_, String>(column)?).map(|text| (side, text)));
        }
        for (side, candidate) in candidates.into_iter().take(MAX_CANDIDATES) {
            last_candidate += 1;
            transaction.execute(
                "INSERT INTO candidates (session, number, side, candidate) VALUES (?1, ?2, ?3, ?4)",
                params![session, last_candidate, side, candidate],
            )?;
        }
    }
    Ok(())
}

/// Returns the JSON literal of a text.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns the texts of a JSON array as literals; leaves out what is no text.
fn texts(array: &str) -> impl Iterator<Item = String> {
    let items: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(array).unwrap_or_default();
    items.into_iter().filter_map(|item| Some(JsonText::new(&item)?.as_json().to_owned()))
}
