//! What other replicas change: each change is told to all of them on one channel.
//!
//! Messages may be lost only while this replica is not connected. When it is again, whoever waits
//! is told to look, and streams end, so that their clients open them anew and look at the list.

use std::borrow::Cow;

use redis_session::RedisState;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::super::super::news::News;
use super::super::{Code, Origin, StoreError, Timestamp, Topic};
use super::Scripts;

/// The most new sessions that may wait to be fetched for this replica's streams.
const MAX_UNFETCHED: usize = 1024;

/// What one replica tells the others; JSON, so that none begins as the channel's probes do.
#[derive(Serialize, Deserialize)]
pub(super) struct Message<'a> {
    /// The replica that made the change; it has told its own clients.
    from: u64,
    code: Cow<'a, str>,
    /// Where a new session is listed: origin and topic. None for a change of an older one.
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
        // Numbers and texts can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A session that another replica has made, and that is streamed here.
type Streamed = (Code, Origin, Topic);

/// Listens until it is aborted. What `state` says now is known.
pub(super) async fn listen(
    scripts: Scripts,
    mut frames: mpsc::Receiver<redis_session::Message>,
    mut state: watch::Receiver<RedisState>,
    news: News,
) {
    let (unfetched, to_fetch) = mpsc::channel(MAX_UNFETCHED);
    let replica = scripts.0.replica;
    let hearing = async {
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => hear(&frame, replica, &news, &unfetched),
                    None => return,
                },
                changed = state.changed() => {
                    let is_connected = *state.borrow_and_update() != RedisState::Unavailable;
                    match changed {
                        Ok(()) if is_connected => news.missed(),
                        Ok(()) => {}
                        Err(_) => return,
                    }
                }
            }
        }
    };
    // Beside it: to fetch may take its time, and the channel has to be read meanwhile.
    tokio::select! {
        () = hearing => {}
        () = fetch(&scripts, to_fetch, &news) => {}
    }
}

/// What is no message of another replica is passed over.
fn hear(frame: &[u8], replica: u64, news: &News, unfetched: &mpsc::Sender<Streamed>) {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(frame) else { return };
    let Some(code) = Code::parse(&message.code).filter(|_| message.from != replica) else { return };
    let Some((origin, topic)) = &message.new_in else { return news.changed(code) };
    let (origin, topic) = (Origin::stored(origin), Topic::stored(topic.clone().into_owned()));
    if news.has_stream(&origin, &topic) && unfetched.try_send((code, origin, topic)).is_err() {
        news.missed();
    }
}

/// Fetches new sessions for the streams, in the order in which they were made.
async fn fetch(scripts: &Scripts, mut to_fetch: mpsc::Receiver<Streamed>, news: &News) {
    while let Some((code, origin, topic)) = to_fetch.recv().await {
        match scripts.get(code, &origin, Timestamp::now()).await {
            Ok(session) => news.stream_session(origin, topic, &session),
            // It is gone already.
            Err(StoreError::NotFound) => {}
            Err(_) => news.missed(),
        }
    }
}
