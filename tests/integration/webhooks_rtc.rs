//! How does this node reach others? The RTC webhook's answers, and what a node gets without one.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{
    Fault, Frame, Hook, Node, back_at_the_start, configuration, rtc_configuration, start,
    start_with_variables,
};

const URL: &str = "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL";

/// A configuration that can be told from others.
fn stun(name: &str) -> Value {
    json!({"iceServers": [{"urls": [format!("stun:{name}.example:3478")]}]})
}

/// Connects a node; what it is told, as JSON.
async fn told(server: &Server, id: &str) -> Value {
    let (_node, text) = greeted(server, id).await;
    serde_json::from_str(&text).unwrap()
}

/// Connects a node; what it is told, as text.
async fn greeted(server: &Server, id: &str) -> (Node, String) {
    let mut node =
        Node::open(server.address(), &format!("&id={id}&version=1.0.0&runtime=TEST")).await;
    node.send("40").await;
    assert!(node.text().await.starts_with("40{\"sid\":\""));
    let text = rtc_configuration(&node.text().await);
    (node, text)
}

/// What a node is told where nothing is set.
async fn built_in() -> Value {
    told(&start().await, "a").await
}

#[tokio::test]
async fn it_is_asked_once_for_each_node_by_a_post_of_json() {
    let hook = Hook::start(|_| stun("a")).await;
    let server = start_with_variables(&[(URL, &hook.url("/rtc"))]).await;
    let (mut alice, _) = greeted(&server, "alice").await;
    let calls = hook.calls();
    assert_eq!((calls[0].method.as_str(), calls[0].target.as_str()), ("POST", "/rtc"));
    assert_eq!(calls[0].header("content-type"), Some("application/json"));
    assert_eq!(calls[0].body, json!({"nodeId": "alice"}));
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"NOT_CONNECTED\"]");
    let bob = greeted(&server, "bob").await.0.live();
    // A twin that is refused needs none.
    assert!(Node::try_connect(server.address(), "bob").await.is_err());
    assert!(!bob.is_over());
    assert_eq!(hook.bodies(), [json!({"nodeId": "alice"}), json!({"nodeId": "bob"})]);
}

#[tokio::test]
async fn a_node_that_is_refused_is_not_asked_about() {
    let hook = Hook::start(|_| stun("a")).await;
    let doorman = Hook::start(|_| json!({"authenticated": false})).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &doorman.url("/")),
    ])
    .await;
    assert!(Node::try_connect(server.address(), "alice").await.is_err());
    assert_eq!((doorman.count(), hook.count()), (1, 0));
}

#[tokio::test]
async fn good_answers_reach_the_node_with_all_their_fields_indented_by_two() {
    let hook = Hook::start(|_| json!(null)).await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ("RTC_FALLBACK", "close")]).await;
    let full = json!({
        "iceServers": [
            {"urls": ["stun:a.example", "stun:b.example"]},
            {"urls": ["turns:t.example:5349?transport=tcp"], "username": "u", "password": "p"},
            {"urls": ["turn:b.example"], "username": "v", "credential": "\"quoted\"\n", "credentialType": "password"},
        ],
        "iceTransportPolicy": "relay",
        "bundlePolicy": "max-bundle",
        "rtcpMuxPolicy": "require",
        "iceCandidatePoolSize": 10,
        "x": {"y": [1, null, true, 0.5, {}], "z": []},
    });
    for answer in
        [stun("a"), json!({"iceServers": [{"x": null, "urls": ["stun:a"]}]}), full.clone()]
    {
        for wrapped in [false, true] {
            let reply = if wrapped {
                json!({"rtcConfiguration": answer, "ok": true})
            } else {
                answer.clone()
            };
            hook.answer(move |_| reply.clone());
            assert_eq!(told(&server, "alice").await, answer, "wrapped: {wrapped}");
            back_at_the_start(&server).await;
        }
    }
    // Browsers take one text, the official nodes want a list.
    hook.answer(|_| json!({"iceServers": [{"urls": "stun:a"}, {"urls": ["stun:b"]}]}));
    let expected = json!({"iceServers": [{"urls": ["stun:a"]}, {"urls": ["stun:b"]}]});
    assert_eq!(told(&server, "alice").await, expected);
    back_at_the_start(&server).await;
    hook.answer(|_| json!({"rtcConfiguration": {"iceServers": [{"urls": ["stun:a"]}], "x": 1}}));
    let (_node, text) = greeted(&server, "alice").await;
    let expected = [
        "{",
        "  \"iceServers\": [",
        "    {",
        "      \"urls\": [",
        "        \"stun:a\"",
        "      ]",
        "    }",
        "  ],",
        "  \"x\": 1",
        "}",
    ];
    assert_eq!(text, expected.join("\n"));
}

