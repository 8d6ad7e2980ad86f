//! The state of every part of this replica, and of the others.

use std::time::{SystemTime, UNIX_EPOCH};

use redis_session::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::calls::{Gathered, Request};
use super::{Broker, RedisProblem};
use crate::node::ReplicaId;

/// A part of the broker.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) need: Need,
    pub(crate) problem: Option<Problem>,
}

/// Whether the broker is ready without a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is not.
    Always,
    /// It is not, unless the operator says that it is ready without Redis.
    Redis,
    /// It is: what keeps the part from working passes by itself, and would be the same with
    /// another replica.
    Never,
}

/// Why a part cannot do its work.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    cause: &'static str,
    /// The command that Redis refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The code of its error.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl Problem {
    pub(crate) fn new(cause: &'static str) -> Self {
        Self { cause, command: None, code: None }
    }

    pub(crate) fn refused(cause: &'static str, Refusal { command, code }: Refusal) -> Self {
        Self { cause, command: Some(command), code: Some(code) }
    }
}

/// A part that the broker does not know itself: returns its state now.
pub(crate) type PartState = Box<dyn Fn() -> Part + Send + Sync>;

/// A replica, as it describes itself.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplicaStatus {
    /// Its ID, a new one at each start.
    pub(crate) replica: String,
    /// The version of the broker.
    pub(crate) version: String,
    /// When it was started, in milliseconds since 1970.
    pub(crate) started: u64,
    /// How many nodes hold their ID there.
    pub(crate) nodes: u64,
    /// `ready`, or `not ready` if it should get no nodes.
    pub(crate) status: String,
    /// The state of each part, as `/readyz` names them.
    #[schema(value_type = Object)]
    pub(crate) parts: Map<String, Value>,
}

/// Returns the state of a part as JSON, or of all parts by their first problem.
pub(crate) fn state(problem: Option<&Problem>) -> Value {
    let Some(problem) = problem else { return json!({"status": "ready"}) };
    let mut state = json!(problem);
    state["status"] = json!("not ready");
    state
}

/// Returns the current time, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Broker {
    /// Returns the state of every part that is in use.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let part = |name: &str, need, problem| Part { name: name.into(), need, problem };
        let draining = self.is_draining().then(|| Problem::new("draining"));
        let mut parts = vec![part("broker", Need::Always, draining)];
        if self.remote.is_some() {
            let problem = self.redis_problem().map(|problem| match problem {
                RedisProblem::Unavailable => Problem::new("redis_unavailable"),
                RedisProblem::Refuses(refusal) => Problem::refused("redis_refuses", refusal),
            });
            parts.push(part("redis", Need::Redis, problem));
        }
        parts.extend(self.other_parts.iter().map(|state| state()));
        let full = (!self.memory.admits_newcomers()).then(|| Problem::new("memory_limit"));
        parts.push(part("memory", Need::Never, full));
        parts.extend(self.webhooks.states().map(|(hook, is_called)| {
            let problem = (!is_called).then(|| Problem::new("circuit_open"));
            part(&format!("{hook}_webhook"), Need::Never, problem)
        }));
        parts
    }

    /// Returns the first problem that keeps the broker from being ready.
    pub(crate) fn not_ready<'a>(&self, parts: &'a [Part]) -> Option<&'a Problem> {
        let is_needed = |part: &&Part| match part.need {
            Need::Always => true,
            Need::Redis => self.settings.ready_requires_redis,
            Need::Never => false,
        };
        parts.iter().filter(is_needed).find_map(|part| part.problem.as_ref())
    }

    /// Describes this replica.
    pub(crate) fn own_status(&self) -> ReplicaStatus {
        let parts = self.parts();
        let is_ready = self.not_ready(&parts).is_none();
        let state_of = |part: Part| (part.name, state(part.problem.as_ref()));
        ReplicaStatus {
            replica: self.replica.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            nodes: u64::try_from(self.metrics.nodes.get()).unwrap_or_default(),
            status: if is_ready { "ready" } else { "not ready" }.to_owned(),
            parts: parts.into_iter().map(state_of).collect(),
        }
    }

    /// Describes all replicas, this one first; and names those that do not reply.
    pub(crate) async fn status(&self) -> (Vec<ReplicaStatus>, Vec<ReplicaId>) {
        let gathered = self.gather(self.own_status(), &Request::Status).await;
        let Gathered { parts, incomplete } = gathered;
        (parts, incomplete)
    }
}
