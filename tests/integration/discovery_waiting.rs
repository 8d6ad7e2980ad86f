//! Polls that wait, and streams of events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::discovery::{offer, start_discovery};
use crate::support::{RedisServer, SOON, Web, eventually, metric, start_with_variables};

const WAITING: &str = "crolang_discovery_waiting";

async fn poll(web: &mut Web, code: &str, side: &str, wait: u64) -> (Value, Duration) {
    let began = Instant::now();
    let answer = web.post("/poll", &json!({"code": code, "side": side, "wait": wait})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.json(), began.elapsed())
}

async fn leave(web: &mut Web, code: &str, side: &str, what: &str, text: &str) {
    let body = json!({"code": code, "side": side, what: text});
    assert_eq!(web.post("/answer", &body).await.status, 200);
}

#[tokio::test]
async fn a_poll_is_answered_as_soon_as_there_is_news() {
    let server = start_discovery(&[]).await;
    let mut alice = Web::open(server.address()).await;
    let mut bob = Web::open(server.address()).await;
    let code = offer(&mut alice, "t", "o").await;
    for (side, what, other) in [
        ("offerer", "answer", "answerer"),
        ("offerer", "candidate", "answerer"),
        ("answerer", "candidate", "offerer"),
        // An answer in the place of another is news too.
        ("offerer", "answer", "answerer"),
    ] {
        let waiting = async {
            let (state, took) = poll(&mut alice, &code, side, 30_000).await;
            assert!(state.to_string().contains("news"), "{state}");
            assert!(took < SOON, "{took:?}");
        };
        let leaving = async {
            eventually("she waits", || metric(&server, WAITING) == 1.0).await;
            leave(&mut bob, &code, other, what, "news").await;
        };
        futures_util::join!(waiting, leaving);
    }
    assert_eq!(metric(&server, WAITING), 0.0);
}

#[tokio::test]
async fn what_a_side_has_not_been_shown_is_news_at_once() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    leave(&mut web, &code, "answerer", "answer", "a").await;
    let (state, took) = poll(&mut web, &code, "offerer", 30_000).await;
    assert_eq!(state["answer"], "a");
    assert!(took < SOON, "{took:?}");
    // Nothing new: the whole wait, and then the same state.
    let (same, took) = poll(&mut web, &code, "offerer", 300).await;
    assert_eq!(same, state);
    assert!(took >= Duration::from_millis(300) && took < SOON, "{took:?}");
    // Between two polls: not missed.
    leave(&mut web, &code, "answerer", "candidate", "c").await;
    let (state, took) = poll(&mut web, &code, "offerer", 30_000).await;
    assert_eq!(state["answerCandidates"], json!(["c"]));
    assert!(took < SOON, "{took:?}");
    // Without a wait it is always answered at once.
    assert!(poll(&mut web, &code, "offerer", 0).await.1 < SOON);
}

