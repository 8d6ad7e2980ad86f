//! Conversion of rows to sessions and back.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement};

use super::super::memory::{Exchange, MemoryStore};
use crate::model::{Answer, Code, JsonText, NewSession, Origin, SecretHash, Timestamp, Topic};

/// The numbers of the sides in the file.
pub(super) const OFFERER: i64 = 0;
pub(super) const ANSWERER: i64 = 1;

/// Deletes expired sessions from a file and loads the others into memory, newest first, as far as
/// the quota allows. The rest stays in the file for a start with higher limits.
pub(super) fn load(
    connection: &mut Connection,
    memory: &MemoryStore,
    now: Timestamp,
) -> rusqlite::Result<()> {
    delete_expired(connection, now)?;
    let mut sessions = connection.prepare(
        "SELECT number, code, origin, topic, info, offer, created_at, expires_at, sessions.secret,
                answers, answer, CASE WHEN secret_of = answers THEN answers.secret END
         FROM sessions LEFT JOIN answers ON session = number ORDER BY number DESC",
    )?;
    let mut candidates = connection
        .prepare("SELECT side, candidate FROM candidates WHERE session = ?1 ORDER BY number")?;
    let (mut rows, mut over_quota, mut unreadable) = (sessions.query(())?, 0_usize, 0_usize);
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        // Also for sessions that are left out: their numbers are taken.
        memory.count_on_from(number);
        match session(row).and_then(|session| Ok((session, exchange(row, &mut candidates)?))) {
            Ok((session, exchange)) => {
                over_quota += usize::from(memory.restore(number, session, exchange).is_err());
            }
            // The error concerns this row alone, which another program has written.
            Err(error) if error.sqlite_error_code().is_none() => unreadable += 1,
            Err(error) => return Err(error),
        }
    }
    if over_quota + unreadable > 0 {
        tracing::warn!(over_quota, unreadable, "some sessions stay in the file and are not served");
    }
    Ok(())
}

fn delete_expired(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for delete in [
        "DELETE FROM answers WHERE session IN
             (SELECT number FROM sessions WHERE expires_at <= ?1)",
        "DELETE FROM candidates WHERE session IN
             (SELECT number FROM sessions WHERE expires_at <= ?1)",
        "DELETE FROM sessions WHERE expires_at <= ?1",
    ] {
        transaction.execute(delete, [now])?;
    }
    transaction.commit()
}

/// Returns the number of the last candidate in a file.
pub(super) fn last_candidate(connection: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT coalesce(max(number), 0) FROM candidates";
    connection.query_row(query, (), |row| row.get(0))
}

/// Reads what was left in the session of a row.
fn exchange(row: &Row<'_>, candidates: &mut Statement<'_>) -> rusqlite::Result<Exchange> {
    let mut exchange = Exchange::default();
    if let Some(answers) = row.get(9)? {
        exchange.answers = answers;
        exchange.answer = Some(Answer { text: row.get(10)?, secret: row.get(11)? });
    }
    let mut rows = candidates.query([row.get::<_, i64>(0)?])?;
    while let Some(row) = rows.next()? {
        match row.get(0)? {
            OFFERER => exchange.offer_candidates.push(row.get(1)?),
            _ => exchange.answer_candidates.push(row.get(1)?),
        }
    }
    Ok(exchange)
}

fn session(row: &Row<'_>) -> rusqlite::Result<NewSession> {
    Ok(NewSession {
        code: row.get(1)?,
        origin: Origin::stored(row.get_ref(2)?.as_str()?),
        topic: Topic::stored(row.get(3)?),
        info: row.get(4)?,
        offer: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        secret: row.get(8)?,
    })
}

impl ToSql for Origin {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl ToSql for Topic {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl ToSql for JsonText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_json().to_sql()
    }
}

impl FromSql for JsonText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::from_json(String::column_result(value)?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for SecretHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_bytes().into())
    }
}

impl FromSql for SecretHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::stored(value.as_blob()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Code {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Code {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(value.as_i64()?.max(0) as u64))
    }
}
