//! A cluster of three primaries.

use super::{RedisServer, field};
use crate::{Port, SOON, eventually_within};
use tempfile::TempDir;

/// How many hash slots there are: Redis Cluster Specification, "Key distribution model".
const SLOTS: usize = 16_384;

/// Three Redis servers that share the slots among them.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let (a, b, c) = tokio::join!(node(), node(), node());
        let servers = vec![a, b, c];
        for (place, server) in servers.iter().enumerate() {
            let bound = |place| place * SLOTS / servers.len();
            let (first, last) = (bound(place), bound(place + 1) - 1);
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()];
            server.command(&slots);
            // Otherwise they first have to settle which of the equal epochs is the greater.
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]);
        }
        for (place, server) in servers.iter().enumerate() {
            for other in &servers[..place] {
                let bus = other.second_port.as_ref().unwrap().number();
                let (port, bus) = (other.port.to_string(), bus.to_string());
                server.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let cluster = Self { servers };
        cluster.until_it_is_whole().await;
        cluster
    }

    /// Waits until every node says that all slots are served.
    pub async fn until_it_is_whole(&self) {
        eventually_within(4 * SOON, "the cluster is whole", || {
            self.servers.iter().all(|server| {
                let info = server.command(&["CLUSTER", "INFO"]);
                field(&info, "cluster_state") == Some("ok")
                    && field(&info, "cluster_size") == Some("3")
                    && field(&info, "cluster_known_nodes") == Some("3")
            })
        })
        .await;
    }

    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// The names of all keys that match, on whatever node.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.servers.iter().flat_map(|server| server.keys(pattern)).collect()
    }
}

async fn node() -> RedisServer {
    let bus = Port::free();
    let number = bus.number().to_string();
    let arguments = [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &number],
        // Long enough that a busy machine is not taken for a dead one.
        ["--cluster-node-timeout", "3000"],
    ]
    .concat();
    RedisServer::launch(TempDir::new().unwrap(), Some(bus), &arguments).await
}
