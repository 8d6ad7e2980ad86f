//! May this node send to that one? Called for each direction.
//!
//! Policy: fail closed, but not as a no. If the call fails, the ack is an error and the sender may
//! try again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use moka::future::Cache;
use serde::Serialize;

use super::{CallError, Hook};

/// The most cached answers.
const MAX_ANSWERS: u64 = 100_000;

/// The authorization webhook, with a cache of its answers.
pub(crate) struct Authorization {
    hook: Hook,
    answers: Option<Cache<String, bool>>,
}

#[derive(Serialize)]
struct Request<'a> {
    from: &'a str,
    to: &'a str,
}

impl Authorization {
    /// Calls `hook`, and caches each yes and each no for `ttl`, if it is not zero.
    pub(super) fn new(hook: Hook, ttl: Duration) -> Self {
        let answers = (!ttl.is_zero())
            .then(|| Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(ttl).build());
        Self { hook, answers }
    }

    /// Returns the answer, if it is cached.
    pub(crate) fn remembered(&self, from: &str, to: &str) -> Option<bool> {
        self.answers.as_ref()?.get(&key(from, to)).now_or_never().flatten()
    }

    /// Whether `from` may send to `to`: `{"authorized":true}`. While answers are cached,
    /// concurrent calls for the same nodes are one.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer; that is never cached.
    pub(crate) async fn ask(&self, from: &str, to: &str) -> Result<bool, CallError> {
        let request = Request { from, to };
        let call = self.hook.call(from, &request, |reply| reply.says_yes("authorized"));
        match &self.answers {
            None => call.await,
            Some(answers) => {
                let asked = answers.try_get_with(key(from, to), call).await;
                asked.map_err(Arc::unwrap_or_clone)
            }
        }
    }
}

/// One text for both IDs. A sender's ID has no control characters, so the first one separates.
fn key(from: &str, to: &str) -> String {
    format!("{from}\0{to}")
}
