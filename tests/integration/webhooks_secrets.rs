//! Nothing secret in the log: the program with all hooks, at every level, while they work and
//! while they fail, with a canary in the place of everything that nobody may read.

use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::{Fault, Hook, SOON, enter};

/// A broker process that writes all it has to say into a file.
struct Process {
    child: Child,
    log: tempfile::NamedTempFile,
    address: std::net::SocketAddr,
}

impl Process {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        // One file description for both: they share the place where the next line goes.
        let output = log.reopen().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_crolang-broker"))
            .env_clear()
            .envs(variables.iter().copied())
            .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json")])
            // Proxies of the environment are not the broker's: these would spoil every call.
            .envs([("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9")])
            .envs([("ALL_PROXY", "http://127.0.0.1:9"), ("all_proxy", "http://127.0.0.1:9")])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(log.path()).unwrap();
            if let Some(address) = listening(&text) {
                return Self { child, log, address };
            }
            assert!(began.elapsed() < SOON, "it does not start: {text}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends it and returns all that it wrote.
    async fn end(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").arg(&pid).status().unwrap();
        assert!(sent.success());
        let ended = tokio::time::timeout(2 * SOON, self.child.wait()).await;
        assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

fn listening(log: &str) -> Option<std::net::SocketAddr> {
    let (_, rest) = log.split_once("\"address\":\"")?;
    rest.split_once('"')?.0.parse().ok()
}

/// A yes of every hook, with something in it that is nobody's business.
fn answer() -> Value {
    json!({
        "authenticated": true,
        "authorized": true,
        "iceServers": [{"urls": ["turn:t.example"], "username": "canary", "credential": "canary"}],
        "invalidNodesIds": [],
        "reason": "canary",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_level_shows_a_secret() {
    let levels: Vec<_> = ["0", "1", "2", "3"].map(|level| tokio::spawn(one_level(level))).into();
    for level in levels {
        level.await.unwrap();
    }
}

async fn one_level(level: &str) {
    let hook = Hook::start(|_| answer()).await;
    let url = hook.url("/canary-path?token=canary-query");
    let url = url.replace("http://", "http://canary-user:canary-password@");
    let process = Process::start(&[
        ("LOG_LEVEL", level),
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &url),
        ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &url),
        ("NODES_VALIDITY_CHECK_WEBHOOK_URL", &url),
        ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &url),
        ("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &url),
        ("NODE_EVENTS_WEBHOOK_URL", &url),
        ("NODES_STATUS_CHECK_INTERVAL_MS", "100"),
        ("WEBHOOK_TIMEOUT_MS", "200"),
        ("WEBHOOK_SECRET", "whsec_canarycanarycanarycanarycanarycanary"),
        ("TURN_URLS", "turn:t.example"),
        ("TURN_SECRET", "canary-turn"),
    ])
    .await;
    let query = "&version=1&runtime=r&data=%7B%22token%22%3A%22canary-data%22%7D";
    let address = process.address;
    let mut alice = enter(address, &format!("&id=alice{query}")).await.ok().unwrap();
    let payload = r#"{"to":"bob","content":"canary-content"}"#;
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", payload).await, "[\"NOT_CONNECTED\"]");
    for fault in Fault::ALL {
        hook.fault(*fault, answer()).await;
        let _ = enter(address, &format!("&id=bob{query}")).await;
        alice.ask("SOCKET_MSG_EXCHANGE", payload).await;
        hook.accept().await;
        // Good calls in between: after many failures in a row no more would be made.
        hook.answer(|_| answer());
        let _ = enter(address, &format!("&id=carol{query}")).await;
        alice.ask("SOCKET_MSG_EXCHANGE", payload).await;
    }
    let log = process.end().await;
    assert!(!log.contains("canary"), "{log}");
    assert!(log.contains("webhook call failed"), "failures show at every level: {log}");
    let call = &hook.calls()[0];
    assert!(call.header("authorization").is_some_and(|it| it.starts_with("Basic ")));
    assert_eq!(call.target, "/canary-path?token=canary-query");
}