#[tokio::test]
async fn all_who_wait_for_the_same_are_told() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let body = json!({"code": code, "side": "offerer", "wait": 30_000}).to_string();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut waiter = Web::open(server.address()).await;
        waiter.send("POST", "/poll", "", &body).await;
        waiting.push(waiter);
    }
    eventually("all wait", || metric(&server, WAITING) == 20.0).await;
    let began = Instant::now();
    leave(&mut web, &code, "answerer", "answer", "a").await;
    for waiter in &mut waiting {
        assert_eq!(waiter.answer().await.unwrap().json()["answer"], "a");
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_session_that_ends_ends_the_wait() {
    let server = start_discovery(&[("SESSION_TIMEOUT", "400")]).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let began = Instant::now();
    let body = json!({"code": code, "side": "offerer", "wait": 30_000});
    let answer = web.post("/poll", &body).await;
    assert_eq!(answer.status, 404);
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn places_are_limited_and_free_again_when_a_client_leaves() {
    let server = start_discovery(&[
        ("DISCOVERY_MAX_WAITING", "2"),
        ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "100"),
    ])
    .await;
    let address = server.address();
    let mut web = Web::open(address).await;
    let code = offer(&mut web, "t", "o").await;
    let body = json!({"code": code, "side": "offerer", "wait": 30_000}).to_string();
    let mut waiting = Web::open(address).await;
    waiting.send("POST", "/poll", "", &body).await;
    let mut stream = Web::open(address).await;
    stream.send("GET", "/t/events", "", "").await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    eventually("both wait", || metric(&server, WAITING) == 2.0).await;
    for refused in [web.ask("POST", "/poll", "", &body).await, web.get("/t/events").await] {
        assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
        assert_eq!(refused.json()["error"], "Too many waiting requests");
    }
    // Who does not wait needs no place.
    assert!(poll(&mut web, &code, "offerer", 0).await.1 < SOON);
    drop((waiting, stream));
    eventually("nobody waits", || metric(&server, WAITING) == 0.0).await;
    let left = r#"crolang_discovery_requests_total{endpoint="poll",outcome="client_left"}"#;
    assert_eq!(metric(&server, left), 1.0);
    let mut stream = Web::open(address).await;
    stream.send("GET", "/t/events", "", "").await;
    assert_eq!(stream.head().await.unwrap().status, 200);
}

#[tokio::test]
async fn new_sessions_of_a_topic_are_events() {
    let server = start_discovery(&[]).await;
    let mut web = Web::of(server.address(), "https://a.test").await;
    offer(&mut web, "t%2Fu", "before").await;
    let mut stream = Web::of(server.address(), "https://a.test").await;
    stream.send("GET", "/t%2Fu/events", "", "").await;
    let head = stream.head().await.unwrap();
    assert_eq!(head.header("content-type"), "text/event-stream");
    assert_eq!(head.header("cache-control"), "no-cache");
    assert_eq!(head.header("access-control-allow-origin"), "https://a.test");
    stream.until("\n\n").await;
    // Neither another topic nor another origin.
    offer(&mut web, "other", "x").await;
    offer(&mut Web::open(server.address()).await, "t%2Fu", "x").await;
    for n in 0..3 {
        let code = offer(&mut web, "t%2Fu", &format!("line\n{n}")).await;
        let event = stream.until("\n\n").await;
        let data = event.split_once("event: session\ndata: ").unwrap().1.lines().next().unwrap();
        let session: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&session["code"], &session["offer"]),
            (&json!(code), &json!(format!("line\n{n}")))
        );
        let listed = web.get("/t%2Fu/sessions").await.json();
        assert_eq!(listed["sessions"][0], session);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_waits_is_answered_when_the_server_ends() {
    let server = start_discovery(&[]).await;
    let address = server.address();
    let mut web = Web::open(address).await;
    let code = offer(&mut web, "t", "o").await;
    let body = json!({"code": code, "side": "offerer", "wait": 30_000}).to_string();
    web.send("POST", "/poll", "", &body).await;
    let mut stream = Web::open(address).await;
    stream.send("GET", "/t/events", "", "").await;
    stream.head().await.unwrap();
    eventually("both wait", || metric(&server, WAITING) == 2.0).await;
    let began = Instant::now();
    let reading = async {
        let answer = web.answer().await.expect("an answer");
        assert_eq!(answer.text, r#"{"answer":null,"answerCandidates":[]}"#);
        assert_eq!(web.end().await, "");
        // The last chunk: the stream has not just been cut.
        assert!(stream.end().await.ends_with("0\r\n\r\n"));
    };
    futures_util::join!(server.shutdown(), reading);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wait_at_the_same_time_and_all_are_told() {
    let server = start_discovery(&[("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0")]).await;
    let address = server.address();
    let mut web = Web::open(address).await;
    let mut waiting = Vec::new();
    for n in 0..200 {
        let code = offer(&mut web, "t", "o").await;
        let mut waiter = Web::open(address).await;
        let body = json!({"code": code, "side": "offerer", "wait": 30_000});
        waiter.send("POST", "/poll", "", &body.to_string()).await;
        waiting.push((waiter, code, n));
    }
    eventually("all wait", || metric(&server, WAITING) == 200.0).await;
    for (_, code, n) in &waiting {
        leave(&mut web, code, "answerer", "answer", &format!("for {n}")).await;
    }
    for (waiter, _, n) in &mut waiting {
        let answer = waiter.answer().await.unwrap().json();
        assert_eq!(answer["answer"], format!("for {n}"));
    }
    assert_eq!(metric(&server, WAITING), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_is_ended() {
    let server = start_discovery(&[("WRITE_TIMEOUT_MS", "1000")]).await;
    let mut stream = Web::open(server.address()).await;
    stream.send("GET", "/t/events", "", "").await;
    stream.head().await.unwrap();
    let mut web = Web::open(server.address()).await;
    let large = "x".repeat(100_000);
    let filling = async {
        while metric(&server, WAITING) > 0.0 {
            offer(&mut web, "t", &large).await;
        }
    };
    tokio::time::timeout(2 * SOON, filling).await.expect("it is ended");
    // Nobody else is any the worse for it.
    assert_eq!(web.get("/").await.status, 200);
}

/// Keeps a storage from making changes.
struct Hold<'a> {
    redis: &'a RedisServer,
    file: Option<rusqlite::Connection>,
}

impl Hold<'_> {
    fn begin(&self) {
        match &self.file {
            Some(file) => file.execute_batch("BEGIN IMMEDIATE").unwrap(),
            None => self.redis.pause(),
        }
    }

    fn end(&self) {
        match &self.file {
            Some(file) => file.execute_batch("COMMIT").unwrap(),
            None => self.redis.resume(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_told_though_its_client_has_left() {
    for storage in ["sqlite", "redis"] {
        let (folder, redis) = (tempfile::tempdir().unwrap(), RedisServer::start().await);
        let path = folder.path().join("data.db");
        let server = start_with_variables(&[
            ("STORAGE_TYPE", storage),
            ("STORAGE_PATH", path.to_str().unwrap()),
            ("REDIS_URL", &redis.url()),
        ])
        .await;
        let file = (storage == "sqlite").then(|| rusqlite::Connection::open(&path).unwrap());
        let hold = Hold { redis: &redis, file };
        let address = server.address();
        let mut web = Web::open(address).await;
        let code = offer(&mut web, "t", "o").await;
        let mut waiting = Web::open(address).await;
        let body = json!({"code": code, "side": "offerer", "wait": 30_000});
        waiting.send("POST", "/poll", "", &body.to_string()).await;
        let mut stream = Web::open(address).await;
        stream.send("GET", "/t/events", "", "").await;
        stream.head().await.unwrap();
        stream.until("\n\n").await;
        eventually("both wait", || metric(&server, WAITING) == 2.0).await;

        let candidate = json!({"code": code, "side": "answerer", "candidate": "left"});
        let new = json!({"info": "i", "offer": "left"});
        let state = json!({"code": code, "side": "offerer"});
        for (target, endpoint, body) in
            [("/answer", "answer", &candidate), ("/t/offer", "offer", &new)]
        {
            let labels = format!(r#"{{endpoint="{endpoint}",outcome="client_left"}}"#);
            let has_left = format!("crolang_discovery_requests_total{labels}");
            let storing = async {
                loop {
                    hold.begin();
                    let mut leaver = Web::open(address).await;
                    leaver.send("POST", target, "", &body.to_string()).await;
                    web.get("/health").await;
                    drop(leaver);
                    for _ in 0..100 {
                        web.get("/health").await;
                        if metric(&server, &has_left) > 0.0 {
                            break;
                        }
                    }
                    hold.end();
                    // Behind it: by then it is stored, or its client has left too early.
                    let behind = json!({"info": "i", "offer": "o"});
                    while web.post("/other/offer", &behind).await.status != 200 {}
                    let stored = match endpoint {
                        "answer" => web.post("/poll", &state).await,
                        _ => web.get("/t/sessions").await,
                    };
                    if stored.text.contains("left") {
                        return;
                    }
                }
            };
            tokio::time::timeout(SOON, storing).await.expect("it is stored");
        }
        let told = async {
            let state = waiting.answer().await.unwrap().json();
            assert_eq!(state["answerCandidates"][0], "left");
            assert!(stream.until("\n\n").await.contains("\"offer\":\"left\""));
        };
        tokio::time::timeout(SOON, told).await.unwrap_or_else(|_| panic!("{storage} tells it"));
    }
}
