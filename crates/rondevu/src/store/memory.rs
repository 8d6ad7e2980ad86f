//! Sessions in this process's memory.
//!
//! There are two maps: by code, for requests that name a session, and by origin and topic, for
//! lists. Both are sharded so that requests rarely contend for a lock. A lock is held briefly;
//! where two are held, that of the code is taken first.
//!
//! A change has two steps: it is prepared, which reserves its quota ([`pending`]), and committed. In
//! memory one follows the other immediately; the SQLite store writes its file in between.

mod pending;
mod quota;
mod stored;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    MAX_CANDIDATES, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, MAX_SESSION_BYTES, StoreError,
    StoreLimits,
};
use crate::model::{
    Answer, Code, JsonText, NewSession, Origin, Page, Session, Side, Timestamp, Topic, TopicCount,
    Topics, text_bytes,
};
pub(super) use pending::{Kind, PendingSession, PendingText};
use quota::Quota;
pub(super) use stored::{Exchange, StoredSession};

const SHARDS: usize = 64;

/// The memory of one process; a cheap handle.
#[derive(Clone)]
pub(super) struct MemoryStore(Arc<Inner>);

struct Inner {
    quota: Quota,
    hasher: RandomState,
    by_code: Box<[Mutex<Codes>]>,
    listed: Box<[Mutex<Listed>]>,
    /// The number of the next session.
    next: AtomicU64,
}

#[derive(Default)]
struct Codes {
    sessions: HashMap<Code, Arc<StoredSession>>,
    /// The codes of sessions that are prepared.
    pending: HashSet<Code>,
    /// The stored sessions in the order in which they expire.
    expiring: BTreeMap<(Timestamp, u64), Code>,
}

/// The sessions without an answer, in the order in which they were created.
type Listed = HashMap<Origin, HashMap<Topic, BTreeMap<(Timestamp, u64), Arc<StoredSession>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shards<T: Default>() -> Box<[Mutex<T>]> {
    (0..SHARDS).map(|_| Mutex::default()).collect()
}

