//! May this node connect? What the authentication webhook is asked, when, and what its answers do.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Fault, Frame, Hook, Node, Reply, SOON, back_at_the_start, configuration, enter, eventually,
    exchange, get, metric, start_with_variables, upgrade_request,
};

const URL: &str = "NODES_AUTHENTICATION_WEBHOOK_URL";
/// Asks again about a node that was refused a moment ago.
const ASK_EVERY_TIME: (&str, &str) = ("AUTHENTICATION_FAILURE_CACHE_TTL_MS", "0");

const REFUSED: &str = r#"44{"message":"authentication failed"}"#;

/// A hook that lets everybody in.
async fn open_door() -> Hook {
    Hook::start(|_| json!({"authenticated": true})).await
}

#[tokio::test]
async fn it_is_asked_by_a_post_of_json() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/auth/v1?tenant=a%20b"))]).await;
    let _alice = Node::connect(server.address(), "alice").await;
    let calls = hook.calls();
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/auth/v1?tenant=a%20b"));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.header("accept"), Some("application/json, */*"));
    let user_agent = concat!("crolang-broker/", env!("CARGO_PKG_VERSION"));
    assert_eq!(call.header("user-agent"), Some(user_agent));
    assert_eq!(call.header("host"), Some(hook.address().to_string().as_str()));
    assert_eq!(call.header("content-length"), Some(call.text.len().to_string().as_str()));
    assert_eq!(call.header("webhook-signature"), None, "without a secret nothing is signed");
    assert_eq!(call.body, json!({"id": "alice", "nodeId": "alice"}));
}

#[tokio::test]
async fn ids_of_all_kinds_arrive_as_they_are() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    for (sent, id) in
        [("a%22b%5C", "a\"b\\"), ("%C3%A4%F0%9F%99%82", "ä🙂"), ("a+b", "a b"), ("%E2%80%A8x", "")]
    {
        let entered = enter(server.address(), &format!("&id={sent}&version=1&runtime=r")).await;
        match id {
            // A blank at its end: that is no ID, and nobody is asked about it.
            "" => assert!(entered.is_err()),
            id => assert_eq!(hook.bodies().pop().unwrap(), json!({"id": id, "nodeId": id})),
        }
    }
    assert_eq!(hook.count(), 3);
}

#[tokio::test]
async fn data_is_an_object_where_it_is_one_and_else_a_text() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(3_000), "]".repeat(3_000));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(30_000));
    let objects = [r#"{"token":"t","n":1.0,"a":[{"b":null}]}"#, r#" {"a" : "ü"} "#, "{}", &long];
    let texts = ["a token", "[1,2]", "\"text\"", "1", "null", "true", "{", "{\"a\":1}x", " ", "}{"];
    for format in ["object", "string"] {
        let hook = open_door().await;
        let server =
            start_with_variables(&[(URL, &hook.url("/")), ("AUTHENTICATION_DATA_FORMAT", format)])
                .await;
        for data in objects.iter().chain(&texts) {
            let query = format!("&id=a&version=1&runtime=r&data={}", encoded(data));
            enter(server.address(), &query).await.unwrap();
            let body = hook.bodies().pop().unwrap();
            let is_object = format == "object" && objects.contains(data);
            let expected =
                if is_object { serde_json::from_str(data).unwrap() } else { json!(data) };
            assert_eq!(body, json!({"id": "a", "nodeId": "a", "data": expected}), "{data}");
            back_at_the_start(&server).await;
        }
        // Too deep for many a parser; whatever it is taken for, it does no harm.
        let query = format!("&id=a&version=1&runtime=r&data={}", encoded(&deep));
        enter(server.address(), &query).await.unwrap();
        let text = hook.calls().pop().unwrap().text;
        assert!(text.contains("[[[[[[[[") && text.ends_with('}'));
    }
}

/// As a form encodes it.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn data_is_a_text_where_nothing_else_is_configured() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let data = r#"{"token":"t"}"#;
    let query = format!("&id=a&version=1&runtime=r&data={}", encoded(data));
    enter(server.address(), &query).await.unwrap();
    assert_eq!(hook.bodies(), [json!({"id": "a", "nodeId": "a", "data": data})]);
}

#[tokio::test]
async fn no_data_means_no_field() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    for data in ["", "&data=x&data=y", "&data=%ff"] {
        let query = format!("&id=a&version=1&runtime=r{data}");
        enter(server.address(), &query).await.unwrap();
        assert_eq!(hook.bodies().pop().unwrap(), json!({"id": "a", "nodeId": "a"}), "{data}");
        back_at_the_start(&server).await;
    }
}

#[tokio::test]
async fn the_empty_data_of_the_official_nodes_is_an_empty_text() {
    for format in ["object", "string"] {
        let hook = open_door().await;
        let variables = [(URL, &*hook.url("/")), ("AUTHENTICATION_DATA_FORMAT", format)];
        let server = start_with_variables(&variables).await;
        for data in ["&data=", "&data"] {
            enter(server.address(), &format!("&id=a&version=1&runtime=r{data}")).await.unwrap();
            let expected = json!({"id": "a", "nodeId": "a", "data": ""});
            assert_eq!(hook.bodies().pop().unwrap(), expected, "{data}");
            back_at_the_start(&server).await;
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_the_answer_does_no_harm() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ASK_EVERY_TIME]).await;
    let marked = |authenticated: bool| {
        move |_: &_| Reply::Text(format!("\u{feff}{{\"authenticated\":{authenticated}}}"))
    };
    hook.answer(marked(false));
    let refusal = Node::try_connect(server.address(), "alice").await.err();
    assert_eq!(refusal.as_deref(), Some(REFUSED));
    hook.answer(marked(true));
    Node::connect(server.address(), "alice").await;
}

#[tokio::test]
async fn what_else_is_in_the_answer_does_not_matter() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    for (n, other) in [r#""\ud83d""#, "1e400", &deep, r#"{"a":1,"a":2}"#].into_iter().enumerate() {
        let text = format!(r#"{{"data":{other},"authenticated":true,"more":{other}}}"#);
        hook.answer(move |_| Reply::Text(text.clone()));
        let entered = Node::try_connect(server.address(), &format!("n{n}")).await;
        assert!(entered.is_ok(), "{other}: {:?}", entered.err());
    }
}

#[tokio::test]
async fn only_true_lets_in_and_every_other_object_refuses_for_good() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ASK_EVERY_TIME]).await;
    let noes = [
        json!({"authenticated": false}),
        json!({"authenticated": "true"}),
        json!({"authenticated": 1}),
        json!({"authenticated": null}),
        json!({"authenticated": [true]}),
        json!({"authenticated": {"authenticated": true}}),
        json!({"Authenticated": true, "authorized": true, "data": {"authenticated": true}}),
        json!({}),
    ];
    for no in &noes {
        let answer = no.clone();
        hook.answer(move |_| answer.clone());
        let refusal = Node::try_connect(server.address(), "alice").await.err();
        assert_eq!(refusal.as_deref(), Some(REFUSED), "{no}");
    }
    hook.answer(|_| json!({"reason": "why not", "authenticated": true}));
    assert!(Node::try_connect(server.address(), "alice").await.is_ok());
    assert_eq!(hook.count(), noes.len() + 1, "one call for each that comes");
    back_at_the_start(&server).await;
}

#[tokio::test]
async fn without_an_answer_the_node_is_to_come_again() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    hook.fault(Fault::Status(500), json!({"authenticated": true})).await;
    let answer = Node::try_connect(server.address(), "alice").await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
    hook.answer(|_| json!({"authenticated": true}));
    Node::connect(server.address(), "alice").await;
    assert_eq!(hook.count(), 2, "a failed call is not repeated");
}

#[tokio::test]
async fn it_is_asked_before_the_id_is_looked_at() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ASK_EVERY_TIME]).await;
    let mut holder = Node::connect(server.address(), "alice").await;
    hook.answer(|_| json!({"authenticated": false}));
    let refusal = Node::try_connect(server.address(), "alice").await.err();
    assert_eq!(refusal.as_deref(), Some(REFUSED));
    hook.fault(Fault::Closed, json!({"authenticated": true})).await;
    let answer = Node::try_connect(server.address(), "alice").await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // Nobody probed the holder: the next thing it gets is its own ack.
    holder.send(r#"427["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#).await;
    assert_eq!(holder.next_unanswered().await, Frame::Text("437[\"NOT_CONNECTED\"]".into()));
    hook.answer(|_| json!({"authenticated": true}));
    let holder = holder.live();
    let refusal = Node::try_connect(server.address(), "alice").await.err();
    assert_eq!(refusal.as_deref(), Some(r#"44{"message":"client already connected"}"#));
    assert!(!holder.is_over());
    assert_eq!(hook.count(), 5, "one call is repeated, since its connection broke");
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_no_node() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let address = server.address();
    for query in
        ["", "&id=a&version=1", "&id=a&id=b&version=1&runtime=r", "&id=+a&version=1&runtime=r"]
    {
        assert!(enter(address, query).await.err().unwrap().contains("Missing required"));
    }
    for target in ["/health", "/socket.io/?EIO=4&transport=polling&id=a&version=1&runtime=r"] {
        get(address, target).await;
    }
    let not_an_upgrade = upgrade_request("&id=a&version=1&runtime=r")
        .replace("Version: 13", "Version: 12\r\nConnection: close");
    assert!(exchange(address, not_an_upgrade.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(hook.count(), 0);
}

#[tokio::test]
async fn nothing_happens_before_the_answer() {
    let hook = open_door().await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let address = server.address();
    let mut bob = Node::connect(address, "bob").await;
    hook.hold();
    let coming = tokio::spawn(async move {
        let mut request = upgrade_request("&id=alice&version=1&runtime=r").into_bytes();
        request.extend(crate::support::frame(0x81, b"40"));
        let early = br#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\",\"early\":1}"]"#;
        request.extend(crate::support::frame(0x81, early));
        Node::request(address, &request).await
    });
    hook.called(2).await;
    let presence = r#"{"ids":["alice"]}"#;
    for _ in 0..5 {
        let answer = bob.ask("ARE_NODES_CONNECTED_TO_BROKER", presence).await;
        assert!(answer.contains("false"), "{answer}");
        let answer = bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await;
        assert_eq!(answer, "[\"NOT_CONNECTED\"]");
    }
    assert_eq!(metric(&server, "crolang_nodes"), 1.0);
    hook.release();
    let mut alice = coming.await.unwrap().ok().unwrap();
    alice.authenticated().await;
    assert_eq!(alice.text().await, "431[\"OK\"]");
    assert!(bob.text().await.contains("early"));
}

#[tokio::test]
async fn a_node_that_leaves_during_the_call_leaves_nothing_behind() {
    let hook = open_door().await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "60000")]).await;
    hook.hold();
    let mut tries = Vec::new();
    for n in 0..20 {
        let address = server.address();
        tries.push(tokio::spawn(async move { Node::try_connect(address, &format!("n{n}")).await }));
    }
    hook.called(20).await;
    tries.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("their links are gone", || server.connections() == 0).await;
    hook.release();
    back_at_the_start(&server).await;
    for n in 0..20 {
        Node::connect(server.address(), &format!("n{n}")).await;
    }
}

#[tokio::test]
async fn a_call_does_not_hold_up_the_shutdown() {
    let hook = open_door().await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "60000")]).await;
    hook.hold();
    let address = server.address();
    let coming = tokio::spawn(async move {
        exchange(address, upgrade_request("&id=a&version=1&runtime=r").as_bytes()).await
    });
    hook.called(1).await;
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let answer = tokio::time::timeout(SOON, coming).await.unwrap().unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn calls_side_by_side_are_limited_and_the_others_wait() {
    let hook =
        Hook::start(|_| Reply::After(Duration::from_millis(20), json!({"authenticated": true})))
            .await;
    let variables = [(URL, hook.url("/")), ("WEBHOOK_MAX_IN_FLIGHT", "4".into())];
    let server =
        start_with_variables(&variables.each_ref().map(|(name, value)| (*name, value.as_str())))
            .await;
    let address = server.address();
    let nodes: Vec<_> = (0..16)
        .map(|n| tokio::spawn(async move { Node::connect(address, &format!("n{n}")).await }))
        .collect();
    for node in nodes {
        node.await.unwrap();
    }
    assert_eq!((hook.count(), hook.most_in_flight()), (16, 4));
    assert!(hook.open_connections() <= 4, "connections are kept and used again");
}

#[test]
fn wrong_values_are_errors_that_name_the_variable() {
    let wrong = [
        (URL, "ftp://127.0.0.1/"),
        (URL, "not a URL"),
        ("AUTHENTICATION_DATA_FORMAT", "json"),
        ("WEBHOOK_TIMEOUT_MS", "0"),
        ("WEBHOOK_MAX_IN_FLIGHT", "0"),
        ("WEBHOOK_SECRET", "canary-secret"),
        ("WEBHOOK_SECRET", "whsec_canary*"),
        ("WEBHOOK_PROXY", "canary proxy"),
        ("VALIDITY_CHECK_BATCH_SIZE", "0"),
        ("AUTHORIZATION_CACHE_TTL_MS", "-1"),
        ("RTC_FALLBACK", "first"),
        ("TURN_CREDENTIAL_TTL_MS", "soon"),
    ];
    for (name, value) in wrong {
        let errors = configuration(&[(name, value)]).unwrap_err().to_string();
        assert!(errors.contains(&format!("\n  {name}: ")), "{name}={value}: {errors}");
        assert!(!errors.contains("canary"), "{errors}");
    }
}

#[tokio::test]
async fn nodes_that_are_not_supported_are_refused_and_nobody_is_asked() {
    let hook = open_door().await;
    let variables =
        [(URL, &*hook.url("/")), ("ALLOWED_RUNTIMES", "JVM, BROWSER"), ("MIN_NODE_VERSION", "1.2")];
    let server = start_with_variables(&variables).await;
    let enter = async |runtime: &str, version: &str| {
        let query = format!("&id=a&version={version}&runtime={runtime}");
        enter(server.address(), &query).await.map(drop)
    };
    for (runtime, version) in
        [("NODEJS", "1.2.0"), ("", "1.2.0"), ("JVM", "1.1.9"), ("JVM", "1.2.0-beta"), ("JVM", "")]
    {
        let refusal = enter(runtime, version).await.unwrap_err();
        assert_eq!(refusal, r#"44{"message":"unsupported architecture"}"#, "{runtime} {version}");
    }
    assert_eq!(hook.count(), 0);
    assert_eq!(metric(&server, r#"crolang_refusals_total{cause="unsupported"}"#), 5.0);
    for (runtime, version) in [("JVM", "1.2.0"), ("browser", "2")] {
        enter(runtime, version).await.unwrap();
        eventually("it has left", || metric(&server, "crolang_nodes") == 0.0).await;
    }
    assert_eq!(hook.count(), 2);
}
