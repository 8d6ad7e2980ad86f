//! Notifies those who wait of changes: a session was updated, a topic has a new one.
//!
//! A part of the store, because the backend that stores a change notifies of it, not the request
//! that made it: its client may have disconnected by then. A backend that others change too
//! forwards their notifications, and says when some may have been lost.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use crate::model::{Code, NewSession, Origin, Session, Side, Topic};

/// The most new sessions that are queued for a subscriber of a topic; a slower one is disconnected.
const MAX_QUEUED_SESSIONS: usize = 256;

/// How long a new session may wait for a subscriber of its topic; a slower one is disconnected.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// The notifications of one store; a cheap handle.
#[derive(Clone)]
pub struct Notifications(Arc<Inner>);

struct Inner {
    /// Who watches which session. A std lock: held briefly, never across an await.
    watched: Mutex<HashMap<Code, Watched>>,
    /// Who subscribes to the new sessions of which topic; the same holds for its lock.
    streams: Mutex<HashMap<TopicKey, broadcast::Sender<Queued>>>,
    /// The last revision of each session that each of its sides has been shown.
    shown: Cache<Code, Arc<[AtomicU32; 2]>>,
}

/// A topic of one origin.
type TopicKey = (Origin, Topic);

/// A new session, and since when it waits for subscribers.
#[derive(Clone)]
struct Queued {
    session: Arc<Session>,
    since: Instant,
}

/// A change that was made.
pub(super) enum Change {
    /// A session was created.
    Created(NewSession),
    /// A session has a new answer or candidate.
    Updated(Code),
    /// Sessions were removed.
    #[cfg(feature = "sqlite")]
    Removed(Vec<Code>),
}

struct Watched {
    changed: Arc<Notify>,
    watchers: usize,
}

impl Notifications {
    /// For about `max_sessions` sessions that live for `lifetime`.
    pub(super) fn new(max_sessions: usize, lifetime: Duration) -> Self {
        let shown =
            Cache::builder().max_capacity(max_sessions as u64).time_to_live(lifetime).build();
        Self(Arc::new(Inner { watched: Mutex::default(), streams: Mutex::default(), shown }))
    }

    /// Notifies everybody concerned of a change.
    pub(super) fn notify(&self, change: Change) {
        match change {
            Change::Created(session) => {
                let new = session.as_session();
                self.created(session.origin, session.topic, new);
            }
            Change::Updated(code) => self.updated(code),
            #[cfg(feature = "sqlite")]
            Change::Removed(codes) => codes.into_iter().for_each(|code| self.updated(code)),
        }
    }

    /// Sends a new session to the subscribers of its topic.
    pub(super) fn created(&self, origin: Origin, topic: Topic, session: Session) {
        self.reused(session.code);
        let stream = lock(&self.0.streams).get(&(origin, topic)).cloned();
        if let Some(stream) = stream {
            // Fails if the last subscriber has just left.
            let _ = stream.send(Queued { session: session.into(), since: Instant::now() });
        }
    }

    /// A new session may have a code that an expired one had.
    pub(super) fn reused(&self, code: Code) {
        self.0.shown.invalidate(&code);
    }

    /// Whether anybody subscribes to a topic.
    #[cfg(any(feature = "redis", test))]
    pub(super) fn has_stream(&self, origin: &Origin, topic: &Topic) -> bool {
        lock(&self.0.streams).contains_key(&(origin.clone(), topic.clone()))
    }

    /// Some changes may have been missed: wakes all watchers, who look again, and ends all streams,
    /// whose subscribers open new ones and look at the list.
    #[cfg(any(feature = "redis", test))]
    pub(super) fn missed(&self) {
        for watched in lock(&self.0.watched).values() {
            watched.changed.notify_waiters();
        }
        lock(&self.0.streams).clear();
    }

    /// Wakes those who watch a session, which has a new answer or candidate or was removed.
    pub(super) fn updated(&self, code: Code) {
        let changed = lock(&self.0.watched).get(&code).map(|watched| watched.changed.clone());
        if let Some(changed) = changed {
            changed.notify_waiters();
        }
    }

    /// Watches a session until the watch is dropped.
    pub fn watch(&self, code: Code) -> SessionWatch {
        let mut watched = lock(&self.0.watched);
        let entry =
            watched.entry(code).or_insert_with(|| Watched { changed: Arc::default(), watchers: 0 });
        entry.watchers += 1;
        SessionWatch { notifications: self.clone(), code, changed: entry.changed.clone() }
    }

    /// Subscribes to the new sessions of a topic until the stream is dropped.
    pub fn stream(&self, origin: Origin, topic: Topic) -> TopicStream {
        let key = (origin, topic);
        let receiver = match lock(&self.0.streams).entry(key.clone()) {
            Entry::Occupied(sender) => sender.get().subscribe(),
            Entry::Vacant(vacant) => {
                let (sender, receiver) = broadcast::channel(MAX_QUEUED_SESSIONS);
                vacant.insert(sender);
                receiver
            }
        };
        TopicStream { notifications: self.clone(), key, receiver: Some(receiver) }
    }

