//! A message was sent: a notification, whose response does not matter.
//!
//! Policy: best effort. Notifications that cannot be sent in time are dropped and counted; no
//! message waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::fair_queue::{Caller, Callers, FairQueue};
use super::{Hook, SOCKET_MESSAGE};
use crate::metrics::Metrics;

pub(crate) struct SocketMessages {
    shared: Arc<Shared>,
    metrics: Metrics,
    _notifier: AbortOnDropHandle<()>,
}

struct Shared {
    queue: Mutex<FairQueue<SocketMessage>>,
    callers: Callers,
    queued: Notify,
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
        let shared = Arc::new(Shared {
            queue: Mutex::new(FairQueue::new(hook.max_waiting())),
            callers: Callers::default(),
            queued: Notify::new(),
        });
        let notifier = AbortOnDropHandle::new(tokio::spawn(notify(hook, shared.clone())));
        Self { shared, metrics, _notifier: notifier }
    }

    /// Queues a notification. If the queue is full, one of a sender with more than its share is
    /// dropped, which may be this one.
    pub(crate) fn tell(&self, message: SocketMessage) {
        let sender = self.shared.callers.caller(&message.sender_id);
        if self.shared.queue().push(sender, message).is_some() {
            self.metrics.webhook_calls.inc([SOCKET_MESSAGE, "dropped"]);
        }
        self.shared.queued.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, FairQueue<SocketMessage>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> (Caller, SocketMessage) {
        loop {
            if let Some(next) = self.queue().pop() {
                return next;
            }
            self.queued.notified().await;
        }
    }
}

/// Sends what is queued, on at most as many connections as calls may be in flight. If all are in
/// use, the call that was sent longest ago gives up its response: a server that never responds is
/// notified as often as one that does.
async fn notify(hook: Hook, shared: Arc<Shared>) {
    let displaced = Notify::new();
    let mut calls = FuturesUnordered::new();
    loop {
        let (sender, message) = tokio::select! {
            Some(ended) = calls.next(), if !calls.is_empty() => {
                shared.queue().finished(ended);
                continue;
            }
            next = shared.next() => next,
        };
        while calls.len() >= hook.max_in_flight() {
            displaced.notify_one();
            if let Some(ended) = calls.next().await {
                shared.queue().finished(ended);
            }
        }
        calls.push(notify_of(&hook, sender, message, &displaced));
    }
}

/// Returns whose call has ended.
async fn notify_of(
    hook: &Hook,
    sender: Caller,
    message: SocketMessage,
    displaced: &Notify,
) -> Caller {
    // The response does not matter: the hook counts and reports its failures itself.
    let _ = hook.notify(sender, &message, displaced).await;
    sender
}
