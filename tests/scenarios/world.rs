//! What a run happens in: replicas as processes, each with a way to Redis and a way to its nodes that can
//! fail, one Redis server and one webhook server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use test_support::{Port, Proxy, RedisServer, SOON, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authorizer::Authorizer;
use crate::process::{Holdings, Process};

const REPLICAS: usize = 3;

/// How long leases live. A busy machine that keeps a replica from running for two thirds of it cuts it
/// off like any other fault, but nobody here would know.
pub const TTL: Duration = Duration::from_millis(8_000);

pub struct World {
    pub redis: RedisServer,
    pub authorizer: Authorizer,
    pub replicas: Vec<Replica>,
}

/// A replica in a process of its own.
pub struct Replica {
    pub process: Process,
    /// Its way to Redis.
    pub link: Proxy,
    /// The way to it: nodes connect here.
    pub front: Proxy,
    variables: Vec<(String, String)>,
    port: Port,
    /// What it holds when nobody is there.
    at_rest: Holdings,
}

impl World {
    pub async fn start() -> Self {
        let redis = RedisServer::start().await;
        let authorizer = Authorizer::start().await;
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            replicas.push(Replica::start(&redis, &authorizer).await);
        }
        // Each of them knows the others by now.
        for replica in &mut replicas {
            replica.at_rest = replica.process.holdings_at_rest().await;
        }
        Self { redis, authorizer, replicas }
    }

    /// Where nodes connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.front.address()).collect()
    }

    pub async fn until_ready(&self) {
        for replica in &self.replicas {
            replica.until_ready().await;
        }
    }

    /// Waits until nothing is left of the nodes that were there.
    pub async fn is_back_at_the_start(&mut self) {
        eventually("no leases", || self.redis.keys("crolang:node:*").is_empty()).await;
        for replica in &mut self.replicas {
            replica.process.until_it_holds(replica.at_rest).await;
            let log = replica.process.log();
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

impl Replica {
    async fn start(redis: &RedisServer, authorizer: &Authorizer) -> Self {
        let (link, port) = (Proxy::start(redis.address()).await, Port::free());
        let variables = [
            ("REDIS_URL", format!("redis://{}", link.address())),
            ("REDIS_LOCK_TTL_MS", TTL.as_millis().to_string()),
            ("PORT", port.number().to_string()),
            ("PING_INTERVAL_MS", "2000".to_owned()),
            ("PING_TIMEOUT_MS", "2000".to_owned()),
            ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", authorizer.url()),
            ("WEBHOOK_TIMEOUT_MS", "2000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let process = spawn(&variables).await;
        let front = Proxy::start(port.address()).await;
        let at_rest = process.holdings().await;
        let replica = Self { process, link, front, variables, port, at_rest };
        replica.until_ready().await;
        replica
    }

    /// Starts a process in place of the one that has ended.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.variables).await;
    }

    /// Ends the process in order, and starts another one.
    pub async fn restart(&mut self) {
        self.process.signal("TERM");
        let code = self.process.exit_code().await;
        assert_eq!(code, Some(0), "{}", self.process.log());
        self.start_again().await;
    }

    async fn until_ready(&self) {
        let began = Instant::now();
        while !get(self.port.address(), "/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(began.elapsed() < 2 * SOON, "not ready: {}", self.process.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn spawn(variables: &[(String, String)]) -> Process {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    Process::start(&variables).await
}

/// The response to a GET, with its head; empty if there is none.
pub async fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        std::io::Result::Ok(response)
    };
    exchange.await.unwrap_or_default()
}
