//! Sessions in this process's memory.
//!
//! Two maps, each in shards so that two requests rarely meet at one lock: by code, for those who
//! know a session, and by origin and topic, for those who look for one. A lock is held for a
//! look or a change; where two are held, that of the code comes first.
//!
//! Every change has two steps: it takes its room ([`pending`]), and is made. Here one follows the
//! other at once; where sessions are kept in a file too, that comes between them.

mod kept;
mod pending;
mod room;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::session::text_bytes;
use super::{
    Code, JsonText, MAX_CANDIDATES, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, MAX_SESSION_BYTES,
    NewSession, Origin, Page, Session, Side, StoreError, StoreLimits, Timestamp, Topic, TopicCount,
    Topics,
};
pub(super) use kept::{Exchange, Kept};
pub(super) use pending::{Kind, PendingSession, PendingText};
use room::Room;

const SHARDS: usize = 64;

/// The memory of one process; a cheap handle.
#[derive(Clone)]
pub(super) struct MemoryStore(Arc<Inner>);

struct Inner {
    room: Room,
    hasher: RandomState,
    by_code: Box<[Mutex<Codes>]>,
    listed: Box<[Mutex<Listed>]>,
    /// The number of the next session.
    next: AtomicU64,
}

#[derive(Default)]
struct Codes {
    sessions: HashMap<Code, Arc<Kept>>,
    /// The same sessions in the order of their end.
    expiring: BTreeMap<(Timestamp, u64), Code>,
}

/// The sessions without an answer, in the order in which they were made.
type Listed = HashMap<Origin, HashMap<Topic, BTreeMap<(Timestamp, u64), Arc<Kept>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shards<T: Default>() -> Box<[Mutex<T>]> {
    (0..SHARDS).map(|_| Mutex::default()).collect()
}

