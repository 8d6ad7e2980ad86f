//! Discovery as its clients see it: every endpoint, every error, CORS, origins, topics.

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{Node, SOON, Web, eventually, get, metric, start, start_with_variables};

pub async fn start_discovery(more: &[(&str, &str)]) -> Server {
    start_with_variables(&[&[("STORAGE_TYPE", "memory")], more].concat()).await
}

/// Makes a session and gives its code.
pub async fn offer(web: &mut Web, topic: &str, offer: &str) -> String {
    let answer = web.post(&format!("/{topic}/offer"), &json!({"info": "i", "offer": offer})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let reply = answer.json();
    assert_eq!(reply.as_object().unwrap().len(), 1);
    reply["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_storage_there_is_no_route() {
    let server = start().await;
    let mut web = Web::open(server.address()).await;
    for target in ["/", "/t/sessions", "/t/events", "/discovery/openapi.json"] {
        assert_eq!(web.get(target).await.status, 404, "{target}");
    }
    for target in ["/t/offer", "/answer", "/poll"] {
        assert_eq!(web.post(target, &json!({})).await.status, 404, "{target}");
    }
    assert_eq!(web.get("/health").await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn later_clients_say_peer_id_and_ask_for_topics() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let offered = json!({"peerId": "peer-1", "offer": "o"});
    let code = web.post("/chess/offer", &offered).await.json()["code"].clone();
    let session = web.get("/chess/sessions").await.json()["sessions"][0].clone();
    assert_eq!((&session["code"], &session["peerId"]), (&code, &json!("peer-1")));
    assert_eq!(session["info"], "peer-1");
    let page = web.get("/topics?page=2&limit=1").await.json();
    let pagination = json!({"page": 2, "limit": 1, "total": 1, "hasMore": false});
    assert_eq!(page, json!({"topics": [], "pagination": pagination}));
}

#[tokio::test]
async fn two_peers_meet() {
    for storage in ["memory", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        let server = start_with_variables(&[
            ("STORAGE_TYPE", storage),
            ("STORAGE_PATH", path.to_str().unwrap()),
        ])
        .await;
        let mut alice = Web::of(server.address(), "https://app.test").await;
        let mut bob = Web::of(server.address(), "https://app.test").await;
        let code = offer(&mut alice, "lobby", "the offer").await;
        let side = |side: &str, more: Value| {
            let mut body = json!({"code": code, "side": side});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let candidate = side("offerer", json!({"candidate": "from alice"}));
        assert_eq!(alice.post("/answer", &candidate).await.json(), json!({"success": true}));

        let topics = json!({
            "topics": [{"topic": "lobby", "count": 1}],
            "pagination": {"page": 1, "limit": 100, "total": 1, "hasMore": false}
        });
        assert_eq!(bob.get("/").await.json(), topics);
        assert_eq!(bob.get("/topics").await.json(), topics);
        let listed = bob.get("/lobby/sessions").await;
        assert_eq!(listed.header("content-type"), "application/json");
        let listed = listed.json();
        let session = &listed["sessions"][0];
        let (created, expires) =
            (session["createdAt"].as_u64().unwrap(), session["expiresAt"].as_u64().unwrap());
        assert_eq!(expires - created, 300_000);
        let expected = json!({
            "code": code, "info": "i", "offer": "the offer", "offerCandidates": ["from alice"],
            "createdAt": created, "expiresAt": expires, "peerId": "i"
        });
        assert_eq!(listed, json!({"sessions": [expected]}));
        let names: Vec<_> = session.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            ["code", "info", "offer", "offerCandidates", "createdAt", "expiresAt", "peerId"]
        );

        let polled = alice.post("/poll", &side("offerer", json!({}))).await;
        assert_eq!(polled.text, r#"{"answer":null,"answerCandidates":[]}"#);
        bob.post("/answer", &side("answerer", json!({"answer": "the answer"}))).await;
        bob.post("/answer", &side("answerer", json!({"candidate": "from bob"}))).await;
        let polled = alice.post("/poll", &side("offerer", json!({}))).await;
        assert_eq!(polled.text, r#"{"answer":"the answer","answerCandidates":["from bob"]}"#);
        let polled = bob.post("/poll", &side("answerer", json!({}))).await;
        assert_eq!(polled.text, r#"{"offer":"the offer","offerCandidates":["from alice"]}"#);
        // Answered: no list has it any more.
        assert_eq!(bob.get("/lobby/sessions").await.json(), json!({"sessions": []}));
        assert_eq!(bob.get("/").await.json()["pagination"]["total"], 0);
        let requests = r#"crolang_discovery_requests_total{endpoint="poll",outcome="ok"}"#;
        assert_eq!(metric(&server, requests), 3.0);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn every_mistake_has_its_answer_and_stores_nothing() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let long = "t".repeat(257);
    let info = "🙂".repeat(513);
    let missing = |name: &str| format!("Missing or invalid required parameter: {name}");
    let side = r#"Invalid or missing parameter: side (must be "offerer" or "answerer")"#.to_owned();
    let nothing = "Missing required parameter: answer or candidate".to_owned();
    let both = "Cannot provide both answer and candidate".to_owned();
    let gone = "Session not found, expired, or origin mismatch".to_owned();
    let code = "00000000-0000-4000-8000-000000000000";
    for (target, body, status, text) in [
        (
            format!("/{long}/offer"),
            "{}".to_owned(),
            400,
            "Topic string must be 256 characters or less".into(),
        ),
        ("/t/offer".into(), "no JSON".into(), 400, missing("info")),
        ("/t/offer".into(), "".into(), 400, missing("info")),
        ("/t/offer".into(), "[1]".into(), 400, missing("info")),
        ("/t/offer".into(), r#"{"info":1,"offer":"o"}"#.into(), 400, missing("info")),
        (
            "/t/offer".into(),
            json!({"info": info, "offer": 1}).to_string(),
            400,
            "Info string must be 1024 characters or less".into(),
        ),
        ("/t/offer".into(), r#"{"info":"i","offer":{}}"#.into(), 400, missing("offer")),
        ("/answer".into(), "{".into(), 400, missing("code")),
        ("/answer".into(), r#"{"code":"c","side":"left","answer":"a"}"#.into(), 400, side.clone()),
        ("/answer".into(), r#"{"code":"c","side":"offerer"}"#.into(), 400, nothing.clone()),
        ("/answer".into(), r#"{"code":"c","side":"offerer","answer":7}"#.into(), 400, nothing),
        (
            "/answer".into(),
            r#"{"code":"c","side":"offerer","answer":"a","candidate":"c"}"#.into(),
            400,
            both,
        ),
        (
            "/answer".into(),
            r#"{"code":"c","side":"offerer","answer":"a"}"#.into(),
            404,
            gone.clone(),
        ),
        ("/poll".into(), r#"{"code":7}"#.into(), 400, missing("code")),
        ("/poll".into(), r#"{"code":"c"}"#.into(), 400, side),
        ("/poll".into(), format!(r#"{{"code":"{code}","side":"offerer"}}"#), 404, gone),
        (
            "/poll".into(),
            format!(r#"{{"code":"{code}","side":"offerer","wait":"1"}}"#),
            400,
            "Invalid parameter: wait (must be a number of milliseconds)".into(),
        ),
        (
            "/t/offer".into(),
            r#"{"info":"i","offer":"o","secret":"yes"}"#.into(),
            400,
            "Invalid parameter: secret (must be true or false)".into(),
        ),
        (
            "/answer".into(),
            format!(r#"{{"code":"{code}","side":"answerer","answer":"a","secret":true}}"#),
            400,
            "Invalid parameter: secret (must be a string)".into(),
        ),
    ] {
        let answer = web.ask("POST", &target, "", &body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (status, json!({"error": text})),
            "{target} {body}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let answer = web.get(&format!("/{long}/sessions")).await;
    assert_eq!(answer.json()["error"], "Topic string must be 256 characters or less");
    let answer = web.get("/poll").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST".into()));
    assert_eq!(web.get("/").await.json()["topics"], json!([]));
}

#[tokio::test]
async fn origins_do_not_see_each_other() {
    let server = start_discovery(&[]).await;
    let address = server.address();
    let mut a = Web::of(address, "https://a.test").await;
    let code = offer(&mut a, "t", "o").await;
    for mut other in [Web::open(address).await, Web::of(address, "https://b.test").await] {
        assert_eq!(other.get("/").await.json()["topics"], json!([]));
        assert_eq!(other.get("/t/sessions").await.json(), json!({"sessions": []}));
        let poll = other.post("/poll", &json!({"code": code, "side": "answerer"})).await;
        assert_eq!(poll.status, 404);
        let body = json!({"code": code, "side": "answerer", "answer": "x"});
        assert_eq!(other.post("/answer", &body).await.status, 404);
    }
    // No header is the origin `unknown`, also for anyone who names it so.
    offer(&mut Web::open(address).await, "u", "o").await;
    let mut unknown = Web::of(address, "unknown").await;
    assert_eq!(unknown.get("/").await.json()["topics"], json!([{"topic": "u", "count": 1}]));
}

#[tokio::test]
async fn a_topic_may_be_called_anything() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let long = "x".repeat(256);
    let mut topics = vec![
        ("health", "health"),
        ("socketio", "socketio"),
        ("metrics", "metrics"),
        ("answer", "answer"),
        ("discovery", "discovery"),
        ("a%2Fb%20c%3F%23", "a/b c?#"),
        ("%F0%9F%99%82", "🙂"),
        ("100%", "100%"),
        ("%FF%zz", "%FF%zz"),
        ("a+b", "a+b"),
        ("%00%22%5C", "\0\"\\"),
        ("__proto__", "__proto__"),
        ("..%2F..", "../.."),
        ("{topic}", "{topic}"),
        (&long, &long),
    ];
    for (segment, _) in &topics {
        let code = offer(&mut web, segment, segment).await;
        let listed = web.get(&format!("/{segment}/sessions")).await.json();
        assert_eq!(listed["sessions"][0]["code"], code.as_str(), "{segment}");
        assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    }
    topics.sort_unstable_by_key(|(_, topic)| *topic);
    let page = web.get("/?limit=1000").await.json();
    let listed: Vec<_> = page["topics"].as_array().unwrap().iter().collect();
    let listed: Vec<_> = listed.iter().map(|it| it["topic"].as_str().unwrap()).collect();
    assert_eq!(listed, topics.iter().map(|(_, topic)| *topic).collect::<Vec<_>>());
    let page = web.get("/?page=2&limit=4").await.json();
    assert_eq!(page["pagination"], json!({"page": 2, "limit": 4, "total": 15, "hasMore": true}));
    assert_eq!(page["topics"][0]["topic"], topics[4].1);
    let page = web.get("/?page=9&limit=4x").await.json();
    assert_eq!(
        page,
        json!({
            "topics": [], "pagination": {"page": 9, "limit": 4, "total": 15, "hasMore": false}
        })
    );
}

#[tokio::test]
async fn texts_come_back_as_they_were_sent() {
    let server = start_discovery(&[]).await;
    let mut web = Web::open(server.address()).await;
    let body = r#"{"info":"\ud83d \u0041","offer":"v=0\r\n\u2028\/"}"#;
    // The content type is nobody's business.
    let made = web.ask("POST", "/t/offer", "Content-Type: text/plain\r\n", body).await;
    assert_eq!(made.status, 200);
    let listed = web.get("/t/sessions").await.text;
    assert!(listed.contains(r#""info":"\ud83d \u0041","offer":"v=0\r\n\u2028\/","#), "{listed}");
}

#[tokio::test]
async fn sessions_end_at_their_time() {
    let variables = [("SESSION_TIMEOUT", "300"), ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0")];
    let server = start_discovery(&variables).await;
    let mut web = Web::open(server.address()).await;
    let code = offer(&mut web, "t", "o").await;
    let expires = web.get("/t/sessions").await.json()["sessions"][0]["expiresAt"].as_u64().unwrap();
    let now = || rondevu::model::Timestamp::now().0;
    // The system's clock, which is read here, is corrected while the server's runs on.
    const DRIFT_MS: u64 = 20;
    loop {
        let before = now();
        let poll = web.post("/poll", &json!({"code": code, "side": "offerer"})).await;
        let after = now();
        match poll.status {
            200 => assert!(before < expires + DRIFT_MS, "polled {} ms late", before - expires),
            404 => {
                assert!(after + DRIFT_MS >= expires, "gone {} ms early", expires - after);
                break;
            }
            _ => panic!("{poll:?}"),
        }
    }
    assert_eq!(web.get("/").await.json()["topics"], json!([]));
    // Nobody asks for it any more, and it goes all the same.
    eventually("the session is cleaned up", || {
        metric(&server, "crolang_discovery_sessions") == 0.0
    })
    .await;
}

#[tokio::test]
async fn cors_is_as_web_pages_need_it() {
    let server = start_discovery(&[("CORS_ORIGINS", "https://a.test, http://b.test:81")]).await;
    let all = start_discovery(&[]).await;
    for (server, origin, allowed) in [
        (&server, "https://a.test", "https://a.test"),
        (&server, "http://b.test:81", "http://b.test:81"),
        (&server, "https://c.test", ""),
        (&all, "https://c.test", "https://c.test"),
    ] {
        let mut web = Web::of(server.address(), origin).await;
        let preflight = "Access-Control-Request-Method: POST\r\n";
        for target in ["/", "/t/offer", "/answer", "/poll", "/t/sessions", "/health"] {
            let answer = web.ask("OPTIONS", target, preflight, "").await;
            assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{target}");
            for (name, value) in [
                ("access-control-allow-origin", allowed),
                ("access-control-allow-methods", "GET,POST,OPTIONS"),
                ("access-control-allow-headers", "Content-Type"),
                ("access-control-allow-credentials", "true"),
                ("access-control-max-age", "600"),
                ("vary", "Access-Control-Request-Headers, Origin"),
            ] {
                assert_eq!(answer.header(name), value, "{target} {name}");
            }
        }
        for target in ["/", "/t/sessions", "/health", "/poll"] {
            let answer = web.get(target).await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{target}");
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert_eq!(answer.header("vary"), "Origin");
        }
        let refused = web.post("/answer", &json!({})).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("access-control-allow-origin"), allowed);
        assert_eq!(web.get("/metrics").await.header("access-control-allow-origin"), "");
    }
    let plain = Web::open(all.address()).await.get("/").await;
    assert_eq!(plain.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn every_base_path_works_beside_the_broker() {
    for (path, base) in [("/", ""), ("/a/b", "/a/b"), ("/discovery", "/discovery")] {
        let server = start_discovery(&[("DISCOVERY_PATH", path)]).await;
        let mut web = Web::open(server.address()).await;
        let offered = json!({"info": "i", "offer": "o"});
        let made = web.post(&format!("{base}/health/offer"), &offered).await;
        assert_eq!(made.status, 200);
        let topics = web.get(&format!("{base}/")).await.json();
        assert_eq!(topics["topics"], json!([{"topic": "health", "count": 1}]));
        for target in ["/health".to_owned(), format!("{base}/health")] {
            assert_eq!(web.get(&target).await.json()["status"], "ok");
        }
        let description = web.get("/discovery/openapi.json").await.json();
        assert_eq!(description["servers"][0]["url"], if base.is_empty() { "/" } else { base });
        assert!(web.get("/metrics").await.text.contains("crolang_discovery_requests"));
        assert!(get(server.address(), "/socket.io/?EIO=4").await.contains("Transport unknown"));
        Node::connect(server.address(), "a").await;
        if !base.is_empty() {
            assert_eq!(web.get(base).await.status, 200);
            assert_eq!(web.get("/").await.status, 404);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_come_at_the_same_time_are_all_kept() {
    let server = start_discovery(&[]).await;
    let address = server.address();
    let code = offer(&mut Web::open(address).await, "t", "o").await;
    let senders: Vec<_> = (0..32)
        .map(|sender| {
            let code = code.clone();
            tokio::spawn(async move {
                let mut web = Web::open(address).await;
                for n in 0..8 {
                    let side = if sender % 2 == 0 { "offerer" } else { "answerer" };
                    let candidate = format!("{sender}/{n}");
                    let body = json!({"code": code, "side": side, "candidate": candidate});
                    assert_eq!(web.post("/answer", &body).await.status, 200);
                }
            })
        })
        .collect();
    for sender in senders {
        tokio::time::timeout(2 * SOON, sender).await.unwrap().unwrap();
    }
    let mut web = Web::open(address).await;
    let mut count = 0;
    for (side, list) in [("offerer", "answerCandidates"), ("answerer", "offerCandidates")] {
        let polled = web.post("/poll", &json!({"code": code, "side": side})).await.json();
        let all = polled[list].as_array().unwrap();
        let different: std::collections::HashSet<_> = all.iter().map(Value::to_string).collect();
        assert_eq!(different.len(), all.len());
        count += all.len();
    }
    assert_eq!(count, 256);
}
