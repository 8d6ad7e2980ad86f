//! A primary, its replica, and three sentinels that put the one in the place of the other.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::{RedisServer, field};
use crate::{SOON, eventually_within};

/// How many sentinels there are, and how many of them must agree that the primary is down.
const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// Two Redis servers and the sentinels that watch over them, under the name [`Sentinels::NAME`].
pub struct Sentinels {
    /// The first is the primary at the start.
    pub servers: [RedisServer; 2],
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    pub const NAME: &str = "mymaster";

    pub async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port.to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        eventually_within(2 * SOON, "the replica has all", || {
            field(&replica.command(&["INFO", "replication"]), "master_link_status") == Some("up")
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            sentinels.push(sentinel(primary.port).await);
        }
        let all = Self { servers: [primary, replica], sentinels };
        eventually_within(4 * SOON, "the sentinels know each other", || all.are_ready()).await;
        all
    }

    /// Whether a fail-over can begin: every sentinel knows the others and the replica.
    fn are_ready(&self) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let known = sentinel.command(&["SENTINEL", "MASTER", Self::NAME]);
            let value = |name| known.lines().skip_while(|line| *line != name).nth(1);
            value("num-other-sentinels") == Some(&(SENTINELS - 1).to_string())
                && value("num-slaves") == Some("1")
                && value("flags") == Some("master")
        })
    }

    /// Where the sentinels listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(RedisServer::address).collect()
    }

    /// What all sentinels say where the primary is, if they agree.
    pub fn primary_address(&self) -> Option<SocketAddr> {
        let mut answers = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]));
        let first = answers.next()?;
        let (host, port) = first.split_once('\n')?;
        answers.all(|answer| answer == first).then(|| format!("{host}:{port}").parse().unwrap())
    }

    /// Kills the primary of this moment without a warning; returns where it was.
    pub fn kill_primary(&mut self) -> SocketAddr {
        let address = self.primary_address().expect("the sentinels agree");
        let mut servers = self.servers.iter_mut();
        servers.find(|server| server.address() == address).unwrap().kill();
        address
    }

    /// Waits until all sentinels name another primary than this, and it is one.
    pub async fn until_replaced(&self, old: SocketAddr) {
        eventually_within(4 * SOON, "another primary", || {
            let new = self.primary_address().filter(|address| *address != old);
            let new = self.servers.iter().find(|server| Some(server.address()) == new);
            new.is_some_and(|server| server.command(&["ROLE"]).starts_with("master"))
        })
        .await;
    }
}

async fn sentinel(primary_port: u16) -> RedisServer {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sentinel.conf");
    let name = Sentinels::NAME;
    // Sentinels write into this file what they learn.
    let text = format!(
        "sentinel monitor {name} 127.0.0.1 {primary_port} {QUORUM}\n\
         sentinel down-after-milliseconds {name} 500\n\
         sentinel failover-timeout {name} 3000\n"
    );
    std::fs::write(&file, text).unwrap();
    let sentinel = RedisServer::launch(folder, None, &[file.to_str().unwrap(), "--sentinel"]).await;
    // Milliseconds. The periods are 1 to 10 seconds otherwise, and a sentinel that was off the
    // processor for 2 seconds would do nothing for 30.
    let settings = [
        ("info-period", "500"),
        ("publish-period", "200"),
        ("ask-period", "200"),
        ("tilt-trigger", "60000"),
    ];
    for (period, ms) in settings {
        if let Err(error) = sentinel.try_command(&["SENTINEL", "DEBUG", period, ms]) {
            // Before 7.0 it cannot be told, and takes its time.
            assert!(error.contains("Unknown subcommand"), "{error}");
        }
    }
    sentinel
}
