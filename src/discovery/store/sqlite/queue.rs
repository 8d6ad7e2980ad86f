//! Where changes wait for the writer, and become groups.
//!
//! A task puts together what is asked for at the same time, so that the two threads wake each
//! other once for a group and not for every change. It also tells of those that are made: whoever
//! asked for one may have left meanwhile.

use tokio::sync::{mpsc, oneshot};

use super::super::super::news::News;
use super::super::StoreError;
use super::writer::{Change, Job};

/// How many changes may wait; who comes later waits for room.
const MAX_QUEUED_ORDERS: usize = 1024;

/// The most changes in one transaction.
const MAX_GROUPED: usize = 256;

/// The way to the writer; a cheap handle. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Queue(mpsc::Sender<Order>);

enum Order {
    Change {
        change: Change,
        done: Done,
    },
    /// The last order; answered when everything before it is in the file.
    Close(oneshot::Sender<()>),
}

/// Who waits for a change.
type Done = oneshot::Sender<Result<(), StoreError>>;

impl Queue {
    /// Starts the task that gives the writer its jobs, and tells of what is made.
    pub(super) fn start(jobs: mpsc::Sender<Job>, news: News) -> Self {
        let (orders, queue) = mpsc::channel(MAX_QUEUED_ORDERS);
        tokio::spawn(group(queue, jobs, news));
        Self(orders)
    }

    /// Makes a change, and tells when it is in the file.
    pub(super) async fn change(&self, change: Change) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let order = Order::Change { change, done };
        self.0.send(order).await.map_err(|_| StoreError::Unavailable)?;
        answer.await.map_err(|_| StoreError::Unavailable)?
    }

    /// Ends the writer, when it has put everything into the file itself.
    pub(super) async fn close(&self) {
        let (closed, end) = oneshot::channel();
        if self.0.send(Order::Close(closed)).await.is_ok() {
            // Fails if the writer is gone, which is what is waited for.
            let _ = end.await;
        }
    }
}

/// Gives the writer groups of what waits, one after the other, until nobody can give orders any
/// more, or it is closed.
async fn group(mut orders: mpsc::Receiver<Order>, jobs: mpsc::Sender<Job>, news: News) {
    let mut waiting = Vec::new();
    while let Some(first) = orders.recv().await {
        for_the_rest(&orders).await;
        let mut changes = Vec::new();
        let (mut next, mut closed) = (Some(first), None);
        while let Some(order) = next {
            let mut is_full = false;
            match order {
                // Whoever asked for it has left, or was told that the store is not available.
                Order::Change { done, .. } if done.is_closed() => {}
                Order::Change { change, done } => {
                    // What is removed takes nothing more: so that nothing comes after it in its
                    // transaction, where memory does not yet know that it is gone.
                    is_full = matches!(change, Change::Remove(_));
                    waiting.push((change.news(), done));
                    changes.push(change);
                }
                Order::Close(end) => closed = Some(end),
            }
            is_full |= changes.len() >= MAX_GROUPED || closed.is_some();
            next = if is_full { None } else { orders.try_recv().ok() };
        }
        let (written, answers) = oneshot::channel();
        // Whoever waits is told by the drop if the writer is gone.
        let answers = match jobs.send(Job::Write { changes, written }).await {
            Ok(()) => answers.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        for ((item, done), answer) in waiting.drain(..).zip(answers) {
            if answer.is_ok() {
                news.tell(item);
            }
            // Fails if nobody waits for it any more.
            let _ = done.send(answer);
        }
        if let Some(end) = closed {
            let _ = jobs.send(Job::Close(end)).await;
            return;
        }
    }
}

/// Waits as long as those who can run now ask for more, which comes into the same group. If there
/// are none, that is no time at all.
async fn for_the_rest(orders: &mpsc::Receiver<Order>) {
    let mut before = None;
    while before != Some(orders.len()) && orders.len() < MAX_GROUPED {
        before = Some(orders.len());
        tokio::task::yield_now().await;
    }
}
