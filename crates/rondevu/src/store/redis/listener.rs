//! The changes of other replicas, which are published to all of them on one channel.
//!
//! Messages are lost only while this replica is not connected. When it has reconnected, those who
//! wait look again, and streams end, so that their clients open new ones and look at the list.

use std::borrow::Cow;

use redis_session::RedisState;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::super::{Notifications, StoreError};
use super::Scripts;
use crate::model::{Code, Origin, Timestamp, Topic};

/// The most new sessions that are queued to be fetched for this replica's streams.
const MAX_UNFETCHED: usize = 1024;

/// A message to all replicas; JSON, so that none begins as the channel's probes do.
#[derive(Serialize, Deserialize)]
pub(super) struct Message<'a> {
    /// The replica that made the change, which has notified its own clients.
    from: u64,
    code: Cow<'a, str>,
    /// The origin and topic of a new session; none for a change of an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_in: Option<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Message<'a> {
    pub(super) fn created(from: u64, code: Code, origin: &'a Origin, topic: &'a Topic) -> Self {
        let place = (origin.as_str().into(), topic.as_str().into());
        Self { new_in: Some(place), ..Self::changed(from, code) }
    }

    pub(super) fn changed(from: u64, code: Code) -> Self {
        Self { from, code: code.to_string().into(), new_in: None }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Numbers and texts can always be serialized.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A session that another replica has created, and whose topic is streamed here.
type Streamed = (Code, Origin, Topic);

/// Listens until it is aborted. The value that `state` has now counts as seen.
pub(super) async fn listen(
    scripts: Scripts,
    mut messages: mpsc::Receiver<redis_session::Message>,
    mut state: watch::Receiver<RedisState>,
    notifications: Notifications,
) {
    let (unfetched, to_fetch) = mpsc::channel(MAX_UNFETCHED);
    let replica = scripts.0.replica;
    let listening = async {
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => receive(&message, replica, &notifications, &unfetched),
                    None => return,
                },
                changed = state.changed() => {
                    let is_connected = *state.borrow_and_update() != RedisState::Unavailable;
                    match changed {
                        Ok(()) if is_connected => notifications.missed(),
                        Ok(()) => {}
                        Err(_) => return,
                    }
                }
            }
        }
    };
    // Concurrently: a fetch may take long, and the channel must be read meanwhile.
    tokio::select! {
        () = listening => {}
        () = fetch(&scripts, to_fetch, &notifications) => {}
    }
}

/// Handles a message; ignores those that are malformed or of this replica.
fn receive(
    message: &[u8],
    replica: u64,
    notifications: &Notifications,
    unfetched: &mpsc::Sender<Streamed>,
) {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(message) else { return };
    let Some(code) = Code::parse(&message.code).filter(|_| message.from != replica) else { return };
    let Some((origin, topic)) = &message.new_in else { return notifications.updated(code) };
    notifications.reused(code);
    let (origin, topic) = (Origin::stored(origin), Topic::stored(topic.clone().into_owned()));
    if notifications.has_stream(&origin, &topic)
        && unfetched.try_send((code, origin, topic)).is_err()
    {
        notifications.missed();
    }
}

/// Fetches new sessions for the streams, in the order in which they were created.
async fn fetch(
    scripts: &Scripts,
    mut to_fetch: mpsc::Receiver<Streamed>,
    notifications: &Notifications,
) {
    while let Some((code, origin, topic)) = to_fetch.recv().await {
        match scripts.get(code, &origin, Timestamp::now()).await {
            Ok(session) => notifications.created(origin, topic, session),
            // It has expired already.
            Err(StoreError::NotFound) => {}
            Err(_) => notifications.missed(),
        }
    }
}
