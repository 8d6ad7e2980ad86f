//! Tells those who wait that something has happened: a session has changed, a topic has a new
//! one.
//!
//! A part of the store, because it is the store that knows. What keeps a change tells of it, not
//! who asked for it: that client may have left by then. A backend that others change too does so
//! for what it hears from them, and says when it may have missed something.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};

use super::replies::ListedSession;
use super::session::{Code, NewSession, Origin, Session, Side, Topic};

/// How many new sessions may wait for a reader of a topic's news; a slower one is cut off.
const MAX_QUEUED_NEWS: usize = 256;

/// The news of one store; a cheap handle.
#[derive(Clone)]
pub(super) struct News(Arc<Inner>);

struct Inner {
    /// Who waits for a change of a session. A std lock: held for a look, never across an await.
    waiting: Mutex<HashMap<Code, Waiting>>,
    /// Who reads the new sessions of a topic; the same holds for its lock.
    streams: Mutex<HashMap<Place, broadcast::Sender<Arc<str>>>>,
    /// What has been shown of each session to its two sides.
    shown: Cache<Code, Arc<[AtomicU32; 2]>>,
}

/// Sessions of one topic and one origin.
type Place = (Origin, Topic);

/// What there is to tell of a change that was made.
pub(super) enum NewsItem {
    /// A session was made.
    Created(NewSession),
    /// A session has an answer or a candidate more.
    Changed(Code),
    /// Sessions are gone.
    Gone(Vec<Code>),
}

struct Waiting {
    changed: Arc<Notify>,
    watchers: usize,
}

impl News {
    /// For at most about `max_sessions` sessions at a time that live for `lifetime`.
    pub(super) fn new(max_sessions: usize, lifetime: Duration) -> Self {
        let shown =
            Cache::builder().max_capacity(max_sessions as u64).time_to_live(lifetime).build();
        Self(Arc::new(Inner { waiting: Mutex::default(), streams: Mutex::default(), shown }))
    }

    /// Tells those whom it concerns of a change that was made.
    pub(super) fn tell(&self, item: NewsItem) {
        match item {
            NewsItem::Created(session) => {
                let listed = session.as_session();
                self.stream_session(session.origin, session.topic, &listed);
            }
            NewsItem::Changed(code) => self.changed(code),
            NewsItem::Gone(codes) => codes.into_iter().for_each(|code| self.changed(code)),
        }
    }

    /// Tells those who read the new sessions of a topic of this one.
    pub(super) fn stream_session(&self, origin: Origin, topic: Topic, session: &Session) {
        let stream = lock(&self.0.streams).get(&(origin, topic)).cloned();
        let Some(stream) = stream else { return };
        if let Ok(text) = serde_json::to_string(&ListedSession::new(session)) {
            // Fails if the last reader has just left.
            let _ = stream.send(text.into());
        }
    }

    /// Whether anybody reads the new sessions of a topic.
    pub(super) fn has_stream(&self, origin: &Origin, topic: &Topic) -> bool {
        lock(&self.0.streams).contains_key(&(origin.clone(), topic.clone()))
    }

    /// Something may have happened that was not told: whoever waits has to look, and streams end,
    /// so that their readers open new ones and look too.
    pub(super) fn missed(&self) {
        for waiting in lock(&self.0.waiting).values() {
            waiting.changed.notify_waiters();
        }
        lock(&self.0.streams).clear();
    }

    /// A session has an answer or a candidate more, or is gone.
    pub(super) fn changed(&self, code: Code) {
        let changed = lock(&self.0.waiting).get(&code).map(|waiting| waiting.changed.clone());
        if let Some(changed) = changed {
            changed.notify_waiters();
        }
    }

    /// Watches a session until the watch is dropped.
    pub(super) fn watch(&self, code: Code) -> SessionWatch {
        let mut waiting = lock(&self.0.waiting);
        let entry =
            waiting.entry(code).or_insert_with(|| Waiting { changed: Arc::default(), watchers: 0 });
        entry.watchers += 1;
        SessionWatch { news: self.clone(), code, changed: entry.changed.clone() }
    }

