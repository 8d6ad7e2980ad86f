//! What discovery refuses because it would be too much.

use crolang_broker::Server;
use serde_json::json;

use crate::discovery::{offer, start_discovery};
use crate::support::{SOON, Web, connect_from, eventually, metric};

/// One address may take all.
const FOR_ONE_ADDRESS: (&str, &str) = ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "100");

const LARGEST: usize = 256 * 1024;

/// An offer's body of exactly so many bytes.
fn body_of(bytes: usize) -> String {
    let shell = json!({"info": "i", "offer": ""}).to_string();
    json!({"info": "i", "offer": "x".repeat(bytes - shell.len())}).to_string()
}

#[tokio::test]
async fn bodies_are_limited() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let largest = body_of(LARGEST);
    assert_eq!(web.ask("POST", "/t/offer", "", &largest).await.status, 200);

    // Announced: nothing of it is read.
    let mut web = Web::open(server.address()).await;
    let announced = format!("Content-Length: {}\r\n", LARGEST + 1);
    let answer = web.ask("POST", "/t/offer", &announced, "").await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "Request body must be 262144 bytes or less");
    assert_eq!(web.end().await, "");

    // Sent all the same: the answer is not lost in a reset.
    let mut web = Web::open(server.address()).await;
    let answer = web.ask("POST", "/t/offer", "", &body_of(LARGEST + 1)).await;
    assert_eq!(answer.status, 413);

    // In chunks, without a length.
    let mut web = Web::open(server.address()).await;
    let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
    web.write(b"POST /answer HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..5 {
        web.write(chunk.as_bytes()).await;
    }
    assert_eq!(web.answer().await.unwrap().status, 413);

    let mut web = Web::open(server.address()).await;
    assert_eq!(web.get("/").await.json()["topics"], json!([{"topic": "t", "count": 1}]));
    let refused = r#"crolang_discovery_requests_total{endpoint="offer",outcome="body_too_large"}"#;
    assert_eq!(metric(&server, refused), 2.0);
}

#[tokio::test]
async fn candidates_of_a_session_are_limited() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let body = json!({"code": code, "side": "offerer", "candidate": "c"});
    for _ in 0..256 {
        assert_eq!(web.post("/answer", &body).await.status, 200);
    }
    let refused = web.post("/answer", &body).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
    assert_eq!(refused.json()["error"], "Too many candidates in this session");
    let polled = web.post("/poll", &json!({"code": code, "side": "answerer"})).await.json();
    assert_eq!(polled["offerCandidates"].as_array().unwrap().len(), 256);
}

#[tokio::test]
async fn sessions_are_limited_for_each_origin_and_in_total() {
    let server = start_discovery(&[
        ("DISCOVERY_MAX_SESSIONS", "5"),
        FOR_ONE_ADDRESS,
        ("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", "3"),
        ("SESSION_TIMEOUT", "4000"),
    ])
    .await;
    let offered = json!({"info": "i", "offer": "o"});
    let mut a = Web::of(server.address(), "https://a.test").await;
    let mut b = Web::of(server.address(), "https://b.test").await;
    for _ in 0..3 {
        offer(&mut a, "t", "o").await;
    }
    let refused = a.post("/t/offer", &offered).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
    assert_eq!(refused.json()["error"], "Too many sessions of this origin");
    offer(&mut b, "t", "o").await;
    offer(&mut b, "t", "o").await;
    let refused = b.post("/t/offer", &offered).await;
    assert_eq!((refused.status, &refused.json()["error"]), (429, &json!("Too many sessions")));
    assert_eq!(b.get("/t/sessions").await.json()["sessions"].as_array().unwrap().len(), 2);
    // Room comes back as sessions end.
    let made = async { while b.post("/t/offer", &offered).await.status == 429 {} };
    tokio::time::timeout(3 * SOON, made).await.unwrap();
}

