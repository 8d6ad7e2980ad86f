//! Calls of webhooks are shared fairly: a cause of many calls waits for them, and others do not.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    Hook, Node, Reply, eventually, metric, start_with_variables, upgrade_request,
};

const AUTHENTICATION: &str = "NODES_AUTHENTICATION_WEBHOOK_URL";
const AUTHORIZATION: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";
const ON_MESSAGE: &str = "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL";

/// One call at a time, and time enough for all that wait.
const ONE_AT_A_TIME: [(&str, &str); 2] =
    [("WEBHOOK_MAX_IN_FLIGHT", "1"), ("WEBHOOK_TIMEOUT_MS", "20000")];

/// How many calls a flooder causes.
const MANY: usize = 40;

fn messages(count: usize) -> Vec<String> {
    let message = |n| format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"nobody\"}}"]"#);
    (0..count).map(message).collect()
}

/// How many calls about the flooder come before the first one about the other.
fn calls_before(hook: &Hook, field: &str, other: &str) -> Option<usize> {
    hook.bodies().iter().position(|body| body[field] == other)
}

/// Begins to connect a node from this address of the loopback network.
async fn begin_to_connect(address: SocketAddr, from: [u8; 4], id: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = upgrade_request(&format!("&id={id}&version=1&runtime=TEST"));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_storm_of_logins_from_one_address_holds_up_no_other() {
    let hook = Hook::start(|_| json!({"authenticated": true})).await;
    let mut variables = vec![(AUTHENTICATION, hook.url("/"))];
    variables.extend(ONE_AT_A_TIME.map(|(name, value)| (name, value.to_owned())));
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let server = start_with_variables(&variables).await;
    hook.hold();
    let mut storm = Vec::new();
    for n in 0..MANY {
        storm.push(begin_to_connect(server.address(), [127, 0, 0, 1], &format!("n{n}")).await);
    }
    hook.called(1).await;
    let _other = begin_to_connect(server.address(), [127, 0, 0, 2], "other").await;
    eventually("all have come", || server.connections() == MANY + 1).await;
    // The requests are read in the order in which they came, by as many tasks.
    tokio::task::yield_now().await;
    hook.release();
    hook.called(MANY + 1).await;
    let before = calls_before(&hook, "id", "other").unwrap();
    assert!(before < MANY / 2, "{before} calls came first");
}

#[tokio::test]
async fn a_sender_of_many_messages_holds_up_no_other() {
    let slow = || Reply::After(Duration::from_millis(20), json!({"authorized": true}));
    let hook = Hook::start(move |_| slow()).await;
    let url = hook.url("/");
    let server =
        start_with_variables(&[&[(AUTHORIZATION, &*url)], &ONE_AT_A_TIME[..]].concat()).await;
    let mut flooder = Node::connect(server.address(), "flooder").await;
    let mut other = Node::connect(server.address(), "other").await;
    flooder.send_all(&messages(MANY)).await;
    hook.called(1).await;
    assert_eq!(other.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    let calls = hook.count();
    assert!(calls < MANY / 2, "it was answered after {calls} calls");
    for _ in 0..MANY {
        assert!(flooder.text().await.ends_with("[\"NOT_CONNECTED\"]"));
    }
}

#[tokio::test]
async fn a_full_queue_of_notifications_has_a_share_for_everybody() {
    let hook = Hook::start(|_| Value::Null).await;
    let url = hook.url("/");
    let server = start_with_variables(&[&[(ON_MESSAGE, &*url)], &ONE_AT_A_TIME[..]].concat()).await;
    let mut flooder = Node::connect(server.address(), "flooder").await;
    let mut other = Node::connect(server.address(), "other").await;
    // One call in flight and 64 that wait are all that there is place for.
    hook.hold();
    flooder.send_all(&messages(300)).await;
    for _ in 0..300 {
        flooder.text().await;
    }
    let dropped = || {
        let name = r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="dropped"}"#;
        metric(&server, name)
    };
    assert!(dropped() >= 200.0, "{}", dropped());
    let before = hook.count();
    other.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await;
    let mut position = None;
    eventually("it is told of the other's message", || {
        position = calls_before(&hook, "senderId", "other");
        position.is_some()
    })
    .await;
    let waited = position.unwrap() - before;
    assert!(waited < 10, "{waited} calls came first");
    hook.release();
}
