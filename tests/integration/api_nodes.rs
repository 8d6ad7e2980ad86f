//! Nodes and messages over the server API, on one replica.

use serde_json::{Value, json};

use crate::support::{
    API, Node, TOKEN, api_get, api_post, back_at_the_start, column, enter, request,
    start_with_variables, unix_time,
};

#[tokio::test]
async fn a_node_is_shown_as_it_is() {
    let server = start_with_variables(&API).await;
    let address = server.address();
    let before = unix_time().as_millis() as u64;
    let mut alice = enter(address, "&id=al%2Fice&version=1.2.0&runtime=JVM").await.unwrap();
    let mut bob = enter(address, "&id=bob&version=1&runtime=r").await.unwrap();
    let sent = r#"{"from":"al/ice","to":"bob","content":"x"}"#;
    for _ in 0..3 {
        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", sent).await, "[\"OK\"]");
        bob.text().await;
    }
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"carol"}"#).await, "[\"NOT_CONNECTED\"]");
    let shown = api_get(address, "/nodes/al%2Fice").await;
    assert_eq!(
        (&shown["id"], &shown["runtime"], &shown["version"], &shown["address"]),
        (&json!("al/ice"), &json!("JVM"), &json!("1.2.0"), &json!("127.0.0.1"))
    );
    assert_eq!((&shown["messagesIn"], &shown["messagesOut"]), (&json!(4), &json!(0)));
    assert!(shown["bytesIn"].as_u64().unwrap() > 4 * 42, "{shown}");
    let since = shown["since"].as_u64().unwrap();
    assert!((before..=unix_time().as_millis() as u64).contains(&since), "{shown}");
    let bob = api_get(address, "/nodes/bob").await;
    assert_eq!((&bob["messagesIn"], &bob["messagesOut"]), (&json!(0), &json!(3)));
}

#[tokio::test]
async fn pages_hold_every_node_once_and_in_order() {
    let server = start_with_variables(&API).await;
    let mut nodes = Vec::new();
    for number in 0..25 {
        nodes.push(Node::connect_settled(server.address(), &format!("n{number:02}")).await);
    }
    // Not yet connected: it is no node.
    let _upgraded = Node::open(server.address(), "&id=n99&version=1&runtime=r").await;
    for limit in [1, 7, 25, 26] {
        let mut listed = Vec::new();
        let mut query = format!("/nodes?limit={limit}");
        loop {
            let page = api_get(server.address(), &query).await;
            assert_eq!(page["incomplete"], json!([]));
            listed.extend(column(&page["nodes"], "id").into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(page["nodes"].as_array().unwrap().len(), limit);
            query = format!("/nodes?limit={limit}&cursor={next}");
        }
        let expected: Vec<_> = (0..25).map(|number| format!("n{number:02}")).collect();
        assert_eq!(listed, expected, "limit {limit}");
    }
    let found = api_get(server.address(), "/nodes?search=2").await;
    assert_eq!(column(&found["nodes"], "id"), ["n02", "n12", "n20", "n21", "n22", "n23", "n24"]);
    assert_eq!(api_get(server.address(), "/nodes?search=x").await["nodes"], json!([]));
}

#[tokio::test]
async fn a_disconnected_node_frees_its_id() {
    let server = start_with_variables(&API).await;
    let mut alice = Node::connect_settled(server.address(), "alice").await;
    let answer = request(server.address(), TOKEN, "DELETE", "/nodes/alice", "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(alice.text().await, "41");
    alice.end().await;
    back_at_the_start(&server).await;
    Node::connect_settled(server.address(), "alice").await;
}

/// What a node got, without the event around it.
fn message(text: &str) -> Value {
    let argument = text.strip_prefix("42[\"SOCKET_MSG_EXCHANGE\",").unwrap();
    let text: String = serde_json::from_str(argument.strip_suffix(']').unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn messages_come_from_the_operator_and_each_has_its_ack() {
    let server = start_with_variables(&API).await;
    let address = server.address();
    let mut alice = Node::connect_settled(address, "alice").await;
    let mut bob = Node::connect_settled(address, "bob").await;
    let content = "\"quoted\" \u{1f642}\n";
    let body = |to: Value| json!({"to": to, "channel": "news", "content": content});

    let answer = api_post(address, "/messages", &body(json!(["alice", " ", "carol", "bob"]))).await;
    let acks = json!({"acks": [
        {"to": "alice", "ack": "OK"},
        {"to": " ", "ack": "NOT_CONNECTED"},
        {"to": "carol", "ack": "NOT_CONNECTED"},
        {"to": "bob", "ack": "OK"},
    ]});
    assert_eq!((answer.status, answer.json()), (200, acks));
    for (node, id) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        let got = message(&node.text().await);
        assert_eq!(
            (&got["from"], &got["to"], &got["channel"], &got["content"]),
            (&json!("operator"), &json!(id), &json!("news"), &json!(content))
        );
    }
    let answer = api_post(address, "/messages", &body(json!("*"))).await;
    let counts = json!({"OK": 2, "NOT_CONNECTED": 0, "ERROR": 0});
    assert_eq!(answer.json(), json!({"counts": counts, "incomplete": []}));
    assert_eq!(message(&alice.text().await)["to"], "alice");
    assert_eq!(message(&bob.text().await)["to"], "bob");
    // Nobody else can speak in that name.
    let refused = enter(address, "&id=operator&version=1&runtime=r").await.err().unwrap();
    assert!(refused.contains("authentication failed"), "{refused}");
}

#[tokio::test]
async fn without_a_sender_there_are_no_messages() {
    let server = start_with_variables(&[("API_TOKEN", TOKEN)]).await;
    let body = json!({"to": "*", "channel": "news", "content": "x"});
    let answer = api_post(server.address(), "/messages", &body).await;
    assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("no_sender")));
}
