//! Connections that carry ordinary requests: kept ones, slow ones, ones that a drain meets.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;

use crate::discovery::{offer, start_discovery};
use crate::support::{Node, SOON, Web, eventually};

/// Longer than the head of a request may take, so that the two cannot be confused.
const IDLE_TIMEOUT: (&str, &str) = ("HTTP_IDLE_TIMEOUT_MS", "7000");

#[tokio::test]
async fn a_connection_on_which_nobody_asks_is_closed() {
    let server = start_discovery(&[IDLE_TIMEOUT]).await;
    let mut web = Web::open(server.address()).await;
    for _ in 0..3 {
        assert_eq!(web.get("/").await.status, 200);
    }
    let began = Instant::now();
    assert_eq!(web.end().await, "");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(20), "{took:?}");
    eventually("no links", || server.connections() == 0).await;
}

#[tokio::test]
async fn idle_connections_give_up_their_places_when_most_are_taken() {
    let server = start_discovery(&[("HTTP_IDLE_TIMEOUT_MS", "3600000"), ("MAX_CONNECTIONS", "8")]);
    let server = server.await;
    let mut kept = Vec::new();
    for _ in 0..6 {
        let mut web = Web::open(server.address()).await;
        assert_eq!(web.get("/").await.status, 200);
        kept.push(web);
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(server.connections(), 6, "three quarters of the places may be taken");
    let _nodes =
        [Node::connect(server.address(), "a").await, Node::connect(server.address(), "b").await];
    eventually("places for others", || server.connections() <= 6).await;
}

#[tokio::test]
async fn a_head_that_is_begun_must_come_soon() {
    let server = start_discovery(&[("HTTP_IDLE_TIMEOUT_MS", "3600000")]).await;
    let mut first = Web::open(server.address()).await;
    first.write(b"GET / HTTP/1.1\r\nHost: ").await;
    let mut kept = Web::open(server.address()).await;
    assert_eq!(kept.get("/").await.status, 200);
    kept.write(b"GET / HTTP/1.1\r\nHost: ").await;
    let began = Instant::now();
    for mut web in [first, kept] {
        web.end().await;
        let took = began.elapsed();
        assert!(took > Duration::from_secs(3) && took < Duration::from_secs(15), "{took:?}");
    }
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_not_idle() {
    let server = start_discovery(&[("HTTP_IDLE_TIMEOUT_MS", "100")]).await;
    let mut offerer = Web::open(server.address()).await;
    let code = offer(&mut offerer, "t", "o").await;
    let mut web = Web::open(server.address()).await;
    let answer = web.post("/poll", &json!({"code": code, "side": "offerer", "wait": 1000})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(web.end().await, "");
}

#[tokio::test]
async fn requests_in_one_segment_are_answered_in_order() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let one = |topic: &str| format!("GET /{topic}/sessions HTTP/1.1\r\nHost: b\r\n\r\n");
    let body = json!({"info": "i", "offer": "o"}).to_string();
    let post = format!(
        "POST /a/offer HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    web.write([one("a"), post, one("a"), one("b")].concat().as_bytes()).await;
    let mut counts = Vec::new();
    for _ in 0..4 {
        let answer = web.answer().await.unwrap().json();
        counts.push(answer["sessions"].as_array().map(Vec::len));
    }
    assert_eq!(counts, [Some(0), None, Some(1), Some(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_costs_only_its_sender() {
    let server = start_discovery(&[("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0")]).await;
    let address = server.address();
    let began = Instant::now();
    let slow: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn(async move {
                let mut web = Web::open(address).await;
                web.send("POST", "/t/offer", "Content-Length: 1000\r\n", "{").await;
                let trickle = async {
                    loop {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        web.write(b" ").await;
                    }
                };
                // Until the deadline, with some time to spare.
                let _ = tokio::time::timeout(Duration::from_secs(9), trickle).await;
                web.answer().await.map(|answer| (answer.status, answer.header("connection")))
            })
        })
        .collect();
    let mut web = Web::open(address).await;
    while began.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        offer(&mut web, "t", "o").await;
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    for slow in slow {
        assert_eq!(slow.await.unwrap(), Some((408, "close".into())));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let server = start_discovery(&[]).await;
    for _ in 0..20 {
        let mut web = Web::open(server.address()).await;
        web.send("POST", "/t/offer", "Content-Length: 1000\r\n", r#"{"info":"#).await;
    }
    eventually("no links", || server.connections() == 0).await;
    let mut web = Web::open(server.address()).await;
    assert_eq!(web.get("/").await.json()["topics"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_every_connection_and_lets_answers_through() {
    let server = start_discovery(&[]).await;
    let address = server.address();
    let mut node = Node::connect(address, "a").await;
    let silent = TcpStream::connect(address).await.unwrap();
    let mut kept = Web::open(address).await;
    assert_eq!(kept.get("/").await.status, 200);
    let mut half_a_head = Web::open(address).await;
    half_a_head.write(b"GET / HTTP/1.1\r\nHo").await;
    let mut half_a_body = Web::open(address).await;
    // Once it is asked for the body, its request has begun.
    let expecting = "Content-Length: 24\r\nExpect: 100-continue\r\n";
    half_a_body.send("POST", "/t/offer", expecting, "").await;
    assert_eq!(half_a_body.head().await.unwrap().status, 100);
    half_a_body.write(br#"{"info":"i","#).await;
    eventually("all are there", || server.connections() == 5).await;
    let began = Instant::now();
    let clients = async {
        node.end().await;
        assert_eq!(kept.end().await, "");
        // What was begun may still be finished, and the connection ends with it.
        half_a_body.write(br#""offer":"o"}"#).await;
        let answer = half_a_body.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, "close".into()));
        assert_eq!(half_a_body.end().await, "");
        half_a_head.end().await;
    };
    futures_util::join!(server.shutdown(), clients);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(silent);
}
