//! What discovery refuses because it would be too much.

use serde_json::json;

use crate::discovery::{offer, start_discovery};
use crate::support::{Web, metric};

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
    tokio::time::timeout(3 * crate::support::SOON, made).await.unwrap();
}

#[tokio::test]
async fn stored_bytes_are_limited() {
    let server = start_discovery(&[("DISCOVERY_MAX_STORED_BYTES", "300000")]).await;
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
    tokio::time::timeout(crate::support::SOON, allowed).await.unwrap();
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