    /// The new sessions of a topic from now on, each as JSON, until the stream is dropped.
    pub(super) fn stream(&self, origin: Origin, topic: Topic) -> TopicStream {
        let place = (origin, topic);
        let receiver = match lock(&self.0.streams).entry(place.clone()) {
            Entry::Occupied(sender) => sender.get().subscribe(),
            Entry::Vacant(vacant) => {
                let (sender, receiver) = broadcast::channel(MAX_QUEUED_NEWS);
                vacant.insert(sender);
                receiver
            }
        };
        TopicStream { news: self.clone(), place, receiver: Some(receiver) }
    }

    /// Whether a revision of a session is newer than what its `side` has been shown.
    pub(super) fn is_new(&self, code: Code, side: Side, revision: u32) -> bool {
        let shown = self.0.shown.get(&code);
        shown.map_or(0, |shown| shown[side as usize].load(Ordering::Relaxed)) < revision
    }

    /// A revision of a session was shown to its `side`.
    pub(super) fn shown(&self, code: Code, side: Side, revision: u32) {
        if revision > 0 {
            let shown = self.0.shown.get_with(code, Arc::default);
            shown[side as usize].fetch_max(revision, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who waits for a change of a session.
pub(super) struct SessionWatch {
    news: News,
    code: Code,
    changed: Arc<Notify>,
}

impl SessionWatch {
    /// Resolves at the first change after this call, whether it is awaited by then or not.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = lock(&self.news.0.waiting).entry(self.code) {
            entry.get_mut().watchers -= 1;
            if entry.get().watchers == 0 {
                entry.remove();
            }
        }
    }
}

/// Somebody who reads the new sessions of a topic.
pub(super) struct TopicStream {
    news: News,
    place: Place,
    /// Taken only by the drop, so that it is gone when the readers are counted.
    receiver: Option<broadcast::Receiver<Arc<str>>>,
}

/// A reader was too slow, and has missed something.
#[derive(Debug)]
pub(super) struct Lagged;

impl TopicStream {
    /// The next new session; none if there will be no more.
    ///
    /// # Errors
    /// [`Lagged`].
    pub(super) async fn next(&mut self) -> Result<Option<Arc<str>>, Lagged> {
        let Some(receiver) = &mut self.receiver else { return Ok(None) };
        match receiver.recv().await {
            Ok(session) => Ok(Some(session)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(Lagged),
        }
    }
}

impl Drop for TopicStream {
    fn drop(&mut self) {
        let mut streams = lock(&self.news.0.streams);
        self.receiver = None;
        if streams.get(&self.place).is_some_and(|sender| sender.receiver_count() == 0) {
            streams.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> News {
        News::new(10, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_change_between_the_look_and_the_wait_is_not_missed() {
        let (news, code) = (news(), Code::random());
        let watch = news.watch(code);
        let changed = watch.changed();
        news.changed(code);
        changed.await;
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing() {
        let (news, code) = (news(), Code::random());
        let (first, second) = (news.watch(code), news.watch(code));
        drop(first);
        let changed = second.changed();
        news.changed(code);
        changed.await;
        drop(second);
        assert!(lock(&news.0.waiting).is_empty());

        let origin = Origin::parse(None).unwrap();
        let topic = Topic::stored("t".into());
        let streams = [0; 2].map(|_| news.stream(origin.clone(), topic.clone()));
        assert_eq!(lock(&news.0.streams).len(), 1);
        drop(streams);
        assert!(lock(&news.0.streams).is_empty());
    }

    #[tokio::test]
    async fn what_may_have_been_missed_is_looked_for() {
        let (news, code) = (news(), Code::random());
        let watch = news.watch(code);
        let (origin, topic) = (Origin::stored("o"), Topic::stored("t".into()));
        let mut old = news.stream(origin.clone(), topic.clone());
        let changed = watch.changed();
        news.missed();
        changed.await;
        assert!(matches!(old.next().await, Ok(None)));
        // The end of the old stream is none of the new one.
        let _new = news.stream(origin.clone(), topic.clone());
        drop(old);
        assert!(news.has_stream(&origin, &topic));
    }

    #[test]
    fn news_are_what_a_side_has_not_been_shown() {
        let (news, code) = (news(), Code::random());
        assert!(!news.is_new(code, Side::Offerer, 0));
        assert!(news.is_new(code, Side::Offerer, 2));
        news.shown(code, Side::Offerer, 2);
        news.shown(code, Side::Offerer, 1);
        assert!(!news.is_new(code, Side::Offerer, 2));
        assert!(news.is_new(code, Side::Offerer, 3));
        assert!(news.is_new(code, Side::Answerer, 1));
    }
}
