//! Streams of events: what happens to nodes, where a stream goes on, when it ends.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{
    API, Node, READ_TOKEN, Web, eventually, metric, request, start_with_variables,
};

/// A stream that is open, behind its first event.
struct Stream {
    web: Web,
    start: Value,
}

impl Stream {
    async fn open(server: &Server, last: Option<&str>) -> Self {
        let mut web = Web::open(server.address()).await;
        let mut headers = format!("Authorization: Bearer {READ_TOKEN}\r\n");
        if let Some(last) = last {
            headers += &format!("Last-Event-ID: {last}\r\n");
        }
        web.send("GET", "/api/v1/events", &headers, "").await;
        let head = web.head().await.unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream".into()));
        let mut stream = Self { web, start: Value::Null };
        let (name, _, start) = stream.next().await;
        assert_eq!(name, "start");
        stream.start = start;
        stream
    }

    /// The name, the ID and the data of the next event.
    async fn next(&mut self) -> (String, String, Value) {
        let before = self.web.until("\ndata: ").await;
        let data = self.web.until("\n\n").await;
        let field = |name: &str| {
            let line = before.lines().rev().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        (field("event: "), field("id: "), serde_json::from_str(data.trim()).unwrap())
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_where_it_ended() {
    let server = start_with_variables(&API).await;
    let mut stream = Stream::open(&server, None).await;
    assert_eq!(stream.start["lost"], 0);
    let replica = stream.start["replica"].as_str().unwrap().to_owned();
    assert_eq!(metric(&server, "crolang_api_streams"), 1.0);
    let alice = Node::connect(server.address(), "alice").await;
    let (name, id, data) = stream.next().await;
    assert_eq!((name.as_str(), id), ("connected", format!("{replica}-1")));
    assert_eq!((&data["nodeId"], &data["sequence"]), (&json!("alice"), &json!(1)));
    drop(stream);
    eventually("its slot is free", || metric(&server, "crolang_api_streams") == 0.0).await;
    drop(alice);
    eventually("she has left", || metric(&server, "crolang_nodes") == 0.0).await;
    let mut again = Stream::open(&server, Some(&format!("{replica}-1"))).await;
    assert_eq!(again.start["lost"], 0);
    let (name, id, data) = again.next().await;
    assert_eq!((name.as_str(), id), ("disconnected", format!("{replica}-2")));
    assert_eq!(data["nodeId"], "alice");
    // Of another replica, nobody knows what is missing.
    for other in ["0-1", "x", &format!("{replica}-x")] {
        assert_eq!(Stream::open(&server, Some(other)).await.start["lost"], Value::Null, "{other}");
    }
    // A number that is not there yet is the newest.
    let future = Stream::open(&server, Some(&format!("{replica}-99"))).await;
    assert_eq!(future.start["lost"], 0);
}

#[tokio::test]
async fn what_is_lost_is_told_at_the_start() {
    let variables = [&API[..], &[("NODE_EVENTS_MAX_QUEUED", "2")]].concat();
    let server = start_with_variables(&variables).await;
    let first = Stream::open(&server, None).await;
    let replica = first.start["replica"].as_str().unwrap();
    let mut nodes = Vec::new();
    for n in 0..5 {
        nodes.push(Node::connect(server.address(), &format!("n{n}")).await);
    }
    let mut again = Stream::open(&server, Some(&format!("{replica}-1"))).await;
    assert_eq!(again.start["lost"], 2);
    assert_eq!(again.next().await.2["sequence"], 4);
}

#[tokio::test]
async fn streams_are_limited_and_need_a_token() {
    let variables = [&API[..], &[("API_MAX_STREAMS", "2")]].concat();
    let server = start_with_variables(&variables).await;
    let address = server.address();
    assert_eq!(request(address, "", "GET", "/events", "").await.status, 401);
    let open = [Stream::open(&server, None).await, Stream::open(&server, None).await];
    let refused = request(address, READ_TOKEN, "GET", "/events", "").await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("too_many_streams")));
    drop(open);
    eventually("the slots are free", || metric(&server, "crolang_api_streams") == 0.0).await;
    Stream::open(&server, None).await;
    // A stream takes no place from other requests.
    assert_eq!(request(address, READ_TOKEN, "GET", "/nodes", "").await.status, 200);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_cut_off() {
    let variables = [
        &API[..],
        &[("NODE_EVENTS_MAX_QUEUED", "8"), ("NODE_EVENTS_MAX_REFUSALS_PER_SECOND", "1000000")],
        &[("ALLOWED_RUNTIMES", "TEST"), ("WRITE_TIMEOUT_MS", "60000")],
    ]
    .concat();
    let server = start_with_variables(&variables).await;
    let _stream = Stream::open(&server, None).await;
    let id = "x".repeat(250);
    let query = format!("&id={id}&version=1&runtime=OTHER");
    let began = Instant::now();
    // Until the buffers of its connection are full.
    while metric(&server, "crolang_api_streams") > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        let refused = (0..64).map(|_| Node::open(server.address(), &query));
        futures_util::future::join_all(refused).await;
    }
    let dropped = r#"crolang_node_events_dropped_total{cause="stream_too_slow"}"#;
    assert!(metric(&server, dropped) > 0.0);
}

#[tokio::test]
async fn a_drain_is_told_and_ends_the_stream_soon() {
    let server = start_with_variables(&API).await;
    let mut stream = Stream::open(&server, None).await;
    let _alice = Node::connect(server.address(), "alice").await;
    stream.next().await;
    let began = Instant::now();
    let shutdown = tokio::spawn(server.shutdown());
    let (name, _, data) = stream.next().await;
    assert_eq!((name.as_str(), &data["reason"]), ("disconnected", &json!("draining")));
    stream.web.end().await;
    shutdown.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
