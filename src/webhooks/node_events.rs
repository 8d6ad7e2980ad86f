//! Nodes came, left, or were refused: a server is told of it in batches, in order.
//!
//! Policy: at least once, as long as the log has room. A batch that fails is sent again, with what
//! has happened since; what the log loses meanwhile is counted, and told in the next batch. Nothing
//! else waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Hook;
use crate::lifecycle::{Cursor, NodeEvent, Unread};
use crate::metrics::Metrics;

/// The pause before a batch is sent again; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pause at the end of the process.
const LAST_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct NodeEvents {
    ending: CancellationToken,
    ended: CancellationToken,
    _sender: AbortOnDropHandle<()>,
}

#[derive(Serialize)]
struct Batch<'a> {
    replica: String,
    epoch: u64,
    lost: u64,
    events: Vec<&'a NodeEvent>,
}

impl NodeEvents {
    /// Sends what `cursor` reads to `hook`, at most `batch_size` events at once, in a task of its
    /// own.
    pub(super) fn new(hook: Hook, cursor: Cursor, batch_size: usize, metrics: Metrics) -> Self {
        let (ending, ended) = (CancellationToken::new(), CancellationToken::new());
        let sender = Sender { hook, cursor, batch_size, metrics, ending: ending.clone() };
        let done = ended.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _done = done;
            sender.run().await;
        });
        Self { ending, ended, _sender: AbortOnDropHandle::new(task) }
    }

    /// Sends what has happened so far, however often that takes, and ends.
    pub(crate) async fn flush(&self) {
        self.ending.cancel();
        self.ended.cancelled().await;
    }
}

struct Sender {
    hook: Hook,
    cursor: Cursor,
    batch_size: usize,
    metrics: Metrics,
    ending: CancellationToken,
}

impl Sender {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Unread { lost, events } = self.cursor.peek(self.batch_size, "webhook_queue_full");
            self.metrics.node_events_queued.set(self.cursor.remaining().cast_signed());
            let Some(last) = events.last().map(|event| event.sequence) else {
                if self.ending.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.cursor.wait() => {}
                    () = self.ending.cancelled() => {}
                }
                continue;
            };
            let (replica, epoch) = (self.cursor.replica().to_string(), self.cursor.epoch());
            let events = events.iter().map(Arc::as_ref).collect();
            let batch = Batch { replica, epoch, lost, events };
            // One after the other, so that they arrive in order.
            if self.hook.call((), &batch, |_| Ok(())).await.is_ok() {
                self.cursor.advance(last);
                pause = FIRST_PAUSE;
                continue;
            }
            if self.ending.is_cancelled() {
                tokio::time::sleep(LAST_PAUSE).await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
                () = self.ending.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
