//! Discovery on many replicas that share one Redis.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::discovery::offer;
use crate::support::{
    Node, Proxy, RedisCluster, RedisServer, SOON, Web, eventually, metric, start_with_variables,
    url_through,
};

const WAITING: &str = "crolang_discovery_waiting";
const CONNECTED: [&str; 2] =
    ["crolang_redis_connected{use=\"nodes\"}", "crolang_redis_connected{use=\"discovery\"}"];

async fn replica(url: &str, more: &[(&str, &str)]) -> Server {
    let variables = [("STORAGE_TYPE", "redis"), ("REDIS_URL", url)];
    start_with_variables(&[&variables, more].concat()).await
}

fn body(code: &str, side: &str, what: &str, text: &str) -> Value {
    json!({"code": code, "side": side, what: text})
}

/// Leaves something, and expects that it is stored.
async fn leave(web: &mut Web, code: &str, side: &str, what: &str, text: &str) {
    let answer = web.post("/answer", &body(code, side, what, text)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn meet(here: &Server, there: &Server) {
    let mut alice = Web::of(here.address(), "https://app.test").await;
    let mut bob = Web::of(there.address(), "https://app.test").await;
    let code = offer(&mut alice, "lobby", "the offer").await;
    leave(&mut alice, &code, "offerer", "candidate", "from alice").await;
    let topics = bob.get("/").await.json();
    assert_eq!(topics["topics"], json!([{"topic": "lobby", "count": 1}]));
    let listed = bob.get("/lobby/sessions").await.json();
    assert_eq!(listed["sessions"][0]["code"], code);
    assert_eq!(listed["sessions"][0]["offerCandidates"], json!(["from alice"]));
    assert_eq!(listed, alice.get("/lobby/sessions").await.json());
    // Another origin sees nothing of it, on no replica.
    let mut stranger = Web::open(there.address()).await;
    assert_eq!(stranger.get("/lobby/sessions").await.json(), json!({"sessions": []}));

    // She waits here for what he leaves there.
    let waiting = async {
        let wait = json!({"code": code, "side": "offerer", "wait": 30_000});
        alice.post("/poll", &wait).await.text
    };
    let leaving = async {
        eventually("she waits", || metric(here, WAITING) == 1.0).await;
        let left = Instant::now();
        leave(&mut bob, &code, "answerer", "answer", "the answer").await;
        left
    };
    let (told, left) = futures_util::join!(waiting, leaving);
    assert_eq!(told, r#"{"answer":"the answer","answerCandidates":[]}"#);
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    leave(&mut bob, &code, "answerer", "candidate", "from bob").await;
    for (web, side, expected) in [
        (&mut alice, "offerer", r#"{"answer":"the answer","answerCandidates":["from bob"]}"#),
        (&mut bob, "answerer", r#"{"offer":"the offer","offerCandidates":["from alice"]}"#),
    ] {
        assert_eq!(web.post("/poll", &json!({"code": code, "side": side})).await.text, expected);
    }
    for web in [&mut alice, &mut bob] {
        assert_eq!(web.get("/lobby/sessions").await.json(), json!({"sessions": []}));
    }
}

#[tokio::test]
async fn peers_of_different_replicas_meet() {
    let redis = RedisServer::start().await;
    let (here, there) = (replica(&redis.url(), &[]).await, replica(&redis.url(), &[]).await);
    meet(&here, &there).await;
    let keys = redis.keys("*");
    assert!(keys.iter().any(|key| key.starts_with("crolang:{discovery}:session:")), "{keys:?}");
    for key in keys {
        let left: i64 = redis.command(&["PTTL", &key]).parse().unwrap();
        assert!(left > 0, "{key} lives for {left} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_in_a_cluster_too() {
    let redis = RedisCluster::start().await;
    let mode = [("REDIS_MODE", "cluster")];
    let url = redis.urls().join(",");
    let (here, there) = (replica(&url, &mode).await, replica(&url, &mode).await);
    for server in [&here, &there] {
        eventually("both connections", || CONNECTED.iter().all(|name| metric(server, name) == 1.0))
            .await;
    }
    meet(&here, &there).await;
}

#[tokio::test]
async fn sessions_of_one_replica_are_events_of_another() {
    let redis = RedisServer::start().await;
    let (here, there) = (replica(&redis.url(), &[]).await, replica(&redis.url(), &[]).await);
    let mut streams = Vec::new();
    for server in [&here, &there] {
        let mut stream = Web::of(server.address(), "https://a.test").await;
        stream.send("GET", "/t%2Fu/events", "", "").await;
        assert_eq!(stream.head().await.unwrap().status, 200);
        stream.until("\n\n").await;
        streams.push(stream);
    }
    let mut web = Web::of(here.address(), "https://a.test").await;
    // Neither another topic nor another origin.
    offer(&mut web, "other", "x").await;
    offer(&mut Web::open(here.address()).await, "t%2Fu", "x").await;
    for n in 0..20 {
        let code = offer(&mut web, "t%2Fu", &format!("line\n{n}")).await;
        for stream in &mut streams {
            let event = stream.until("\n\n").await;
            let data =
                event.split_once("event: session\ndata: ").unwrap().1.lines().next().unwrap();
            let session: Value = serde_json::from_str(data).unwrap();
            assert_eq!(session["code"], code);
            assert_eq!(session, web.get("/t%2Fu/sessions").await.json()["sessions"][0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_all_replicas_at_the_same_time_is_kept() {
    let redis = RedisServer::start().await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(replica(&redis.url(), &[]).await);
    }
    let mut web = Web::open(servers[0].address()).await;
    let code = offer(&mut web, "t", "o").await;
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let (address, code) = (servers[task % 3].address(), code.clone());
            tokio::spawn(async move {
                let mut web = Web::open(address).await;
                for n in 0..20 {
                    leave(&mut web, &code, "answerer", "candidate", &format!("{task}/{n}")).await;
                }
                leave(&mut web, &code, "answerer", "answer", &format!("of {task}")).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let state = web.post("/poll", &json!({"code": code, "side": "offerer"})).await.json();
    let candidates = state["answerCandidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 240);
    for task in 0..12 {
        let own = format!("{task}/");
        let of_task = candidates.iter().map(|it| it.as_str().unwrap());
        let of_task: Vec<_> = of_task.filter(|it| it.starts_with(&own)).collect();
        let expected: Vec<_> = (0..20).map(|n| format!("{task}/{n}")).collect();
        assert_eq!(of_task, expected);
    }
    assert!(state["answer"].as_str().unwrap().starts_with("of "));
}

#[tokio::test]
async fn limits_are_those_of_all_replicas_together() {
    let redis = RedisServer::start().await;
    let limit = [
        ("DISCOVERY_MAX_SESSIONS", "3"),
        ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "100"),
        ("SESSION_TIMEOUT", "1500"),
    ];
    let (here, there) = (replica(&redis.url(), &limit).await, replica(&redis.url(), &limit).await);
    let (mut one, mut other) = (Web::open(here.address()).await, Web::open(there.address()).await);
    offer(&mut one, "t", "o").await;
    offer(&mut other, "t", "o").await;
    offer(&mut one, "t", "o").await;
    let new = json!({"info": "i", "offer": "o"});
    let refused = other.post("/t/offer", &new).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10".into()));
    // Gone for everybody at its time, and soon from Redis too, with nothing left of it.
    eventually("all are cleaned up", || redis.keys("crolang:{discovery}:*").is_empty()).await;
    assert_eq!(one.get("/").await.json()["pagination"]["total"], 0);
    offer(&mut other, "t", "o").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_redis_is_a_503_and_missed_changes_are_looked_for() {
    let redis = RedisServer::start().await;
    let link = Proxy::start(redis.address()).await;
    let here = replica(&url_through(&link), &[]).await;
    let there = replica(&redis.url(), &[]).await;
    let mut web = Web::open(here.address()).await;
    let mut other = Web::open(there.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let mut stream = Web::open(here.address()).await;
    stream.send("GET", "/t/events", "", "").await;
    stream.head().await.unwrap();
    let mut waiting = Web::open(here.address()).await;
    let poll = json!({"code": code, "side": "offerer", "wait": 30_000}).to_string();
    waiting.send("POST", "/poll", "", &poll).await;
    eventually("both wait", || metric(&here, WAITING) == 2.0).await;
    // A poll that waits has a permit, and then looks once more. What is asked behind that look is
    // answered behind it.
    for _ in 0..2 {
        assert_eq!(web.get("/t/sessions").await.status, 200);
    }

    link.refuse().await;
    link.cut();
    eventually("Redis is unavailable", || CONNECTED.iter().all(|name| metric(&here, name) == 0.0))
        .await;
    let candidate = body(&code, "offerer", "candidate", "c");
    let new = json!({"info": "i", "offer": "o"});
    for (target, body) in [("/answer", &candidate), ("/t/offer", &new)] {
        let began = Instant::now();
        let refused = web.post(target, body).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "2".into()));
        assert_eq!(refused.json(), json!({"error": "Storage is not available"}));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    for target in ["/", "/t/sessions"] {
        assert_eq!(web.get(target).await.status, 503);
    }
    // Meanwhile, elsewhere.
    leave(&mut other, &code, "answerer", "answer", "missed").await;
    offer(&mut other, "t", "missed").await;
    link.pass().await;

    // It looks when Redis is back; the stream ends, so that its client opens another and looks.
    let looking = async {
        let told = waiting.answer().await.unwrap();
        assert_eq!(told.json()["answer"], "missed", "{told:?}");
        stream.until("0\r\n\r\n").await;
    };
    tokio::time::timeout(SOON, looking).await.expect("both look");
    assert_eq!(web.get("/t/sessions").await.json()["sessions"][0]["offer"], "missed");
    leave(&mut web, &code, "offerer", "candidate", "c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_hangs_nobody() {
    let redis = RedisServer::start().await;
    let server = replica(&redis.url(), &[]).await;
    let mut web = Web::open(server.address()).await;
    offer(&mut web, "t", "o").await;
    redis.pause();
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(web.get("/t/sessions").await.status, 503);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    redis.resume();
    let back = async { while web.get("/t/sessions").await.status == 503 {} };
    tokio::time::timeout(2 * SOON, back).await.expect("it goes on");
    let listed = web.get("/t/sessions").await.json();
    assert_eq!(listed["sessions"][0]["offer"], "o");
}

#[tokio::test]
async fn full_memory_refuses_what_is_new_and_nothing_else() {
    let redis = RedisServer::start().await;
    let server = replica(&redis.url(), &[("SESSION_TIMEOUT", "2500")]).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let new = json!({"info": "i", "offer": "o"});
    assert_eq!(web.post("/t/offer", &new).await.status, 503);
    for (what, side) in [("candidate", "offerer"), ("answer", "answerer")] {
        let refused = web.post("/answer", &body(&code, side, what, "x")).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "2".into()));
    }
    let listed = web.get("/t/sessions").await.json();
    assert_eq!(listed["sessions"][0]["offerCandidates"], json!([]));
    let state = web.post("/poll", &json!({"code": code, "side": "offerer"})).await;
    assert_eq!(state.text, r#"{"answer":null,"answerCandidates":[]}"#);
    eventually("it is cleaned up", || redis.keys("crolang:{discovery}:*").is_empty()).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    offer(&mut Web::open(server.address()).await, "t", "o").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_a_new_beginning() {
    let mut redis = RedisServer::start().await;
    let server = replica(
        &redis.url(),
        &[("DISCOVERY_MAX_SESSIONS", "2"), ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "100")],
    )
    .await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    offer(&mut web, "t", "o").await;
    redis.kill();
    redis.restart().await;
    let back = async { while web.get("/t/sessions").await.status == 503 {} };
    tokio::time::timeout(2 * SOON, back).await.expect("it goes on");
    assert_eq!(web.get("/t/sessions").await.json(), json!({"sessions": []}));
    let gone = web.post("/answer", &body(&code, "answerer", "answer", "x")).await;
    assert_eq!(gone.status, 404);
    // All the room is there again.
    offer(&mut web, "t", "o").await;
    offer(&mut web, "t", "o").await;
}

#[tokio::test]
async fn what_else_comes_on_the_channel_is_passed_over() {
    let redis = RedisServer::start().await;
    let server = replica(&redis.url(), &[]).await;
    let mut stream = Web::open(server.address()).await;
    stream.send("GET", "/t/events", "", "").await;
    stream.head().await.unwrap();
    stream.until("\n\n").await;
    let missing = "00000000-0000-4000-8000-000000000000";
    for message in [
        "".to_owned(),
        "{}".into(),
        "\u{1}".into(),
        "[1,\"x\",null]".into(),
        "{\"from\":-1,\"code\":\"x\"}".into(),
        "{\"from\":1,\"code\":\"x\",\"new_in\":[\"unknown\",\"t\"]}".into(),
        format!("{{\"from\":1,\"code\":\"{missing}\",\"new_in\":[\"unknown\",\"t\"]}}"),
        format!("{{\"from\":1,\"code\":\"{missing}\"}}"),
        "[".repeat(100_000),
    ] {
        let heard = redis.command(&["PUBLISH", "crolang:channel:{discovery}", &message]);
        assert_eq!(heard, "1");
    }
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let event = stream.until("\n\n").await;
    assert!(event.contains("event: session\n") && event.contains(&code), "{event}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_that_of_discovery_too() {
    let redis = RedisServer::start().await;
    let server = replica(&redis.url(), &[]).await;
    let mut web = Web::open(server.address()).await;
    let ready = async |web: &mut Web, expected: (u16, Value)| {
        let reading = async {
            loop {
                let answer = web.get("/readyz").await;
                if (answer.status, answer.json()["parts"]["discovery"].clone()) == expected {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.unwrap_or_else(|_| panic!("never {expected:?}"));
    };
    ready(&mut web, (200, json!({"status": "ready"}))).await;
    // Its channel is the one that begins with a brace: the broker's own connection stays.
    redis.command(&["ACL", "SETUSER", "default", "resetchannels", "&crolang:channel:[a-z0-9]*"]);
    let cause = json!({"status": "not ready", "cause": "discovery_redis_unavailable"});
    ready(&mut web, (503, cause)).await;
    assert_eq!(web.get("/t/sessions").await.status, 503);
    Node::connect(server.address(), "a").await;
    redis.command(&["ACL", "SETUSER", "default", "allchannels"]);
    ready(&mut web, (200, json!({"status": "ready"}))).await;
    offer(&mut web, "t", "o").await;
}
