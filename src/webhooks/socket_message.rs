//! A message was sent: a notification, whose response does not matter.
//!
//! Policy: best effort. What cannot be sent in time is dropped and counted; no message ever waits
//! for this.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{Hook, SOCKET_MESSAGE};
use crate::metrics::Metrics;

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
        let (queue, waiting) = mpsc::channel(hook.max_waiting().min(Semaphore::MAX_PERMITS));
        let notifier = AbortOnDropHandle::new(tokio::spawn(notify(hook, waiting)));
        Self { queue, metrics, _notifier: notifier }
    }

    /// Queues a notification, or drops it if the queue is full.
    pub(crate) fn tell(&self, message: SocketMessage) {
        if self.queue.try_send(message).is_err() {
            self.metrics.webhook_call(SOCKET_MESSAGE, "dropped");
        }
    }
}

/// Sends what is queued, on at most as many connections as calls may be in flight. If all are in
/// use, the call that was sent longest ago gives up its response: a server that never responds is
/// notified as often as one that does.
async fn notify(hook: Hook, mut waiting: mpsc::Receiver<SocketMessage>) {
    let displaced = Notify::new();
    let mut calls = FuturesUnordered::new();
    loop {
        let message = tokio::select! {
            Some(()) = calls.next(), if !calls.is_empty() => continue,
            message = waiting.recv() => message,
        };
        let Some(message) = message else { return };
        while calls.len() >= hook.max_in_flight() {
            displaced.notify_one();
            calls.next().await;
        }
        calls.push(notify_of(&hook, message, &displaced));
    }
}

async fn notify_of(hook: &Hook, message: SocketMessage, displaced: &Notify) {
    // Whatever came back: the hook counts and reports its failures itself.
    let _ = hook.notify(&message, displaced).await;
}