impl MemoryStore {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self(Arc::new(Inner {
            room: Room::new(limits),
            hasher: RandomState::new(),
            by_code: shards(),
            listed: shards(),
            next: AtomicU64::new(0),
        }))
    }

    pub(super) fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let pending = self.pend(session).or_else(|_| {
            // What is gone may still take room.
            self.clean_up(session.created_at);
            self.pend(session)
        });
        pending?.make();
        Ok(())
    }

    /// Takes the room for a new session, which nobody sees yet.
    pub(super) fn pend(&self, session: &NewSession) -> Result<PendingSession, StoreError> {
        self.0.room.take_session(&session.origin, session.bytes())?;
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange { bytes: session.bytes(), ..Exchange::default() };
        let kept = Kept { session: session.clone(), number, exchange: Mutex::new(exchange) };
        Ok(PendingSession::new(self.clone(), Arc::new(kept)))
    }

    /// Puts back a session that was kept elsewhere, if there is room for it.
    pub(super) fn restore(
        &self,
        number: u64,
        session: NewSession,
        mut exchange: Exchange,
    ) -> Result<(), StoreError> {
        let candidates = exchange.offer_candidates.iter().chain(&exchange.answer_candidates);
        let texts: usize = candidates.chain(&exchange.answer).map(text_bytes).sum();
        exchange.bytes = session.bytes() + texts;
        self.0.room.take_session(&session.origin, exchange.bytes)?;
        let kept = Arc::new(Kept { session, number, exchange: Mutex::new(exchange) });
        PendingSession::new(self.clone(), kept).make();
        Ok(())
    }

    /// New sessions have greater numbers than this one from now on.
    pub(super) fn count_on_from(&self, number: u64) {
        self.0.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    /// Shows a session that has its room to everybody.
    fn insert(&self, kept: &Arc<Kept>) {
        let NewSession { code, origin, topic, created_at, expires_at, .. } = &kept.session;
        // Held until the session is in both maps: whoever finds it in a list can use its code.
        let mut codes = lock(self.codes(*code));
        if lock(&kept.exchange).answer.is_none() {
            lock(self.listed(origin, topic))
                .entry(origin.clone())
                .or_default()
                .entry(topic.clone())
                .or_default()
                .insert((*created_at, kept.number), kept.clone());
        }
        codes.expiring.insert((*expires_at, kept.number), *code);
        codes.sessions.insert(*code, kept.clone());
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
        self.pend_text(code, origin, Kind::Answer, answer, now)?.make()
    }

    pub(super) fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.pend_text(code, origin, Kind::Candidate(side), candidate, now)?.make()
    }

    /// Takes the room for a text that nobody sees yet.
    pub(super) fn pend_text(
        &self,
        code: Code,
        origin: &Origin,
        kind: Kind,
        text: JsonText,
        now: Timestamp,
    ) -> Result<PendingText, StoreError> {
        let kept = self.find(code, origin, now)?;
        let mut exchange = lock(&kept.exchange);
        if exchange.is_gone {
            return Err(StoreError::NotFound);
        }
        if matches!(kind, Kind::Candidate(_)) && exchange.candidates() >= MAX_CANDIDATES {
            return Err(StoreError::TooManyCandidates);
        }
        let more = text_bytes(&text);
        let less = match kind {
            Kind::Answer => exchange.answer.as_ref().map_or(0, text_bytes),
            Kind::Candidate(_) => 0,
        };
        if exchange.bytes + more - less > MAX_SESSION_BYTES {
            return Err(StoreError::SessionTooLarge);
        }
        // The room of an answer that is replaced comes back when the new one is made.
        self.0.room.take(more)?;
        exchange.bytes += more;
        if let Kind::Candidate(_) = kind {
            exchange.pending_candidates += 1;
        }
        drop(exchange);
        Ok(PendingText::new(self.clone(), kept, kind, text))
    }

    pub(super) fn delete(&self, code: Code) {
        if let Some(kept) = self.known(code) {
            self.remove(&kept);
        }
    }

    /// Frees the room of all sessions that are gone, and tells how many are left.
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
        self.count()
    }

    /// How many sessions have their room.
    pub(super) fn count(&self) -> usize {
        self.0.room.sessions()
    }

    /// The session with a code, whoever's it is.
    pub(super) fn known(&self, code: Code) -> Option<Arc<Kept>> {
        lock(self.codes(code)).sessions.get(&code).cloned()
    }

    /// Sessions that are gone and still take room, at most so many.
    pub(super) fn gone(&self, now: Timestamp, most: usize) -> Vec<Arc<Kept>> {
        let mut gone = Vec::new();
        for shard in &self.0.by_code {
            let codes = lock(shard);
            let expired = codes.expiring.range(..=(now, u64::MAX)).map(|(_, code)| code);
            let kept = expired.filter_map(|code| codes.sessions.get(code));
            gone.extend(kept.take(most - gone.len()).cloned());
        }
        gone
    }

    /// Forgets a session, unless it is forgotten already.
    pub(super) fn remove(&self, kept: &Arc<Kept>) {
        let NewSession { code, expires_at, .. } = &kept.session;
        let mut codes = lock(self.codes(*code));
        if codes.sessions.get(code).is_none_or(|known| !Arc::ptr_eq(known, kept)) {
            return;
        }
        codes.sessions.remove(code);
        codes.expiring.remove(&(*expires_at, kept.number));
        drop(codes);
        self.forget(kept);
    }

    fn find(&self, code: Code, origin: &Origin, now: Timestamp) -> Result<Arc<Kept>, StoreError> {
        let is_meant =
            |kept: &Arc<Kept>| kept.session.origin == *origin && kept.session.expires_at > now;
        self.known(code).filter(is_meant).ok_or(StoreError::NotFound)
    }

    /// Gives back everything that a session took, once its code is known no more.
    fn forget(&self, kept: &Kept) {
        let mut exchange = lock(&kept.exchange);
        exchange.is_gone = true;
        let bytes = exchange.bytes;
        drop(exchange);
        self.unlist(kept);
        self.0.room.free_session(&kept.session.origin, bytes);
    }

    fn unlist(&self, kept: &Kept) {
        let NewSession { origin, topic, created_at, .. } = &kept.session;
        let mut shard = lock(self.listed(origin, topic));
        let Some(topics) = shard.get_mut(origin) else { return };
        let Some(sessions) = topics.get_mut(topic) else { return };
        sessions.remove(&(*created_at, kept.number));
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
        self.0.room.is_free()
            && self.0.listed.iter().all(|shard| lock(shard).is_empty())
            && self.0.by_code.iter().all(|shard| {
                let codes = lock(shard);
                codes.sessions.is_empty() && codes.expiring.is_empty()
            })
    }

    fn shard(&self, key: impl Hash) -> usize {
        self.0.hasher.hash_one(key) as usize % SHARDS
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
        store.create(&session).unwrap();
        store.add_candidate(code, &origin, Side::Offerer, text.clone(), Timestamp(2)).unwrap();
        store.add_answer(code, &origin, text.clone(), Timestamp(2)).unwrap();
        store.add_answer(code, &origin, text, Timestamp(2)).unwrap();
        assert_eq!((store.clean_up(Timestamp(4)), store.clean_up(Timestamp(5))), (1, 0));
        assert!(store.is_empty());
    }

    #[test]
    fn what_is_not_made_leaves_nothing() {
        let store = MemoryStore::new(contract::LIMITS);
        let session = contract::session("a", "t", Timestamp(1), Timestamp(5));
        drop(store.pend(&session).unwrap());
        assert!(store.is_empty());
        store.create(&session).unwrap();
        let pend = |kind, text| {
            store.pend_text(session.code, &session.origin, kind, contract::text(text), Timestamp(1))
        };
        let half = "x".repeat(MAX_SESSION_BYTES / 2);
        for _ in 0..2 * MAX_CANDIDATES {
            drop(pend(Kind::Candidate(Side::Offerer), &half).unwrap());
            drop(pend(Kind::Answer, &half).unwrap());
        }
        assert_eq!(
            store.get(session.code, &session.origin, Timestamp(1)),
            Ok(session.as_session())
        );
        // The room of both comes back once, whichever goes first.
        let pending = pend(Kind::Candidate(Side::Offerer), "x").unwrap();
        store.delete(session.code);
        assert_eq!(pending.make(), Err(StoreError::NotFound));
        assert!(store.is_empty());
    }
}