#[tokio::test]
async fn stored_bytes_are_limited() {
    let server =
        start_discovery(&[("DISCOVERY_MAX_STORED_BYTES", "300000"), FOR_ONE_ADDRESS]).await;
    let mut web = Web::open(server.address()).await;
    assert_eq!(web.ask("POST", "/t/offer", "", &body_of(200_000)).await.status, 200);
    let refused = web.ask("POST", "/t/offer", "", &body_of(200_000)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
    assert_eq!(refused.json()["error"], "Too much data in all sessions");
    offer(&mut web, "t", "o").await;
}

#[tokio::test]
async fn requests_of_an_address_are_limited() {
    let server = start_discovery(&[("DISCOVERY_MAX_REQUESTS_PER_SECOND", "20")]).await;
    let mut web = Web::open(server.address()).await;
    let mut refused = None;
    for _ in 0..10_000 {
        let answer = web.get("/").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a limit");
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1".into()));
    assert_eq!(refused.json()["error"], "Too many requests");
    assert_eq!(refused.header("access-control-allow-credentials"), "true");
    // The broker's own routes have nothing to do with it, and the allowance comes back.
    assert_eq!(web.get("/health").await.status, 200);
    let allowed = async { while web.get("/").await.status == 429 {} };
    tokio::time::timeout(SOON, allowed).await.unwrap();
}

#[tokio::test]
async fn an_origin_of_any_length_is_no_origin() {
    let server = start_discovery(&[]).await;
    let mut web = Web::of(server.address(), &format!("https://{}", "a".repeat(2000))).await;
    let refused = web.get("/").await;
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (400, Some("Origin header must be 1024 bytes or less"))
    );
}

/// A client at 127.0.0.`source`.
async fn web_from(source: u8, server: &Server) -> Web {
    Web::over(connect_from(source, server.address()).await)
}

#[tokio::test]
async fn an_address_has_a_share_of_all_sessions() {
    let server =
        start_discovery(&[("DISCOVERY_MAX_SESSIONS", "8"), ("SESSION_TIMEOUT", "2000")]).await;
    let offered = json!({"info": "i", "offer": "o"}).to_string();
    let mut greedy = web_from(2, &server).await;
    let mut offer_of = async |origin: &str| {
        let origin =
            format!("Origin: https://{origin}.test\r\nContent-Length: {}\r\n", offered.len());
        greedy.ask("POST", "/t/offer", &origin, &offered).await
    };
    assert_eq!(offer_of("a").await.status, 200);
    assert_eq!(offer_of("b").await.status, 200);
    let refused = offer_of("c").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
    assert_eq!(refused.json()["error"], "Too many sessions of this address");
    let outcome = r#"crolang_discovery_requests_total{endpoint="offer",outcome="too_many_sessions_of_address"}"#;
    assert_eq!(metric(&server, outcome), 1.0);
    offer(&mut web_from(3, &server).await, "t", "o").await;
    let expired = async { while offer_of("d").await.status == 429 {} };
    tokio::time::timeout(2 * SOON, expired).await.unwrap();
}

#[tokio::test]
async fn an_address_has_a_share_of_all_bytes() {
    let server = start_discovery(&[("DISCOVERY_MAX_STORED_BYTES", "1000000")]).await;
    let mut greedy = web_from(2, &server).await;
    assert_eq!(greedy.ask("POST", "/t/offer", "", &body_of(200_000)).await.status, 200);
    let code = offer(&mut greedy, "t", "o").await;
    let refused = greedy.ask("POST", "/t/offer", "", &body_of(50_000)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (429, &json!("Too much data of this address"))
    );
    // Answers and candidates count too, for the one that leaves them.
    let answer = json!({"code": code, "side": "answerer", "answer": "x".repeat(50_000)});
    assert_eq!(greedy.post("/answer", &answer).await.status, 429);
    assert_eq!(web_from(3, &server).await.post("/answer", &answer).await.status, 200);
}

#[tokio::test]
async fn an_address_has_a_share_of_those_who_wait() {
    let server = start_discovery(&[("DISCOVERY_MAX_WAITING", "4")]).await;
    let stream_from = async |source| {
        let mut web = web_from(source, &server).await;
        web.send("GET", "/t/events", "", "").await;
        let status = web.head().await.unwrap().status;
        (web, status)
    };
    let (first, status) = stream_from(2).await;
    assert_eq!(status, 200);
    assert_eq!(stream_from(2).await.1, 429);
    assert_eq!(stream_from(3).await.1, 200);
    drop(first);
    let again = async { while stream_from(2).await.1 == 429 {} };
    tokio::time::timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn an_address_has_a_share_of_all_unfinished_bodies() {
    let server = start_discovery(&[("DISCOVERY_MAX_UNFINISHED_BYTES", "400000")]).await;
    let begin = async |source, bytes: usize| {
        let mut web = web_from(source, &server).await;
        web.send("POST", "/t/offer", "Content-Length: 200000\r\n", &" ".repeat(bytes)).await;
        web
    };
    let _first = begin(2, 60_000).await;
    let refused = begin(2, 60_000).await.answer().await.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (429, &json!("Too many unfinished requests"))
    );
    assert_eq!(
        web_from(3, &server).await.ask("POST", "/t/offer", "", &body_of(90_000)).await.status,
        200
    );
}

#[tokio::test]
async fn a_code_that_a_client_chooses_is_its_own() {
    let server = start_discovery(&[]).await;
    let mut alice = Web::of(server.address(), "https://a.test").await;
    let mut eve = Web::of(server.address(), "https://e.test").await;
    let offered = json!({"peerId": "i", "offer": "o", "code": "my-room.1"});
    assert_eq!(alice.post("/t/offer", &offered).await.json(), json!({"code": "my-room.1"}));
    for web in [&mut alice, &mut eve] {
        let second = json!({"info": "x", "offer": "x", "code": "my-room.1"});
        let taken = web.post("/t/offer", &second).await;
        assert_eq!(taken.status, 409);
        assert_eq!(taken.json()["error"], "Code is already in use");
    }
    let poll = json!({"code": "my-room.1", "side": "answerer"});
    assert_eq!(alice.post("/poll", &poll).await.json()["offer"], "o");
    assert_eq!(eve.post("/poll", &poll).await.status, 404);
    let longest = "x".repeat(64);
    for (code, status) in [(&*longest, 200), ("", 200), (&format!("{longest}x"), 400), ("a b", 400)]
    {
        let offered = json!({"info": "i", "offer": "o", "code": code});
        assert_eq!(alice.post("/t/offer", &offered).await.status, status, "{code}");
    }
    assert_eq!(metric(&server, &refused("offer", "code_taken")), 2.0);
}

/// Offers of 250 KB, and how many of them a topic gets.
const LONG: usize = 250_000;
const LONG_OFFERS: usize = 16;

const RESPONSE_BYTES: &str = "crolang_discovery_response_bytes";

fn refused(endpoint: &str, outcome: &str) -> String {
    let labels = format!(r#"{{endpoint="{endpoint}",outcome="{outcome}"}}"#);
    format!("crolang_discovery_requests_total{labels}")
}

/// A client that has asked for something long, and does not read the response.
async fn ask_and_do_not_read(source: u8, server: &Server, target: &str) -> Web {
    let stream = connect_from(source, server.address()).await;
    socket2::SockRef::from(&stream).set_recv_buffer_size(16 * 1024).unwrap();
    let mut web = Web::over(stream);
    web.send("GET", target, "", "").await;
    web
}

#[tokio::test]
async fn lists_that_nobody_reads_are_limited_by_address_and_in_total() {
    // A list has 4 MB, of which the kernel takes less than one.
    let server = start_discovery(&[
        ("DISCOVERY_MAX_RESPONSE_BYTES", "10000000"),
        ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "50"),
    ])
    .await;
    let mut web = Web::open(server.address()).await;
    let long = "x".repeat(LONG);
    for _ in 0..LONG_OFFERS {
        offer(&mut web, "t", &long).await;
    }
    let list = web.get("/t/sessions").await;
    assert_eq!(list.json()["sessions"].as_array().unwrap().len(), LONG_OFFERS);
    assert!(list.text.len() > LONG * LONG_OFFERS);
    eventually("all of it is read", || metric(&server, RESPONSE_BYTES) == 0.0).await;

    let mut first = ask_and_do_not_read(2, &server, "/t/sessions").await;
    assert_eq!(first.head().await.unwrap().status, 200);
    let mut again = Web::over(connect_from(2, server.address()).await);
    let answer = again.get("/t/sessions").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "1".into()));
    assert_eq!(answer.json()["error"], "Too many unread responses of this address");
    let mut second = ask_and_do_not_read(3, &server, "/t/sessions").await;
    assert_eq!(second.head().await.unwrap().status, 200);
    let mut other = Web::over(connect_from(4, server.address()).await);
    let answer = other.get("/t/sessions").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1".into()));
    assert_eq!(answer.json()["error"], "Too many unread responses");
    // What is short still fits.
    assert_eq!(other.get("/").await.status, 200);

    drop(first);
    eventually("the other's remains", || metric(&server, RESPONSE_BYTES) < 5e6).await;
    assert_eq!(other.get("/t/sessions").await.status, 200);
    drop(second);
    eventually("nothing remains", || metric(&server, RESPONSE_BYTES) == 0.0).await;
    assert_eq!(metric(&server, &refused("sessions", "too_many_responses_of_address")), 1.0);
    assert_eq!(metric(&server, &refused("sessions", "too_many_responses")), 1.0);
}

#[tokio::test]
async fn event_streams_that_nobody_reads_are_limited() {
    let limit = 4 * LONG + LONG / 2;
    let server =
        start_discovery(&[("DISCOVERY_MAX_RESPONSE_BYTES", &*limit.to_string()), FOR_ONE_ADDRESS])
            .await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = ask_and_do_not_read(2, &server, "/t/events").await;
        assert_eq!(stream.head().await.unwrap().status, 200);
        stream.until("retry: 2000\n\n").await;
        streams.push(stream);
    }
    let mut web = Web::open(server.address()).await;
    offer(&mut web, "t", &"x".repeat(LONG)).await;
    let ended = refused("events", "too_many_responses");
    eventually("the others end", || metric(&server, &ended) == 4.0).await;
    assert!(metric(&server, RESPONSE_BYTES) <= limit as f64);
    drop(streams);
    eventually("nothing remains", || metric(&server, RESPONSE_BYTES) == 0.0).await;
}
