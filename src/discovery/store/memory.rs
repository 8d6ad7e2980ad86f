//! Sessions in this process's memory.
//!
//! Two maps, each in shards so that two requests rarely meet at one lock: by code, for those who
//! know a session, and by origin and topic, for those who look for one. A lock is held for a
//! look or a change; where two are held, that of the code comes first.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::session::text_bytes;
use super::{
    Code, JsonText, MAX_CANDIDATES, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, MAX_SESSION_BYTES,
    NewSession, Origin, Page, Session, Side, StoreError, StoreLimits, Timestamp, Topic, TopicCount,
    Topics,
};

const SHARDS: usize = 64;

/// The memory of one process; a cheap handle.
#[derive(Clone)]
pub(super) struct MemoryStore(Arc<Inner>);

struct Inner {
    limits: StoreLimits,
    hasher: RandomState,
    by_code: Box<[Mutex<Codes>]>,
    listed: Box<[Mutex<Listed>]>,
    of_origin: Box<[Mutex<HashMap<Origin, usize>>]>,
    sessions: AtomicUsize,
    bytes: AtomicUsize,
    created: AtomicU64,
}

#[derive(Default)]
struct Codes {
    sessions: HashMap<Code, Arc<Kept>>,
    /// The same sessions in the order of their end.
    expiring: BTreeMap<(Timestamp, u64), Code>,
}

/// The sessions without an answer, in the order in which they were made.
type Listed = HashMap<Origin, HashMap<Topic, BTreeMap<(Timestamp, u64), Arc<Kept>>>>;

/// A session that is kept.
struct Kept {
    session: NewSession,
    /// Tells apart what was made in the same millisecond.
    order: u64,
    exchange: Mutex<Exchange>,
}