    /// Whether a revision of a session is newer than the last one that `side` has been shown.
    pub fn is_new(&self, code: Code, side: Side, revision: u32) -> bool {
        let shown = self.0.shown.get(&code);
        shown.map_or(0, |shown| shown[side as usize].load(Ordering::Relaxed)) < revision
    }

    /// Remembers that `side` was shown a revision of a session.
    pub fn set_shown(&self, code: Code, side: Side, revision: u32) {
        if revision > 0 {
            let shown = self.0.shown.get_with(code, Arc::default);
            shown[side as usize].fetch_max(revision, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watch on the changes of a session.
pub struct SessionWatch {
    notifications: Notifications,
    code: Code,
    changed: Arc<Notify>,
}

impl SessionWatch {
    /// Resolves at the first change after this call, even if it is awaited later.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = lock(&self.notifications.0.watched).entry(self.code) {
            entry.get_mut().watchers -= 1;
            if entry.get().watchers == 0 {
                entry.remove();
            }
        }
    }
}

/// A subscription to the new sessions of a topic.
pub struct TopicStream {
    notifications: Notifications,
    key: TopicKey,
    /// Taken only on drop, before the remaining receivers are counted.
    receiver: Option<broadcast::Receiver<Queued>>,
}

/// The subscriber was too slow, and has missed sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber is too slow")]
pub struct Lagged;

impl TopicStream {
    /// Receives the next new session; `None` if there will be no more.
    ///
    /// # Errors
    /// [`Lagged`].
    pub async fn next(&mut self) -> Result<Option<Arc<Session>>, Lagged> {
        let Some(receiver) = &mut self.receiver else { return Ok(None) };
        match receiver.recv().await {
            Ok(Queued { since, .. }) if since.elapsed() > QUEUE_TIMEOUT => Err(Lagged),
            Ok(Queued { session, .. }) => Ok(Some(session)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(Lagged),
        }
    }
}

impl Drop for TopicStream {
    fn drop(&mut self) {
        let mut streams = lock(&self.notifications.0.streams);
        self.receiver = None;
        if streams.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            streams.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::session;
    use super::*;
    use crate::model::Timestamp;

    fn notifications() -> Notifications {
        Notifications::new(10, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_change_between_looking_and_waiting_is_not_missed() {
        let (notifications, code) = (notifications(), Code::random());
        let watch = notifications.watch(code);
        let changed = watch.changed();
        notifications.updated(code);
        changed.await;
    }

    #[tokio::test]
    async fn dropped_watches_and_streams_leave_nothing() {
        let (notifications, code) = (notifications(), Code::random());
        let (first, second) = (notifications.watch(code), notifications.watch(code));
        drop(first);
        let changed = second.changed();
        notifications.updated(code);
        changed.await;
        drop(second);
        assert!(lock(&notifications.0.watched).is_empty());

        let origin = Origin::parse(None).unwrap();
        let topic = Topic::stored("t".into());
        let streams = [0; 2].map(|_| notifications.stream(origin.clone(), topic.clone()));
        assert_eq!(lock(&notifications.0.streams).len(), 1);
        drop(streams);
        assert!(lock(&notifications.0.streams).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_waits_for_a_subscriber_only_so_long() {
        let notifications = notifications();
        let (origin, topic) = (Origin::stored("o"), Topic::stored("t".into()));
        let mut stream = notifications.stream(origin.clone(), topic.clone());
        let new = session("o", "t", Timestamp(1), Timestamp(2));
        let create = || notifications.created(origin.clone(), topic.clone(), new.as_session());
        create();
        tokio::time::advance(QUEUE_TIMEOUT).await;
        assert!(matches!(stream.next().await, Ok(Some(_))));
        create();
        tokio::time::advance(QUEUE_TIMEOUT + Duration::from_millis(1)).await;
        assert!(matches!(stream.next().await, Err(Lagged)));
    }

    #[tokio::test]
    async fn missed_changes_wake_watchers_and_end_streams() {
        let (notifications, code) = (notifications(), Code::random());
        let watch = notifications.watch(code);
        let (origin, topic) = (Origin::stored("o"), Topic::stored("t".into()));
        let mut old = notifications.stream(origin.clone(), topic.clone());
        let changed = watch.changed();
        notifications.missed();
        changed.await;
        assert!(matches!(old.next().await, Ok(None)));
        // The end of the old stream is none of the new one.
        let _new = notifications.stream(origin.clone(), topic.clone());
        drop(old);
        assert!(notifications.has_stream(&origin, &topic));
    }

    #[test]
    fn a_revision_is_new_until_its_side_was_shown_it() {
        let (notifications, code) = (notifications(), Code::random());
        assert!(!notifications.is_new(code, Side::Offerer, 0));
        assert!(notifications.is_new(code, Side::Offerer, 2));
        notifications.set_shown(code, Side::Offerer, 2);
        notifications.set_shown(code, Side::Offerer, 1);
        assert!(!notifications.is_new(code, Side::Offerer, 2));
        assert!(notifications.is_new(code, Side::Offerer, 3));
        assert!(notifications.is_new(code, Side::Answerer, 1));
    }
}