impl MemoryStore {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self(Arc::new(Inner {
            quota: Quota::new(limits),
            hasher: RandomState::new(),
            by_code: shards(),
            listed: shards(),
            next: AtomicU64::new(0),
        }))
    }

    pub(super) fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let pending = self.prepare(session).or_else(|_| {
            // Expired sessions may still take quota.
            self.clean_up(session.created_at);
            self.prepare(session)
        });
        pending?.commit();
        Ok(())
    }

    /// Reserves the quota for a new session, which is invisible until it is committed.
    pub(super) fn prepare(&self, session: &NewSession) -> Result<PendingSession, StoreError> {
        let mut codes = lock(self.codes(session.code));
        if codes.sessions.contains_key(&session.code) || codes.pending.contains(&session.code) {
            return Err(StoreError::CodeTaken);
        }
        self.0.quota.reserve_session(&session.origin, session.bytes())?;
        codes.pending.insert(session.code);
        drop(codes);
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange { bytes: session.bytes(), ..Exchange::default() };
        let stored =
            StoredSession { session: session.clone(), number, exchange: Mutex::new(exchange) };
        Ok(PendingSession::new(self.clone(), Arc::new(stored)))
    }

    /// Restores a session that was stored in a file, if there is quota for it.
    #[cfg(feature = "sqlite")]
    pub(super) fn restore(
        &self,
        number: u64,
        session: NewSession,
        mut exchange: Exchange,
    ) -> Result<(), StoreError> {
        let candidates = exchange.offer_candidates.iter().chain(&exchange.answer_candidates);
        let answer = exchange.answer.iter().map(|answer| &answer.text);
        let texts: usize = candidates.chain(answer).map(text_bytes).sum();
        exchange.bytes = session.bytes() + texts;
        self.0.quota.reserve_session(&session.origin, exchange.bytes)?;
        let stored = Arc::new(StoredSession { session, number, exchange: Mutex::new(exchange) });
        PendingSession::new(self.clone(), stored).commit();
        Ok(())
    }

    /// Gives new sessions greater numbers than this one from now on.
    #[cfg(feature = "sqlite")]
    pub(super) fn count_on_from(&self, number: u64) {
        self.0.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    /// Makes a session visible whose quota is reserved.
    fn insert(&self, stored: &Arc<StoredSession>) {
        let NewSession { code, origin, topic, created_at, expires_at, .. } = &stored.session;
        // Held until the session is in both maps, so that the code of a listed session can be used.
        let mut codes = lock(self.codes(*code));
        if lock(&stored.exchange).answer.is_none() {
            lock(self.listed(origin, topic))
                .entry(origin.clone())
                .or_default()
                .entry(topic.clone())
                .or_default()
                .insert((*created_at, stored.number), stored.clone());
        }
        codes.pending.remove(code);
        codes.expiring.insert((*expires_at, stored.number), *code);
        codes.sessions.insert(*code, stored.clone());
    }

    pub(super) fn topics(&self, origin: &Origin, page: Page, now: Timestamp) -> Topics {
        let mut topics = Vec::new();
        for shard in &self.0.listed {
            let shard = lock(shard);
            let of_origin = shard.get(origin).into_iter().flatten();
            topics.extend(of_origin.filter_map(|(topic, sessions)| {
                let live = sessions.values().filter(|stored| stored.session.expires_at > now);
                let count = live.count() as u64;
                (count > 0).then(|| TopicCount { topic: topic.clone(), count })
            }));
        }
        topics.sort_unstable_by(|one, other| one.topic.cmp(&other.topic));
        let total = topics.len() as u64;
        let (start, limit) = (page.offset().min(total) as usize, page.limit as usize);
        Topics { topics: topics.into_iter().skip(start).take(limit).collect(), total }
    }

    pub(super) fn sessions(&self, origin: &Origin, topic: &Topic, now: Timestamp) -> Vec<Session> {
        let shard = lock(self.listed(origin, topic));
        let sessions = shard.get(origin).and_then(|topics| topics.get(topic));
        let live: Vec<_> = sessions
            .into_iter()
            .flat_map(|sessions| sessions.values().rev())
            .filter(|stored| stored.session.expires_at > now)
            .take(MAX_LISTED_SESSIONS)
            .cloned()
            .collect();
        drop(shard);
        let mut bytes = 0;
        let fits = |stored: &&Arc<StoredSession>| {
            bytes += lock(&stored.exchange).bytes;
            bytes <= MAX_LISTED_BYTES
        };
        let sessions = live.iter().take_while(fits).map(|stored| stored.as_session());
        sessions.filter(|session| session.answer.is_none()).collect()
    }

    pub(super) fn get(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        Ok(self.find(code, origin, now)?.as_session())
    }

    pub(super) fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: Answer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.prepare_text(code, origin, Kind::Answer(answer.secret), answer.text, now)?.commit()
    }

    pub(super) fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.prepare_text(code, origin, Kind::Candidate(side), candidate, now)?.commit()
    }

    /// Reserves the quota for a text, which is invisible until it is committed.
    pub(super) fn prepare_text(
        &self,
        code: Code,
        origin: &Origin,
        kind: Kind,
        text: JsonText,
        now: Timestamp,
    ) -> Result<PendingText, StoreError> {
        let stored = self.find(code, origin, now)?;
        let mut exchange = lock(&stored.exchange);
        if exchange.is_removed {
            return Err(StoreError::NotFound);
        }
        if matches!(kind, Kind::Candidate(_)) && exchange.candidates() >= MAX_CANDIDATES {
            return Err(StoreError::TooManyCandidates);
        }
        let more = text_bytes(&text);
        let less = match kind {
            Kind::Answer(_) => {
                exchange.answer.as_ref().map_or(0, |answer| text_bytes(&answer.text))
            }
            Kind::Candidate(_) => 0,
        };
        if exchange.bytes + more - less > MAX_SESSION_BYTES {
            return Err(StoreError::SessionTooLarge);
        }
        // The quota of a replaced answer is released when the new one is committed.
        self.0.quota.reserve(more)?;
        exchange.bytes += more;
        if let Kind::Candidate(_) = kind {
            exchange.pending_candidates += 1;
        }
        drop(exchange);
        Ok(PendingText::new(self.clone(), stored, kind, text))
    }

    /// Removes all expired sessions, and returns the number of those that remain.
    pub(super) fn clean_up(&self, now: Timestamp) -> usize {
        for shard in &self.0.by_code {
            let mut codes = lock(shard);
            let live = codes.expiring.split_off(&(Timestamp(now.0.saturating_add(1)), 0));
            let expired = std::mem::replace(&mut codes.expiring, live);
            let expired: Vec<_> =
                expired.values().filter_map(|code| codes.sessions.remove(code)).collect();
            drop(codes);
            expired.iter().for_each(|stored| self.release(stored));
        }
        self.count()
    }

    /// Returns the number of sessions whose quota is reserved.
    pub(super) fn count(&self) -> usize {
        self.0.quota.sessions()
    }

    /// Returns up to `limit` expired sessions that still take quota.
    #[cfg(feature = "sqlite")]
    pub(super) fn expired(&self, now: Timestamp, limit: usize) -> Vec<Arc<StoredSession>> {
        let mut sessions = Vec::new();
        for shard in &self.0.by_code {
            let codes = lock(shard);
            let expired = codes.expiring.range(..=(now, u64::MAX)).map(|(_, code)| code);
            let stored = expired.filter_map(|code| codes.sessions.get(code));
            sessions.extend(stored.take(limit - sessions.len()).cloned());
        }
        sessions
    }

    /// Removes a session, unless it is removed already.
    #[cfg(feature = "sqlite")]
    pub(super) fn remove(&self, stored: &Arc<StoredSession>) {
        let NewSession { code, expires_at, .. } = &stored.session;
        let mut codes = lock(self.codes(*code));
        if codes.sessions.get(code).is_none_or(|known| !Arc::ptr_eq(known, stored)) {
            return;
        }
        codes.sessions.remove(code);
        codes.expiring.remove(&(*expires_at, stored.number));
        drop(codes);
        self.release(stored);
    }

    /// Releases what was reserved for a session that was not committed.
    fn discard(&self, stored: &StoredSession) {
        lock(self.codes(stored.session.code)).pending.remove(&stored.session.code);
        let bytes = lock(&stored.exchange).bytes;
        self.0.quota.release_session(&stored.session.origin, bytes);
    }

    fn find(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Arc<StoredSession>, StoreError> {
        let found = lock(self.codes(code)).sessions.get(&code).cloned();
        found
            .filter(|it| it.session.origin == *origin && it.session.expires_at > now)
            .ok_or(StoreError::NotFound)
    }

    /// Releases everything that a session took, after its code was removed.
    fn release(&self, stored: &StoredSession) {
        let mut exchange = lock(&stored.exchange);
        exchange.is_removed = true;
        let bytes = exchange.bytes;
        drop(exchange);
        self.unlist(stored);
        self.0.quota.release_session(&stored.session.origin, bytes);
    }

    fn unlist(&self, stored: &StoredSession) {
        let NewSession { origin, topic, created_at, .. } = &stored.session;
        let mut shard = lock(self.listed(origin, topic));
        let Some(topics) = shard.get_mut(origin) else { return };
        let Some(sessions) = topics.get_mut(topic) else { return };
        sessions.remove(&(*created_at, stored.number));
        if sessions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            shard.remove(origin);
        }
    }

    fn codes(&self, code: Code) -> &Mutex<Codes> {
        &self.0.by_code[self.shard(code)]
    }

    fn listed(&self, origin: &Origin, topic: &Topic) -> &Mutex<Listed> {
        &self.0.listed[self.shard((origin, topic))]
    }

    /// Whether nothing is left anywhere.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.quota.is_unused()
            && self.0.listed.iter().all(|shard| lock(shard).is_empty())
            && self.0.by_code.iter().all(|shard| {
                let codes = lock(shard);
                codes.sessions.is_empty() && codes.expiring.is_empty() && codes.pending.is_empty()
            })
    }

    fn shard(&self, key: impl Hash) -> usize {
        self.0.hasher.hash_one(key) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests;
