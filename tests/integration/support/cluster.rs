//! Replicas that share one Redis server, and clients that take whatever happens to them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crolang_broker::Server;
use rand::SeedableRng;
use rand::rngs::StdRng;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{
    Port, Process, Proxy, RedisServer, SOON, frame, get, start_with_variables, upgrade_request,
};

/// Replicas in this process, all with these variables besides the Redis server's URL.
pub async fn start_replicas(
    count: usize,
    redis: &RedisServer,
    variables: &[(&str, &str)],
) -> Vec<Server> {
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(start_replica(&redis.url(), variables).await);
    }
    replicas
}

/// A replica in this process that reaches Redis at this URL.
pub async fn start_replica(redis_url: &str, variables: &[(&str, &str)]) -> Server {
    let variables = [&[("REDIS_URL", redis_url)], variables].concat();
    let server = start_with_variables(&variables).await;
    until_ready(server.address()).await;
    server
}

/// The URL of a Redis server that is reached through a proxy.
pub fn url_through(proxy: &Proxy) -> String {
    format!("redis://{}", proxy.address())
}

/// Waits until a replica admits nodes.
pub async fn until_ready(address: SocketAddr) {
    let began = Instant::now();
    while !get(address, "/readyz").await.starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < 2 * SOON, "not in time: nodes are admitted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A replica in a process of its own that reaches Redis through a proxy of its own.
pub struct Replica {
    /// Its way to Redis.
    pub link: Proxy,
    pub process: Process,
    port: Port,
    variables: Vec<(String, String)>,
}

impl Replica {
    pub async fn start(redis: &RedisServer, variables: &[(&str, &str)]) -> Self {
        let link = Proxy::start(redis.address()).await;
        let port = Port::free();
        let (url, number) = (url_through(&link), port.number().to_string());
        let all = [&[("REDIS_URL", url.as_str()), ("PORT", &number)], variables].concat();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let process = Process::start(&all).await;
        let replica = Self { link, process, port, variables: all.iter().map(own).collect() };
        until_ready(replica.address()).await;
        replica
    }

    /// Where it listens, also after it was restarted.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills it and starts it again on the same port; to the others it is a new one.
    pub async fn restart(&mut self) {
        self.process.kill();
        let borrowed = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = borrowed.collect();
        self.process = Process::start(&variables).await;
    }
}

/// Random numbers for a run with faults, from `CHAOS_SEED` if that is set. The seed is told, so
/// that a run that fails can be run again.
pub fn seeded() -> StdRng {
    let given = std::env::var("CHAOS_SEED").ok();
    let seed =
        given.map_or_else(rand::random, |seed| seed.parse().expect("CHAOS_SEED is a number"));
    println!("CHAOS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A client that may be cut at any point: nothing that happens to its connection is a failure.
pub struct Client {
    stream: TcpStream,
    heard: String,
    asked: u64,
}

/// Why a client did not get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptOut {
    /// For good: `connect_error`.
    Refused(String),
    /// For now: 503.
    Unavailable(String),
    /// The connection ended, or nothing came in time.
    Lost,
}

impl Client {
    /// Connects a node, as far as that goes within `limit`.
    pub async fn enter(address: SocketAddr, id: &str, limit: Duration) -> Result<Self, KeptOut> {
        timeout(limit, Self::try_enter(address, id)).await.unwrap_or(Err(KeptOut::Lost))
    }

    async fn try_enter(address: SocketAddr, id: &str) -> Result<Self, KeptOut> {
        let mut client = Self::begin(address, id).await?;
        client.until(|heard| heard.contains("\r\n\r\n")).await?;
        if !client.heard.starts_with("HTTP/1.1 101 ") {
            return Err(match client.heard.starts_with("HTTP/1.1 503 ") {
                true => KeptOut::Unavailable(client.heard),
                false => panic!("{}", client.heard),
            });
        }
        client.send("40").await?;
        let is_decided = |heard: &str| heard.contains("42[\"AUTHEN") || heard.contains("44{");
        client.until(is_decided).await?;
        match client.heard.find("44{") {
            Some(refusal) => Err(KeptOut::Refused(client.heard[refusal..].to_owned())),
            None => Ok(client),
        }
    }

    /// Connects and sends the request for an upgrade.
    pub async fn begin(address: SocketAddr, id: &str) -> Result<Self, KeptOut> {
        let stream = TcpStream::connect(address).await.map_err(|_| KeptOut::Lost)?;
        let mut client = Self { stream, heard: String::new(), asked: 0 };
        let request = upgrade_request(&format!("&id={id}&version=1&runtime=r"));
        client.stream.write_all(request.as_bytes()).await.map_err(|_| KeptOut::Lost)?;
        Ok(client)
    }

    /// Sends one text frame.
    pub async fn send(&mut self, text: &str) -> Result<(), KeptOut> {
        let bytes = frame(0x81, text.as_bytes());
        self.stream.write_all(&bytes).await.map_err(|_| KeptOut::Lost)
    }

    /// Sends an event that gets an answer from the replica that serves the node. Returns when it was sent:
    /// at that time the connection was alive.
    pub async fn ask(&mut self) -> Option<Instant> {
        self.asked += 1;
        self.heard.clear();
        let sent = Instant::now();
        let question = format!("42{}[\"SOCKET_MSG_EXCHANGE\",\"{{}}\"]", self.asked);
        self.send(&question).await.ok()?;
        let answer = format!("43{}[\"ERROR\"]", self.asked);
        let answered = timeout(2 * SOON, self.until(|heard| heard.contains(&answer)));
        answered.await.is_ok_and(|answered| answered.is_ok()).then_some(sent)
    }

    /// Reads until what was heard is as wanted.
    async fn until(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<(), KeptOut> {
        while !is_wanted(&self.heard) {
            let mut bytes = [0; 1024];
            match self.stream.read(&mut bytes).await {
                // All that is looked for is ASCII.
                Ok(count @ 1..) => self.heard += &String::from_utf8_lossy(&bytes[..count]),
                _ => return Err(KeptOut::Lost),
            }
        }
        Ok(())
    }

    /// Leaves by a reset.
    pub fn reset(self) {
        // It may be gone already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