/// What the two sides have left.
#[derive(Default)]
struct Exchange {
    answer: Option<JsonText>,
    answers: u32,
    offer_candidates: Vec<JsonText>,
    answer_candidates: Vec<JsonText>,
    /// What it takes of the store's room.
    bytes: usize,
    /// It has given its room back, and takes no more.
    is_gone: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shards<T: Default>() -> Box<[Mutex<T>]> {
    (0..SHARDS).map(|_| Mutex::default()).collect()
}

/// Adds to a count if it stays within its limit.
fn take(count: &AtomicUsize, amount: usize, most: usize) -> bool {
    let add = |now: usize| now.checked_add(amount).filter(|sum| *sum <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

impl MemoryStore {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self(Arc::new(Inner {
            limits,
            hasher: RandomState::new(),
            by_code: shards(),
            listed: shards(),
            of_origin: shards(),
            sessions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            created: AtomicU64::new(0),
        }))
    }

    pub(super) fn create(&self, session: NewSession) -> Result<(), StoreError> {
        if self.reserve(&session).is_err() {
            // What is gone may still take room.
            self.clean_up(session.created_at);
            self.reserve(&session)?;
        }
        let order = self.0.created.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange { bytes: session.bytes(), ..Exchange::default() };
        let kept = Arc::new(Kept { session, order, exchange: Mutex::new(exchange) });
        let session = &kept.session;
        // Held until the session is in both maps: whoever finds it in a list can use its code.
        let mut codes = lock(self.codes(session.code));
        lock(self.listed(&session.origin, &session.topic))
            .entry(session.origin.clone())
            .or_default()
            .entry(session.topic.clone())
            .or_default()
            .insert((session.created_at, order), kept.clone());
        codes.expiring.insert((session.expires_at, order), session.code);
        codes.sessions.insert(session.code, kept.clone());
        Ok(())
    }

    pub(super) fn topics(&self, origin: &Origin, page: Page, now: Timestamp) -> Topics {
        let mut topics = Vec::new();
        for shard in &self.0.listed {
            let shard = lock(shard);
            let of_origin = shard.get(origin).into_iter().flatten();
            topics.extend(of_origin.filter_map(|(topic, sessions)| {
                let live = sessions.values().filter(|kept| kept.session.expires_at > now);
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
            .filter(|kept| kept.session.expires_at > now)
            .take(MAX_LISTED_SESSIONS)
            .cloned()
            .collect();
        drop(shard);
        let mut bytes = 0;
        let fits = |kept: &&Arc<Kept>| {
            bytes += lock(&kept.exchange).bytes;
            bytes <= MAX_LISTED_BYTES
        };
        let sessions = live.iter().take_while(fits).map(|kept| kept.as_session());
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
        answer: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kept = self.find(code, origin, now)?;
        let mut exchange = lock(&kept.exchange);
        let replaced = exchange.answer.as_ref().map_or(0, text_bytes);
        self.resize(&mut exchange, text_bytes(&answer), replaced)?;
        exchange.answer = Some(answer);
        exchange.answers += 1;
        drop(exchange);
        self.unlist(&kept);
        Ok(())
    }

    pub(super) fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kept = self.find(code, origin, now)?;
        let mut exchange = lock(&kept.exchange);
        if exchange.offer_candidates.len() + exchange.answer_candidates.len() >= MAX_CANDIDATES {
            return Err(StoreError::TooManyCandidates);
        }
        self.resize(&mut exchange, text_bytes(&candidate), 0)?;
        match side {
            Side::Offerer => exchange.offer_candidates.push(candidate),
            Side::Answerer => exchange.answer_candidates.push(candidate),
        }
        Ok(())
    }

    pub(super) fn delete(&self, code: Code) {
        let mut codes = lock(self.codes(code));
        let Some(kept) = codes.sessions.remove(&code) else { return };
        codes.expiring.remove(&(kept.session.expires_at, kept.order));
        drop(codes);
        self.forget(&kept);
    }

    pub(super) fn clean_up(&self, now: Timestamp) -> usize {
        for shard in &self.0.by_code {
            let mut codes = lock(shard);
            let live = codes.expiring.split_off(&(Timestamp(now.0.saturating_add(1)), 0));
            let gone = std::mem::replace(&mut codes.expiring, live);
            let gone: Vec<_> =
                gone.values().filter_map(|code| codes.sessions.remove(code)).collect();
            drop(codes);
            gone.iter().for_each(|kept| self.forget(kept));
        }
        self.0.sessions.load(Ordering::Relaxed)
    }

    fn find(&self, code: Code, origin: &Origin, now: Timestamp) -> Result<Arc<Kept>, StoreError> {
        let kept = lock(self.codes(code)).sessions.get(&code).cloned();
        let is_meant =
            |kept: &Arc<Kept>| kept.session.origin == *origin && kept.session.expires_at > now;
        kept.filter(is_meant).ok_or(StoreError::NotFound)
    }

    /// Takes the room for a new session, or nothing.
    fn reserve(&self, session: &NewSession) -> Result<(), StoreError> {
        let limits = &self.0.limits;
        if !take(&self.0.sessions, 1, limits.max_sessions) {
            return Err(StoreError::TooManySessions);
        }
        if !take(&self.0.bytes, session.bytes(), limits.max_bytes) {
            self.0.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::TooManyBytes);
        }
        let mut origins = lock(self.origins(&session.origin));
        let of_origin = origins.entry(session.origin.clone()).or_default();
        if *of_origin >= limits.max_sessions_per_origin {
            drop(origins);
            self.0.sessions.fetch_sub(1, Ordering::Relaxed);
            self.0.bytes.fetch_sub(session.bytes(), Ordering::Relaxed);
            return Err(StoreError::TooManyOfOrigin);
        }
        *of_origin += 1;
        Ok(())
    }

    /// Gives back everything that a session took, once its code is known no more.
    fn forget(&self, kept: &Kept) {
        let mut exchange = lock(&kept.exchange);
        exchange.is_gone = true;
        self.0.bytes.fetch_sub(exchange.bytes, Ordering::Relaxed);
        drop(exchange);
        self.unlist(kept);
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
        let mut origins = lock(self.origins(&kept.session.origin));
        if let Some(sessions) = origins.get_mut(&kept.session.origin) {
            *sessions -= 1;
            if *sessions == 0 {
                origins.remove(&kept.session.origin);
            }
        }
    }

    fn unlist(&self, kept: &Kept) {
        let NewSession { origin, topic, created_at, .. } = &kept.session;
        let mut shard = lock(self.listed(origin, topic));
        let Some(topics) = shard.get_mut(origin) else { return };
        let Some(sessions) = topics.get_mut(topic) else { return };
        sessions.remove(&(*created_at, kept.order));
        if sessions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            shard.remove(origin);
        }
    }

    /// Takes room for what comes into a session, and gives back that of what it replaces.
    fn resize(&self, exchange: &mut Exchange, more: usize, less: usize) -> Result<(), StoreError> {
        if exchange.is_gone {
            return Err(StoreError::NotFound);
        }
        if exchange.bytes + more - less > MAX_SESSION_BYTES {
            return Err(StoreError::SessionTooLarge);
        }
        if !take(&self.0.bytes, more, self.0.limits.max_bytes) {
            return Err(StoreError::TooManyBytes);
        }
        self.0.bytes.fetch_sub(less, Ordering::Relaxed);
        exchange.bytes = exchange.bytes + more - less;
        Ok(())
    }

    fn codes(&self, code: Code) -> &Mutex<Codes> {
        &self.0.by_code[self.shard(code)]
    }

    fn listed(&self, origin: &Origin, topic: &Topic) -> &Mutex<Listed> {
        &self.0.listed[self.shard((origin, topic))]
    }

    fn origins(&self, origin: &Origin) -> &Mutex<HashMap<Origin, usize>> {
        &self.0.of_origin[self.shard(origin)]
    }

    fn shard(&self, key: impl Hash) -> usize {
        self.0.hasher.hash_one(key) as usize % SHARDS
    }
}

impl Kept {
    fn as_session(&self) -> Session {
        let exchange = lock(&self.exchange);
        Session {
            answer: exchange.answer.clone(),
            answers: exchange.answers,
            offer_candidates: exchange.offer_candidates.clone(),
            answer_candidates: exchange.answer_candidates.clone(),
            ..self.session.as_session()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{self, contract};
    use super::*;

    contract!(contract::in_memory());

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let store = MemoryStore::new(contract::LIMITS);
        let session = contract::session("a", "t", Timestamp(1), Timestamp(5));
        let (code, origin) = (session.code, session.origin.clone());
        let text = contract::text("x");
        store.create(session).unwrap();
        store.add_candidate(code, &origin, Side::Offerer, text.clone(), Timestamp(2)).unwrap();
        store.add_answer(code, &origin, text.clone(), Timestamp(2)).unwrap();
        store.add_answer(code, &origin, text, Timestamp(2)).unwrap();
        assert_eq!((store.clean_up(Timestamp(4)), store.clean_up(Timestamp(5))), (1, 0));
        let inner = &store.0;
        assert_eq!(inner.bytes.load(Ordering::Relaxed), 0);
        assert!(inner.by_code.iter().all(|shard| lock(shard).sessions.is_empty()));
        assert!(inner.by_code.iter().all(|shard| lock(shard).expiring.is_empty()));
        assert!(inner.listed.iter().all(|shard| lock(shard).is_empty()));
        assert!(inner.of_origin.iter().all(|shard| lock(shard).is_empty()));
    }
}
