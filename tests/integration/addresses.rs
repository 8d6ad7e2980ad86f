//! What one address may do, so that it takes no service from the others; and what is served even if
//! every place is taken.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crolang_broker::Server;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{
    Hook, Node, PEERS, Process, SOON, Web, connect_from, eventually, exchange, get, metric, start,
    start_with_variables, upgrade_request,
};

/// An upgraded connection from 127.0.0.`source`, or the answer that was no upgrade.
async fn node_from(source: u8, address: SocketAddr, id: &str) -> Result<Node, String> {
    let stream = connect_from(source, address).await;
    Node::over(stream, request(id, "").as_bytes()).await
}

fn request(id: &str, headers: &str) -> String {
    let request = upgrade_request(&format!("&id={id}&version=1&runtime=r"));
    request.replace("Host: broker\r\n", &format!("Host: broker\r\n{headers}"))
}

fn rejections(server: &Server, cause: &str) -> f64 {
    metric(server, &format!("crolang_rejections_total{{cause=\"{cause}\"}}"))
}

/// Asserts that somebody was told to retry later.
fn is_put_off(answer: Result<Node, String>) {
    let answer = answer.err().expect("it is rejected").to_lowercase();
    assert!(answer.starts_with("http/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 2\r\n"), "{answer}");
}

#[tokio::test]
async fn connections_of_an_address_are_limited() {
    let server = start_with_variables(&[("MAX_CONNECTIONS_PER_ADDRESS", "2")]).await;
    let address = server.address();
    let first = node_from(2, address, "a").await.unwrap();
    let _second = node_from(2, address, "b").await.unwrap();
    is_put_off(node_from(2, address, "c").await);
    assert_eq!(rejections(&server, "address_max_connections"), 1.0);
    let _other = node_from(3, address, "c").await.unwrap();
    drop(first);
    eventually("a permit is free", || server.connections() == 2).await;
    node_from(2, address, "d").await.unwrap();
}

#[tokio::test]
async fn an_address_takes_a_quarter_of_many_places_and_all_of_few() {
    let server = start_with_variables(&[("MAX_CONNECTIONS", "440")]).await;
    let mut nodes = Vec::new();
    for n in 0..110 {
        nodes.push(node_from(2, server.address(), &format!("a{n}")).await.unwrap());
    }
    is_put_off(node_from(2, server.address(), "b").await);
    Node::connect(server.address(), "b").await;
}

