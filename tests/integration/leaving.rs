//! Ways out: whichever a node takes, its ID is free again at once and nothing of it stays.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Node, back_at_the_start, eventually, frame, metric, start, start_with, upgrade_request,
};

/// How fast an ID must be free: promised are 100 ms; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_free_at_once_after_every_kind_of_end() {
    // Without probing: a stale lease shows itself as a refusal.
    let server = start_with(|config| {
        config.broker.duplicate_id_policy = crolang_broker::DuplicateIdPolicy::Reject;
    })
    .await;
    let ends: [&[u8]; 4] = [
        &frame(0x88, &[3, 232]),
        &frame(0x81, b"41"),
        &frame(0x81, b"1"),
        &frame(0x81, b"no packet"),
    ];
    for round in 0..50 {
        let mut node = Node::connect(server.address(), "a").await;
        match ends.get(round % 6) {
            Some(end) => {
                node.send_bytes(end).await;
                node.end().await;
            }
            None if round % 6 == 4 => drop(node),
            None => {
                socket2::SockRef::from(&node.stream).set_linger(Some(Duration::ZERO)).unwrap();
                drop(node);
            }
        }
        let began = Instant::now();
        eventually("the ID is free", || metric(&server, "crolang_nodes") == 0.0).await;
        assert!(began.elapsed() < AT_ONCE, "round {round}: {:?}", began.elapsed());
    }
    back_at_the_start(&server).await;
    assert_eq!(metric(&server, "crolang_admissions_total"), 50.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_byte_leaves_nothing() {
    let server = start().await;
    let mut bytes = upgrade_request("&id=a&version=1&runtime=r").into_bytes();
    bytes.extend(frame(0x81, b"40"));
    bytes.extend(frame(0x81, br#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"a\"}"]"#));
    let mut connections = tokio::task::JoinSet::new();
    for cut in 0..=bytes.len() {
        let (address, bytes) = (server.address(), bytes.replace_id(&format!("n{cut}")));
        connections.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let part = &bytes[..cut.min(bytes.len())];
            // The server may have closed already.
            let _ = stream.write_all(part).await;
            if cut % 2 == 0 {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            tokio::time::sleep(Duration::from_millis(cut as u64 % 5)).await;
        });
    }
    while connections.join_next().await.is_some() {}
    back_at_the_start(&server).await;
}

trait ReplaceId {
    fn replace_id(&self, id: &str) -> Vec<u8>;
}

impl ReplaceId for Vec<u8> {
    fn replace_id(&self, id: &str) -> Vec<u8> {
        let at = self.windows(5).position(|window| window == b"&id=a").unwrap();
        [&self[..at], format!("&id={id}").as_bytes(), &self[at + 5..]].concat()
    }
}

#[tokio::test]
async fn a_missed_heartbeat_ends_the_connection() {
    let server = start_with(|config| {
        config.transport.ping_interval = Duration::from_millis(200);
        config.transport.ping_timeout = Duration::from_millis(300);
    })
    .await;
    let live = Node::connect(server.address(), "live").await.live();
    let mut silent = Node::connect(server.address(), "silent").await;
    silent.end().await;
    eventually("only the live one is left", || metric(&server, "crolang_nodes") == 1.0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!live.is_over(), "heartbeats are answered");
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_closed_after_five_seconds() {
    let server = start().await;
    let began = Instant::now();
    let mut strangers = tokio::task::JoinSet::new();
    for part in ["", "G", "GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let address = server.address();
        strangers.spawn(async move { crate::support::exchange(address, part.as_bytes()).await });
    }
    while let Some(answer) = strangers.join_next().await {
        assert!(!answer.unwrap().contains("200 OK"));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    back_at_the_start(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_while_it_is_being_authenticated_leaves_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let server = start_with(|config| {
        let set =
            |name: &str| (name == "NODES_AUTHENTICATION_WEBHOOK_URL").then(|| url.clone().into());
        config.webhooks = crolang_broker::Config::read(set).unwrap().webhooks;
    })
    .await;
    for reset in [false, true] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(upgrade_request("&id=a&version=1&runtime=r").as_bytes()).await.unwrap();
        // The question is out, and nobody answers it.
        let (_question, _) = silent.accept().await.unwrap();
        let linger = reset.then_some(Duration::ZERO);
        socket2::SockRef::from(&stream).set_linger(linger).unwrap();
        drop(stream);
        let began = Instant::now();
        eventually("no link is left", || server.connections() == 0).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    assert_eq!(metric(&server, "crolang_admissions_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_sends_before_it_closes_is_relayed() {
    let server = start().await;
    let mut bob = Node::connect(server.address(), "bob").await;
    for close in [frame(0x88, &[3, 232]), frame(0x81, b"41"), frame(0x81, b"1")] {
        let mut alice = Node::connect(server.address(), "alice").await;
        let message = |n| {
            format!(
                r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n},\"s\":\"{0:200}\"}}"]"#,
                ""
            )
        };
        let mut all: Vec<u8> = (0..50).flat_map(|n| frame(0x81, message(n).as_bytes())).collect();
        all.extend(close);
        alice.send_bytes(&all).await;
        for n in 0..50 {
            assert_eq!(bob.text().await, message(n));
        }
        alice.end().await;
        eventually("the ID is free", || metric(&server, "crolang_nodes") == 1.0).await;
    }
    drop(bob);
    back_at_the_start(&server).await;
}
