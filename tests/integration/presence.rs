//! Questions which nodes are connected.

use crate::support::{Node, eventually, start, start_with};

const ASK: &str = "ARE_NODES_CONNECTED_TO_BROKER";

/// The answer's text: JSON in a JSON string in an array of one.
fn answer(ack: &str) -> String {
    let [text] = serde_json::from_str::<[String; 1]>(ack).unwrap();
    text
}

#[tokio::test]
async fn answers_in_the_order_of_the_question() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let bob = Node::connect(server.address(), "bob").await;
    let ack = alice.ask(ASK, r#"{"ids":["bob","carol"," alice\n","bob"]}"#).await;
    assert_eq!(
        ack,
        r#"["{\"results\":[{\"id\":\"bob\",\"connected\":true},{\"id\":\"carol\",\"connected\":false},{\"id\":\"alice\",\"connected\":true},{\"id\":\"bob\",\"connected\":true}]}"]"#
    );
    assert_eq!(answer(&alice.ask(ASK, r#"{"ids":[]}"#).await), r#"{"results":[]}"#);
    drop(bob);
    eventually("bob is gone", || server.connections() == 1).await;
    assert_eq!(
        answer(&alice.ask(ASK, r#"{"ids":["bob"]}"#).await),
        r#"{"results":[{"id":"bob","connected":false}]}"#
    );
}

#[tokio::test]
async fn a_node_is_there_only_once_it_has_been_told_so() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::open(server.address(), "&id=bob&version=1&runtime=r").await;
    assert!(alice.ask(ASK, r#"{"ids":["bob"]}"#).await.contains("false"));
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"NOT_CONNECTED\"]");
    bob.send("40").await;
    bob.authenticated().await;
    assert!(alice.ask(ASK, r#"{"ids":["bob"]}"#).await.contains("true"));
}

#[tokio::test]
async fn an_id_that_nobody_can_have_is_not_connected() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let long = "x".repeat(257);
    let answer = alice.ask(ASK, &format!(r#"{{"ids":["{long}","alice"]}}"#)).await;
    let expected = format!(
        r#"{{"results":[{{"id":"{long}","connected":false}},{{"id":"alice","connected":true}}]}}"#
    );
    assert_eq!(answer, serde_json::to_string(&[expected]).unwrap());
}

#[tokio::test]
async fn questions_that_are_none_are_errors() {
    let server = start_with(|config| config.broker.max_presence_ids = 10).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let ids = |count: usize| format!("{{\"ids\":[{}]}}", vec!["\"a\""; count].join(","));
    assert!(alice.ask(ASK, &ids(10)).await.contains("results"));
    for question in [
        "",
        "x",
        "[]",
        "{}",
        "null",
        r#"{"ids":"bob"}"#,
        r#"{"ids":[1]}"#,
        r#"{"ids":[""]}"#,
        r#"{"ids":["a"," "]}"#,
        &ids(11),
    ] {
        assert_eq!(alice.ask(ASK, question).await, "[\"ERROR\"]", "{question}");
    }
    assert_eq!(alice.ask_raw(&format!("[\"{ASK}\",{{\"ids\":[]}}]")).await, "[\"ERROR\"]");
    assert_eq!(alice.ask_raw(&format!("[\"{ASK}\"]")).await, "[\"ERROR\"]");
}
