//! From rows to sessions: the questions that readers ask.

use std::collections::HashMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    Code, JsonText, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, Origin, Page, Session, Timestamp, Topic,
    TopicCount, Topics,
};

/// The numbers of the sides in the file.
pub(super) const OFFERER: i64 = 0;
pub(super) const ANSWERER: i64 = 1;

/// The columns that [`session`] reads.
const COLUMNS: &str = "id, code, info, offer, answer, answers, created_at, expires_at";

pub(super) fn topics(
    connection: &Connection,
    origin: &Origin,
    page: Page,
    now: Timestamp,
) -> rusqlite::Result<Topics> {
    // One look, so that the page and the total fit each other.
    let mut topics = connection.prepare_cached(
        "SELECT topic, count(*), count(*) OVER () FROM sessions
         WHERE origin = ?1 AND answer IS NULL AND expires_at > ?2
         GROUP BY topic ORDER BY topic",
    )?;
    let (mut found, mut total) = (Vec::new(), 0);
    let (first, behind) = (page.offset(), page.offset().saturating_add(page.limit));
    let mut rows = topics.query(params![origin, now])?;
    let mut place = 0;
    while let Some(row) = rows.next()? {
        total = row.get(2)?;
        if place >= behind || first >= total {
            break;
        }
        if place >= first {
            let topic = Topic::stored(row.get(0)?);
            found.push(TopicCount { topic, count: row.get(1)? });
        }
        place += 1;
    }
    Ok(Topics { topics: found, total })
}

pub(super) fn sessions(
    connection: &Connection,
    origin: &Origin,
    topic: &Topic,
    now: Timestamp,
) -> rusqlite::Result<Vec<Session>> {
    // Both questions look at the same state.
    let look = connection.unchecked_transaction()?;
    let listed =
        "FROM sessions WHERE origin = ?1 AND topic = ?2 AND answer IS NULL AND expires_at > ?3
         ORDER BY created_at DESC, id DESC LIMIT ?4";
    let mut query = look.prepare_cached(&format!("SELECT {COLUMNS}, bytes {listed}"))?;
    let mut rows = query.query(params![origin, topic, now, MAX_LISTED_SESSIONS])?;
    let (mut sessions, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, usize>(8)?;
        if bytes > MAX_LISTED_BYTES {
            break;
        }
        sessions.push(session(row)?);
    }
    drop(rows);
    let count = sessions.len();
    let mut places: HashMap<i64, _> =
        sessions.iter_mut().map(|(id, session)| (*id, session)).collect();
    let mut query = look.prepare_cached(&format!(
        "SELECT session, candidate FROM candidates
         WHERE side = {OFFERER} AND session IN (SELECT id {listed}) ORDER BY id"
    ))?;
    let mut rows = query.query(params![origin, topic, now, count])?;
    while let Some(row) = rows.next()? {
        if let Some(session) = places.get_mut(&row.get(0)?) {
            session.offer_candidates.push(row.get(1)?);
        }
    }
    Ok(sessions.into_iter().map(|(_, session)| session).collect())
}

pub(super) fn get(
    connection: &Connection,
    code: Code,
    origin: &Origin,
    now: Timestamp,
) -> rusqlite::Result<Option<Session>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM sessions WHERE code = ?1 AND origin = ?2 AND expires_at > ?3"
    ))?;
    let found = query.query_row(params![code, origin, now], session).optional()?;
    let Some((id, mut session)) = found else { return Ok(None) };
    let mut query = connection
        .prepare_cached("SELECT side, candidate FROM candidates WHERE session = ?1 ORDER BY id")?;
    let mut rows = query.query([id])?;
    while let Some(row) = rows.next()? {
        match row.get(0)? {
            OFFERER => session.offer_candidates.push(row.get(1)?),
            _ => session.answer_candidates.push(row.get(1)?),
        }
    }
    Ok(Some(session))
}

/// The session in a row of [`COLUMNS`], still without its candidates, and its number.
fn session(row: &Row<'_>) -> rusqlite::Result<(i64, Session)> {
    let session = Session {
        code: row.get(1)?,
        info: row.get(2)?,
        offer: row.get(3)?,
        answer: row.get(4)?,
        answers: row.get(5)?,
        offer_candidates: Vec::new(),
        answer_candidates: Vec::new(),
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
    };
    Ok((row.get(0)?, session))
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
