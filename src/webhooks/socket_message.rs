//! A message was sent: a notification, whose response does not matter.
//!
//! Policy: best effort. What cannot be sent in time is dropped and counted; no message ever waits
//! for this.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Hook, SOCKET_MESSAGE};
use crate::metrics::Metrics;

/// The most notifications in the queue.
const MAX_WAITING: usize = 10_000;

pub(crate) struct SocketMessages {
    queue: mpsc::Sender<SocketMessage>,
    metrics: Metrics,
    _notifier: AbortOnDropHandle<()>,
}

/// What the hook is sent for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SocketMessage {
    pub(crate) sender_id: String,
    pub(crate) receiver_id: String,
    pub(crate) is_receiver_connected: bool,
}

impl SocketMessages {
    /// Notifies `hook`, in a task of its own.
    pub(super) fn new(hook: Hook, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let notifier = AbortOnDropHandle::new(tokio::spawn(tell(hook, waiting)));
        Self { queue, metrics, _notifier: notifier }
    }

    /// Queues a notification, or drops it if the queue is full.
    pub(crate) fn tell(&self, message: SocketMessage) {
        if self.queue.try_send(message).is_err() {
            self.metrics.webhook_call(SOCKET_MESSAGE, "dropped");
        }
    }
}

async fn tell(hook: Hook, mut waiting: mpsc::Receiver<SocketMessage>) {
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(_) = calls.next(), if !calls.is_empty() => {}
            message = waiting.recv(), if calls.len() < hook.max_in_flight() => match message {
                Some(message) => calls.push(one(&hook, message)),
                None => return,
            },
        }
    }
}

async fn one(hook: &Hook, message: SocketMessage) {
    // Whatever came back: the hook counts and reports its failures itself.
    let _ = hook.tell(&message).await;
}