/// Objects that no node could use.
fn useless() -> Vec<Value> {
    vec![
        json!({}),
        json!({"iceServers": null}),
        json!({"iceServers": "stun:a"}),
        json!({"iceServers": {"urls": "stun:a"}}),
        json!({"iceServers": []}),
        json!({"iceServers": [{}]}),
        json!({"iceServers": ["stun:a"]}),
        json!({"iceServers": [{"url": "stun:a"}]}),
        json!({"iceServers": [{"urls": ""}]}),
        json!({"iceServers": [{"urls": []}]}),
        json!({"iceServers": [{"urls": [1]}]}),
        json!({"iceServers": [{"urls": 1}]}),
        json!({"iceServers": [{"urls": ["stun:a"]}, {}]}),
        json!({"iceServers": [{"urls": ["stun://a"]}]}),
        json!({"iceServers": [{"urls": ["turn:a"], "username": 1}]}),
        json!({"iceServers": [{"urls": ["turn:a"], "username": "u"}]}),
        json!({"iceServers": [{"urls": ["stun:a"]}], "iceTransportPolicy": "public"}),
        json!({"iceServers": [{"urls": ["stun:a"]}], "bundlePolicy": null}),
        json!({"iceServers": [{"urls": ["stun:a"]}], "iceCandidatePoolSize": 1.5}),
        json!({"rtcConfiguration": null}),
        json!({"rtcConfiguration": []}),
        json!({"rtcConfiguration": "{\"iceServers\":[{\"urls\":\"stun:a\"}]}"}),
        json!({"rtcConfiguration": {"iceServers": []}}),
        json!({"rtcconfiguration": stun("a")}),
    ]
}

#[tokio::test]
async fn what_no_node_could_use_is_a_failure() {
    let built_in = built_in().await;
    for answer in useless() {
        // One server each: after many failures in a row nobody would be asked any more.
        let reply = answer.clone();
        let hook = Hook::start(move |_| reply.clone()).await;
        let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
        assert_eq!(told(&server, "alice").await, built_in, "{answer}");
        assert_eq!(hook.count(), 1);
    }
}

#[tokio::test]
async fn the_last_good_answer_stands_in_for_a_missing_one() {
    let hook = Hook::start(|call| stun(call.body["nodeId"].as_str().unwrap())).await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ("RTC_FALLBACK", "last")]).await;
    hook.fault(Fault::Status(500), stun("x")).await;
    assert_eq!(told(&server, "alice").await, built_in().await, "there was no answer yet");
    hook.answer(|call| stun(call.body["nodeId"].as_str().unwrap()));
    for id in ["alice", "bob"] {
        assert_eq!(told(&server, id).await, stun(id));
    }
    back_at_the_start(&server).await;
    hook.fault(Fault::Status(500), stun("x")).await;
    assert_eq!(told(&server, "alice").await, stun("alice"), "its own last answer");
    assert_eq!(told(&server, "bob").await, stun("bob"));
    assert_eq!(told(&server, "carol").await, stun("bob"), "the last one of all");
    back_at_the_start(&server).await;
    hook.answer(|_| stun("new"));
    assert_eq!(told(&server, "alice").await, stun("new"), "it is asked again");
}

#[tokio::test]
async fn the_static_configuration_stands_in_if_that_is_chosen() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stun("file").to_string()).unwrap();
    let hook = Hook::start(|_| stun("hook")).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("RTC_FALLBACK", "default"),
        ("RTC_CONFIGURATION_FILE", file.path().to_str().unwrap()),
    ])
    .await;
    assert_eq!(told(&server, "alice").await, stun("hook"));
    back_at_the_start(&server).await;
    hook.fault(Fault::Closed, stun("x")).await;
    assert_eq!(told(&server, "alice").await, stun("file"));
}

