//! TURN credentials that a real coturn takes: what a node is told gets it a relay address there.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::support::{Node, SOON, rtc_configuration, start_with_variables, unix_time};

const SECRET: &str = "north wind & sun";

/// How long the client may take: it sends for some seconds once it has its address.
const CLIENT_LIMIT: Duration = Duration::from_secs(20);

/// How often it may be late: UDP loses packets, and this client does not ask again for each.
const CLIENT_TRIES: usize = 3;

/// A TURN server on the loopback address. It knows one secret and no users.
struct TurnServer {
    child: Child,
    log: tempfile::NamedTempFile,
    _folder: tempfile::TempDir,
    port: u16,
}

impl TurnServer {
    /// Starts one on a free port. It cannot choose one itself, so it gets one that was free just
    /// now, and another one if that is taken meanwhile.
    async fn start() -> Self {
        for _ in 0..10 {
            let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut server = Self::spawn(port);
            if server.answers().await {
                return server;
            }
            server.end().await;
        }
        panic!("no TURN server could be started");
    }

    fn spawn(port: u16) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let output = log.reopen().unwrap();
        let child = Command::new("turnserver")
            .args(["-n", "--verbose", "--simple-log", "--log-file", "stdout"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &port.to_string(), "--relay-threads", "1"])
            .args(["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "test"])
            .args(["--allow-loopback-peers", "--no-rfc5780", "--no-cli"])
            .args(["--no-tcp", "--no-tls", "--no-dtls"])
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--userdb")
            .arg(folder.path().join("users"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("turnserver, of the package coturn, is installed");
        Self { child, log, _folder: folder, port }
    }

    /// Waits until it answers a STUN question (RFC 8489, 5); `false` if it never does.
    async fn answers(&mut self) -> bool {
        let binding_request =
            [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() && began.elapsed() < SOON {
            // Refused while nobody listens, which shows at the next call on the socket.
            let _ = socket.send_to(&binding_request, ("127.0.0.1", self.port)).await;
            let mut answer = [0; 1500];
            let answered = socket.recv_from(&mut answer);
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(50), answered).await {
                return answer.starts_with(&[1, 1]) && answer[8..20] == binding_request[8..];
            }
        }
        false
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }

    /// Whether the official client gets an address with these credentials and sends through it.
    async fn relays(&self, username: &str, password: &str) -> bool {
        let peer = Echo::start().await;
        for _ in 0..CLIENT_TRIES {
            let client = Command::new("turnutils_uclient")
                .args(["-c", "-m", "1", "-n", "1", "-u", username, "-w", password])
                .args(["-e", "127.0.0.1", "-r", &peer.port.to_string()])
                .args(["-p", &self.port.to_string(), "127.0.0.1"])
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            if let Ok(output) = tokio::time::timeout(CLIENT_LIMIT, client).await {
                let has_relayed = output.unwrap().status.success();
                assert_eq!(has_relayed, peer.heard.load(Ordering::SeqCst) > 0);
                return has_relayed;
            }
        }
        panic!("the client does not end: {}", self.log());
    }

    async fn end(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Sends back what comes: the other end of what is relayed.
struct Echo {
    port: u16,
    heard: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = heard.clone();
        let task = tokio::spawn(async move {
            let mut packet = [0; 1500];
            loop {
                // Errors are those of earlier packets, whose sender is gone.
                if let Ok((length, from)) = socket.recv_from(&mut packet).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = socket.send_to(&packet[..length], from).await;
                }
            }
        });
        Self { port, heard, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The entries of `iceServers` that a node is told.
async fn ice_servers(address: std::net::SocketAddr, id: &str) -> Vec<Value> {
    let mut node = Node::open(address, &format!("&id={id}&version=1&runtime=r")).await;
    node.send("40").await;
    assert!(node.text().await.starts_with("40{"));
    let configuration: Value =
        serde_json::from_str(&rtc_configuration(&node.text().await)).unwrap();
    configuration["iceServers"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_from_the_broker_get_a_relay_address_from_a_turn_server() {
    let turn = TurnServer::start().await;
    let url = format!("turn:127.0.0.1:{}?transport=udp", turn.port);
    let server = start_with_variables(&[
        ("TURN_URLS", &url),
        ("TURN_SECRET", SECRET),
        ("TURN_CREDENTIAL_TTL_MS", "60000"),
    ])
    .await;
    let servers = ice_servers(server.address(), "alice").await;
    let entry = servers.iter().find(|entry| entry["username"].is_string()).unwrap();
    let urls: Vec<_> = entry["urls"].as_array().unwrap().iter().collect();
    assert_eq!(urls, [url.as_str()]);
    let username = entry["username"].as_str().unwrap();
    let (expiry, id) = username.split_once(':').unwrap();
    assert_eq!(id, "alice");
    let now = unix_time().as_secs();
    let seconds_left = expiry.parse::<u64>().unwrap() - now;
    assert!((50..=60).contains(&seconds_left), "{seconds_left}");
    // The official nodes read `password`, browsers read `credential`.
    let password = entry["password"].as_str().unwrap();
    assert_eq!(entry["credential"], password);

    assert!(turn.relays(username, password).await, "{}", turn.log());
    let granted = format!("user <{username}>: incoming packet ALLOCATE processed, success");
    assert!(turn.log().contains(&granted), "{}", turn.log());
    assert!(!turn.relays(username, "wrong").await);
    let later = format!("{}:alice", expiry.parse::<u64>().unwrap() + 3600);
    assert!(!turn.relays(&later, password).await, "nobody can prolong the credentials");
    assert!(!turn.log().contains(&format!("user <{later}>: incoming packet ALLOCATE")));
    turn.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_server_takes_the_credentials_of_every_id() {
    let turn = TurnServer::start().await;
    let url = format!("turn:127.0.0.1:{}?transport=udp", turn.port);
    let server = start_with_variables(&[("TURN_URLS", &url), ("TURN_SECRET", SECRET)]).await;
    let long = "\u{f6}".repeat(128);
    let ids = [
        "a b",
        "a\"b",
        "it's",
        "a\\b",
        "union select",
        "xUNIONxSELECTx",
        "b\u{f6}b",
        "\u{1f642}",
        "a:b",
        "%41<>~",
        &long,
    ];
    let relays = ids.map(|id| {
        let (turn, address) = (&turn, server.address());
        async move {
            let query: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            let servers = ice_servers(address, &query).await;
            let username = servers[0]["username"].as_str().unwrap();
            let password = servers[0]["password"].as_str().unwrap();
            assert!(turn.relays(username, password).await, "{id}: {}", turn.log());
        }
    });
    futures_util::future::join_all(relays).await;
    turn.end().await;
}

#[tokio::test]
async fn a_secret_in_a_file_and_several_urls() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let urls = ("TURN_URLS", "turn:t.example, turns:t.example:5349?transport=tcp");
    let stun = ("STUN_URLS", "stun:s.example,stun:s2.example");
    let ttl = ("TURN_CREDENTIAL_TTL_MS", "86400000");
    let path = file.path().to_str().unwrap();
    let from_file = start_with_variables(&[urls, stun, ttl, ("TURN_SECRET_FILE", path)]).await;
    let direct = start_with_variables(&[urls, stun, ttl, ("TURN_SECRET", SECRET)]).await;
    let mut servers = Vec::new();
    for server in [&from_file, &direct] {
        let mut told = ice_servers(server.address(), "b%C3%B6b").await;
        let username = told[1]["username"].take();
        assert!(username.as_str().unwrap().ends_with(":b%C3%B6b"), "{username}");
        assert_eq!(told[0]["urls"], serde_json::json!(["stun:s.example", "stun:s2.example"]));
        assert_eq!(told[0].as_object().unwrap().len(), 1, "STUN needs no credentials");
        assert_eq!(told[1]["urls"].as_array().unwrap().len(), 2);
        servers.push((username, told));
    }
    // Made within the same second, they are the same; else only the time differs.
    let [(name, one), (other_name, other)] = servers.try_into().unwrap();
    assert!(name != other_name || one == other);
}
