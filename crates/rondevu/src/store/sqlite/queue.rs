//! The queue in front of the writer, in which changes are grouped.
//!
//! A task groups changes that arrive together, so that the two threads wake each other once for a
//! group and not for every change. It also notifies of the changes that were made: the client that
//! requested one may have disconnected meanwhile.

use tokio::sync::{mpsc, oneshot};

use super::super::{Notifications, StoreError};
use super::writer::{Change, Job};

/// The most changes in the queue; further senders wait.
const MAX_QUEUED: usize = 1024;

/// The most changes in one transaction.
const MAX_GROUPED: usize = 256;

/// The sender to the writer; a cheap handle. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Queue(mpsc::Sender<Request>);

enum Request {
    Change {
        change: Change,
        done: Done,
    },
    /// The last request; completed when everything before it is in the file.
    Close(oneshot::Sender<()>),
}

/// Completes a change.
type Done = oneshot::Sender<Result<(), StoreError>>;

impl Queue {
    /// Starts the task that passes changes on to the writer.
    pub(super) fn start(jobs: mpsc::Sender<Job>, notifications: Notifications) -> Self {
        let (requests, queue) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(group(queue, jobs, notifications));
        Self(requests)
    }

    /// Makes a change; returns when it is in the file.
    pub(super) async fn change(&self, change: Change) -> Result<(), StoreError> {
        let (done, result) = oneshot::channel();
        let request = Request::Change { change, done };
        self.0.send(request).await.map_err(|_| StoreError::Unavailable)?;
        result.await.map_err(|_| StoreError::Unavailable)?
    }

    /// Ends the writer after all queued changes are written.
    pub(super) async fn close(&self) {
        let (closed, end) = oneshot::channel();
        if self.0.send(Request::Close(closed)).await.is_ok() {
            // Fails if the writer has ended already.
            let _ = end.await;
        }
    }
}

/// Passes groups of queued changes on to the writer, one after the other, until the queue is closed.
async fn group(
    mut requests: mpsc::Receiver<Request>,
    jobs: mpsc::Sender<Job>,
    notifications: Notifications,
) {
    let mut waiting = Vec::new();
    while let Some(first) = requests.recv().await {
        wait_for_more(&requests).await;
        let mut changes = Vec::new();
        let (mut next, mut closed) = (Some(first), None);
        while let Some(request) = next {
            let mut is_full = false;
            match request {
                // The client has disconnected, or was told that the store is unavailable.
                Request::Change { done, .. } if done.is_closed() => {}
                Request::Change { change, done } => {
                    // A removal is the last change of its group: memory learns of it only after
                    // the transaction, and until then would allow additions to the session.
                    is_full = matches!(change, Change::Remove(_));
                    waiting.push((change.notification(), done));
                    changes.push(change);
                }
                Request::Close(end) => closed = Some(end),
            }
            is_full |= changes.len() >= MAX_GROUPED || closed.is_some();
            next = if is_full { None } else { requests.try_recv().ok() };
        }
        let (written, results) = oneshot::channel();
        // Dropping the senders tells those who wait if the writer has ended.
        let results = match jobs.send(Job::Write { changes, written }).await {
            Ok(()) => results.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        for ((notification, done), result) in waiting.drain(..).zip(results) {
            if result.is_ok() {
                notifications.notify(notification);
            }
            // Fails if nobody waits for it any more.
            let _ = done.send(result);
        }
        if let Some(end) = closed {
            let _ = jobs.send(Job::Close(end)).await;
            return;
        }
    }
}

/// Waits as long as tasks that are ready queue more changes, which then share a group. If there are
/// none, this takes no time.
async fn wait_for_more(requests: &mpsc::Receiver<Request>) {
    let mut before = None;
    while before != Some(requests.len()) && requests.len() < MAX_GROUPED {
        before = Some(requests.len());
        tokio::task::yield_now().await;
    }
}