#[tokio::test]
async fn the_transport_is_closed_if_that_is_chosen() {
    let hook = Hook::start(|_| stun("a")).await;
    let server = start_with_variables(&[(URL, &hook.url("/")), ("RTC_FALLBACK", "close")]).await;
    let address = server.address();
    hook.fault(Fault::Reset, stun("a")).await;
    for _ in 0..3 {
        let mut node = Node::open(address, "&id=alice&version=1&runtime=r").await;
        node.send("40").await;
        // No refusal and no disconnect packet: after those an official node would not come back.
        loop {
            match node.next().await {
                Frame::End | Frame::Close => break,
                Frame::Text(text) => assert!(text.starts_with("40{"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
    back_at_the_start(&server).await;
    hook.answer(|_| stun("a"));
    assert_eq!(told(&server, "alice").await, stun("a"));
}

/// A node that asks for nothing but its configuration, while bob is there already.
async fn waiting(hook: &Hook, server: &Server, first: &[&str]) -> (Node, Node) {
    let (bob, _) = greeted(server, "bob").await;
    hook.hold();
    let mut alice = Node::open(server.address(), "&id=alice&version=1&runtime=r").await;
    alice.send_all(first).await;
    hook.called(2).await;
    (alice, bob)
}

#[tokio::test]
async fn a_node_is_not_there_before_it_has_its_configuration() {
    let hook = Hook::start(|_| stun("a")).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let (mut alice, mut bob) = waiting(&hook, &server, &["40"]).await;
    let question = r#"{"ids":["alice"]}"#;
    for _ in 0..5 {
        let ack = bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await;
        assert_eq!(ack, "[\"NOT_CONNECTED\"]");
        assert!(bob.ask("ARE_NODES_CONNECTED_TO_BROKER", question).await.contains("false"));
    }
    hook.release();
    alice.authenticated().await;
    assert_eq!(bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await, "[\"OK\"]");
    alice.text().await;
}

#[tokio::test]
async fn what_it_sends_before_it_has_its_configuration_waits_until_then() {
    let hook = Hook::start(|_| stun("a")).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let early = r#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\",\"early\":1}"]"#;
    let (mut alice, mut bob) = waiting(&hook, &server, &["40", early]).await;
    // A node that is not there yet cannot be answered: what it sends would come out of nowhere.
    for _ in 0..5 {
        let ack = bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await;
        assert_eq!(ack, "[\"NOT_CONNECTED\"]");
    }
    hook.release();
    alice.authenticated().await;
    assert_eq!(alice.text().await, "431[\"OK\"]");
    assert!(bob.text().await.contains("early"));
}

#[tokio::test]
async fn a_node_that_leaves_during_the_call_leaves_nothing_behind() {
    let hook = Hook::start(|_| stun("a")).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "60000")]).await;
    hook.hold();
    let mut nodes = Vec::new();
    for n in 0..10 {
        let query = format!("&id=n{n}&version=1&runtime=r");
        let mut node = Node::open(server.address(), &query).await;
        node.send(if n % 2 == 0 { "40" } else { "40{\"token\":\"x\"}" }).await;
        nodes.push(node);
    }
    hook.called(10).await;
    drop(nodes);
    back_at_the_start(&server).await;
    hook.release();
    assert_eq!(told(&server, "n1").await, stun("a"));
    hook.hold();
    let mut node = Node::open(server.address(), "&id=n2&version=1&runtime=r").await;
    node.send("40").await;
    hook.called(12).await;
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    node.end().await;
}

#[tokio::test]
async fn a_file_is_the_configuration_of_all() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    std::fs::write(file.path(), r#"{"x":1.0,"iceServers":[{"urls":"stun:a"}]}"#).unwrap();
    let server = start_with_variables(&[("RTC_CONFIGURATION_FILE", path)]).await;
    let expected = json!({"x": 1.0, "iceServers": [{"urls": ["stun:a"]}]});
    assert_eq!(told(&server, "alice").await, expected);
    for wrong in [
        "",
        "{",
        "null",
        r#"{"iceServers":[]}"#,
        r#"{"iceServers":[{"urls":"stun:a b"}]}"#,
        "\u{0}",
    ] {
        std::fs::write(file.path(), wrong).unwrap();
        assert_stops_the_start(path).await;
    }
    assert_stops_the_start("/nowhere/rtc.json").await;
}

/// Either the reading of the configuration or the start names the variable.
async fn assert_stops_the_start(path: &str) {
    let problem = match configuration(&[("RTC_CONFIGURATION_FILE", path)]) {
        Err(errors) => errors.to_string(),
        Ok(config) => match Server::bind(&config).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it starts with {path}"),
        },
    };
    assert!(problem.contains("RTC_CONFIGURATION_FILE"), "{problem}");
}
