//! Which STUN and TURN servers does this node get? Called once for each connected node.
//!
//! Policy: the last good configuration, or what `RTC_FALLBACK` says; the broker decides.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use moka::sync::Cache;
use serde::Serialize;

use super::fair_queue::network;
use super::{CallError, Hook, Reply};
use crate::node::NodeId;
use crate::protocol::RtcConfiguration;

/// The most nodes whose last answer is cached.
const MAX_CACHED: u64 = 10_000;

/// The RTC configuration webhook, with the last answer for each node.
pub(crate) struct RtcConfigurations {
    hook: Hook,
    by_node: Cache<NodeId, RtcConfiguration>,
    latest: Mutex<Option<RtcConfiguration>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    node_id: &'a str,
}

impl RtcConfigurations {
    pub(super) fn new(hook: Hook) -> Self {
        Self { hook, by_node: Cache::new(MAX_CACHED), latest: Mutex::default() }
    }

    /// The configuration for `node` at this address, bare or under `rtcConfiguration`.
    ///
    /// # Errors
    /// [`CallError`] if there is none that a node could use.
    pub(crate) async fn ask(
        &self,
        node: &NodeId,
        address: IpAddr,
    ) -> Result<RtcConfiguration, CallError> {
        let request = Request { node_id: node.as_str() };
        let configuration = self.hook.call(network(address), &request, read).await?;
        self.by_node.insert(node.clone(), configuration.clone());
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(configuration.clone());
        Ok(configuration)
    }

    /// The last good answer for `node`, or else for any node.
    pub(crate) fn last(&self, node: &NodeId) -> Option<RtcConfiguration> {
        let latest = || self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.by_node.get(node).or_else(latest)
    }
}

fn read(reply: Reply<'_>) -> Result<RtcConfiguration, CallError> {
    let configuration = reply.field("rtcConfiguration")?.map_or(reply.as_bytes(), str::as_bytes);
    let configuration = serde_json::from_slice(configuration)
        .map_err(|_| CallError::Malformed("an RTC configuration"))?;
    Ok(RtcConfiguration::from_json(configuration)?)
}