#[tokio::test]
async fn clients_of_a_proxy_have_their_own_permits() {
    let proxied = ("TRUSTED_PROXIES", "127.0.0.1");
    let server = start_with_variables(&[proxied, ("MAX_CONNECTIONS_PER_ADDRESS", "1")]).await;
    let node = async |id: &str, client: &str| {
        let header = format!("X-Forwarded-For: {client}\r\n");
        Node::request(server.address(), request(id, &header).as_bytes()).await
    };
    let one = node("a", "192.0.2.1").await.unwrap();
    let _other = node("b", "192.0.2.2").await.unwrap();
    is_put_off(node("c", "192.0.2.1").await);
    let _network = node("d", "2001:db8::1").await.unwrap();
    is_put_off(node("e", "2001:db8::2").await);
    drop(one);
    eventually("a permit is free", || metric(&server, "crolang_nodes") == 2.0).await;
    eventually("no link is left", || server.connections() <= 2).await;
    node("c", "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn connects_of_an_address_are_limited() {
    let limit = ("MAX_CONNECTS_PER_SECOND_PER_ADDRESS", "2");
    let server = start_with_variables(&[limit]).await;
    let began = Instant::now();
    let mut answer = Ok(());
    let mut let_in = 0;
    while answer.is_ok() {
        answer = node_from(2, server.address(), &format!("a{let_in}")).await.map(drop);
        let_in += 1;
    }
    // Ten at once, and two more for each second that this takes.
    let allowed = 11 + 2 * began.elapsed().as_secs();
    assert!((11..=allowed + 1).contains(&let_in), "{let_in}");
    assert!(answer.unwrap_err().starts_with("HTTP/1.1 429 "));
    assert!(rejections(&server, "address_max_connects") >= 1.0);
    node_from(3, server.address(), "b").await.unwrap();
    let again = async { while node_from(2, server.address(), "c").await.is_err() {} };
    tokio::time::timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn unfinished_heads_of_an_address_are_limited() {
    let server = start_with_variables(&[("MAX_UNFINISHED_HEADS_PER_ADDRESS", "2")]).await;
    let address = server.address();
    let mut half = Vec::new();
    for _ in 0..2 {
        let mut web = Web::over(connect_from(2, address).await);
        web.write(b"GET /health HTTP/1.1\r\n").await;
        half.push(web);
    }
    eventually("both are there", || server.connections() == 2).await;
    is_put_off(node_from(2, address, "a").await);
    assert_eq!(rejections(&server, "address_max_unfinished_heads"), 1.0);
    node_from(3, address, "a").await.unwrap();
    half[0].write(b"Host: b\r\n\r\n").await;
    assert_eq!(half[0].answer().await.unwrap().status, 200);
    node_from(2, address, "b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_logins_holds_up_no_other_address() {
    let hook = Hook::start(|_| json!({"authenticated": true})).await;
    hook.hold();
    let server = start_with_variables(&[
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &hook.url("/")),
        ("MAX_ADMISSIONS_PER_ADDRESS", "2"),
    ])
    .await;
    let address = server.address();
    let storm: Vec<_> = (0..30)
        .map(|n| tokio::spawn(async move { node_from(2, address, &format!("a{n}")).await }))
        .collect();
    // Two are asked about, sixteen wait, the others are put off.
    let cause = "address_max_admissions";
    eventually("too many are put off", || rejections(&server, cause) == 12.0).await;
    hook.called(2).await;
    let other = tokio::spawn(async move { node_from(3, address, "b").await });
    hook.called(3).await;
    assert_eq!(hook.in_flight(), 3);
    hook.release();
    other.await.unwrap().unwrap();
    let (mut let_in, mut put_off) = (Vec::new(), 0);
    for answer in join_all(storm).await {
        match answer.unwrap() {
            Ok(node) => let_in.push(node),
            Err(answer) => put_off += usize::from(answer.starts_with("HTTP/1.1 429 ")),
        }
    }
    assert_eq!((let_in.len(), put_off), (18, 12));
    assert_eq!(hook.most_in_flight(), 3);
}

#[tokio::test]
async fn a_failed_authentication_is_remembered_for_a_moment() {
    let hook = Hook::start(|_| json!({"authenticated": false})).await;
    let url = hook.url("/");
    let start = async |ttl| {
        start_with_variables(&[
            ("NODES_AUTHENTICATION_WEBHOOK_URL", &url),
            ("AUTHENTICATION_FAILURE_CACHE_TTL_MS", ttl),
        ])
        .await
    };
    let server = start("300").await;
    let knock = async |source, data: &str| {
        let query = format!("&id=a&version=1&runtime=r&data={data}");
        let stream = connect_from(source, server.address()).await;
        let mut node = Node::over(stream, upgrade_request(&query).as_bytes()).await.unwrap();
        node.send("40").await;
        assert_eq!(node.text().await, r#"44{"message":"authentication failed"}"#);
        hook.count()
    };
    assert_eq!(knock(1, "x").await, 1);
    // The webhook is asked about other data, and about others.
    assert_eq!(knock(1, "y").await, 2);
    assert_eq!(knock(2, "x").await, 3);
    let asked_again = async { while knock(1, "x").await == 3 {} };
    tokio::time::timeout(SOON, asked_again).await.unwrap();
    let cached = "crolang_webhook_calls_total{hook=\"authentication\",outcome=\"cached\"}";
    knock(1, "x").await;
    assert!(metric(&server, cached) >= 1.0);

    let server = start("0").await;
    let before = hook.count();
    for _ in 0..2 {
        let mut node = Node::open(server.address(), "&id=a&version=1&runtime=r").await;
        node.send("40").await;
        node.text().await;
    }
    assert_eq!(hook.count(), before + 2);
}

#[tokio::test]
async fn banned_addresses_get_nothing() {
    let server = start_with_variables(&[
        ("BANNED_ADDRESSES", "127.0.0.2, 192.0.2.0/24"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ])
    .await;
    let mut banned = connect_from(2, server.address()).await;
    let _ = banned.write_all(b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n").await;
    assert_eq!(Web::over(banned).end().await, "");
    assert_eq!(rejections(&server, "banned_address"), 1.0);
    let forwarded = request("a", "X-Forwarded-For: 192.0.2.77\r\n");
    let answer = exchange(server.address(), forwarded.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(rejections(&server, "banned_address"), 2.0);
    Node::connect(server.address(), "a").await;
}

#[tokio::test]
async fn pages_of_other_origins_open_no_websocket() {
    let allowed = ("ALLOWED_ORIGINS", "https://a.test");
    let server = start_with_variables(&[allowed, ("PEER_RELAY_PATH", PEERS)]).await;
    let address = server.address();
    for (path, cause) in [("/socket.io/?", 1.0), (&format!("{PEERS}?"), 2.0)] {
        let evil = request("a", "Origin: https://b.test\r\nConnection: close\r\n");
        let answer = exchange(address, evil.replace("/socket.io/?", path).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("origin_not_allowed"), "{answer}");
        assert_eq!(rejections(&server, "origin_not_allowed"), cause);
    }
    let good = request("a", "Origin: https://a.test\r\n");
    Node::request(address, good.as_bytes()).await.unwrap();
    Node::connect(address, "b").await;
}

#[tokio::test]
async fn channels_of_an_address_are_limited() {
    let server = start_with_variables(&[
        ("PEER_RELAY_PATH", PEERS),
        ("PEER_RELAY_MAX_CHANNELS_PER_ADDRESS", "1"),
    ])
    .await;
    let open = async |source| {
        let mut web = Web::over(connect_from(source, server.address()).await);
        web.write(request("x", "").replace("/socket.io/?", &format!("{PEERS}?")).as_bytes()).await;
        let status = web.head().await.unwrap().status;
        (web, status)
    };
    let (first, status) = open(2).await;
    assert_eq!(status, 101);
    assert_eq!(open(2).await.1, 429);
    assert_eq!(rejections(&server, "address_max_channels"), 1.0);
    assert_eq!(open(3).await.1, 101);
    drop(first);
    let again = async { while open(2).await.1 != 101 {} };
    tokio::time::timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn health_is_answered_when_every_place_is_taken() {
    let server = start_with_variables(&[("MAX_CONNECTIONS", "1")]).await;
    let _node = Node::connect(server.address(), "a").await;
    for _ in 0..20 {
        assert!(get(server.address(), "/health").await.starts_with("HTTP/1.1 200 "));
        let answer = get(server.address(), "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let refused = Node::try_connect(server.address(), "b").await.err().unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn operators_have_a_listener_of_their_own() {
    let server =
        start_with_variables(&[("INTERNAL_ADDR", "127.0.0.1:0"), ("MAX_CONNECTIONS", "1")]).await;
    let internal = server.internal_address().unwrap();
    let _node = Node::connect(server.address(), "a").await;
    for path in ["/metrics", "/readyz", "/health"] {
        assert!(get(internal, path).await.starts_with("HTTP/1.1 200 "), "{path}");
    }
    let upgrade = Node::request(internal, request("b", "").as_bytes()).await.err().unwrap();
    assert!(upgrade.starts_with("HTTP/1.1 404 "), "{upgrade}");

    let server = start_with_variables(&[("INTERNAL_ADDR", "127.0.0.1:0")]).await;
    for path in ["/metrics", "/readyz"] {
        assert!(get(server.address(), path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(get(server.address(), "/health").await.starts_with("HTTP/1.1 200 "));
    let without = start().await;
    assert!(without.internal_address().is_none());
    assert!(get(without.address(), "/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_descriptors_for_everything_else() {
    let broker = Process::start_with_descriptors(64, &[]).await;
    let places = broker.logged("connections possible").unwrap();
    assert_eq!(places["connections"], 40);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(connect_from(2, broker.address).await);
    }
    // Places for this are few, and each is free a moment after its answer.
    for _ in 0..10 {
        let health = async { while !get(broker.address, "/health").await.contains(" 200 OK") {} };
        tokio::time::timeout(Duration::from_secs(1), health).await.unwrap();
    }
    assert!(broker.logged("connections could not be accepted").is_none());
    drop(held);
    let again = async { while Node::try_connect(broker.address, "a").await.is_err() {} };
    tokio::time::timeout(SOON, again).await.unwrap();
}
