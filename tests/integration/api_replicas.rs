//! The server API across replicas that share a Redis.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    API, Node, Proxy, RedisServer, Replica, TOKEN, api_get, api_post, column, eventually, request,
    start_replica, start_replicas, url_through,
};

#[tokio::test]
async fn nodes_of_all_replicas_are_one_list() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(3, &redis, &API).await;
    let mut nodes = Vec::new();
    for number in 0..30 {
        let replica = &replicas[number % 3];
        nodes.push(Node::connect_settled(replica.address(), &format!("n{number:02}")).await);
    }
    let expected: Vec<_> = (0..30).map(|number| format!("n{number:02}")).collect();
    for replica in &replicas {
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api_get(replica.address(), &format!("/nodes?limit=4{cursor}")).await;
            assert_eq!(page["incomplete"], json!([]));
            listed.extend(column(&page["nodes"], "id").into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(listed, expected);
    }
    let status = api_get(replicas[0].address(), "/status").await;
    let parts = &status["replicas"][0]["parts"];
    assert_eq!(parts["redis"]["status"], "ready", "{status}");
    let of_each: Vec<_> =
        status["replicas"].as_array().unwrap().iter().map(|it| &it["nodes"]).collect();
    assert_eq!(of_each, [10, 10, 10]);
    // One replica only.
    let last = status["replicas"][2]["replica"].as_str().unwrap();
    let page = api_get(replicas[0].address(), &format!("/nodes?replica={last}")).await;
    assert_eq!(page["nodes"].as_array().unwrap().len(), 10);
    assert!(column(&page["nodes"], "replica").iter().all(|replica| *replica == last));
    // None of this has looked through the keys.
    let calls = redis.command_calls();
    assert!(!calls.contains_key("scan"), "{calls:?}");
}

#[tokio::test]
async fn a_node_is_found_and_disconnected_wherever_it_is() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &API).await;
    let (here, there) = (replicas[0].address(), replicas[1].address());
    let mut alice = Node::connect_settled(there, "alice").await;
    assert_eq!(api_get(here, "/nodes/alice").await["id"], "alice");
    let answer = request(here, TOKEN, "DELETE", "/nodes/alice?reason=test", "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(alice.text().await, "41");
    alice.end().await;
    eventually("she is gone", || replicas[1].connections() == 0).await;
    let answer = request(here, TOKEN, "DELETE", "/nodes/alice", "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_connected")));
}

#[tokio::test]
async fn messages_reach_nodes_of_all_replicas() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &API).await;
    let (here, there) = (replicas[0].address(), replicas[1].address());
    let mut alice = Node::connect_settled(here, "alice").await;
    let mut bob = Node::connect_settled(there, "bob").await;
    let body = |to: Value| json!({"to": to, "channel": "c", "content": "x"});
    let answer = api_post(here, "/messages", &body(json!(["alice", "bob", "carol"]))).await;
    assert_eq!(column(&answer.json()["acks"], "ack"), ["OK", "OK", "NOT_CONNECTED"]);
    let answer = api_post(here, "/messages", &body(json!("*"))).await;
    assert_eq!(answer.json()["counts"]["OK"], 2);
    for node in [&mut alice, &mut bob] {
        for _ in 0..2 {
            assert!(node.text().await.starts_with("42[\"SOCKET_MSG_EXCHANGE\","));
        }
    }
}

#[tokio::test]
async fn a_frozen_replica_is_named_and_holds_nothing_up() {
    let redis = RedisServer::start().await;
    let here = start_replica(&redis.url(), &API).await;
    let frozen = Replica::start(&redis, &API).await;
    let _alice = Node::connect_settled(here.address(), "alice").await;
    let _bob = Node::connect_settled(frozen.address(), "bob").await;
    let page = api_get(here.address(), "/nodes").await;
    assert_eq!(column(&page["nodes"], "id"), ["alice", "bob"]);
    let replica = page["nodes"][1]["replica"].clone();
    frozen.process.pause();
    let began = std::time::Instant::now();
    let page = api_get(here.address(), "/nodes").await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(column(&page["nodes"], "id"), ["alice"]);
    assert_eq!(page["incomplete"], json!([replica]));
    let status = api_get(here.address(), "/status").await;
    assert_eq!(status["incomplete"], json!([replica]));
    let answer = request(here.address(), TOKEN, "DELETE", "/nodes/bob", "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("replica_unresponsive")));
    frozen.process.resume();
}

#[tokio::test]
async fn without_redis_the_own_nodes_are_listed() {
    let redis = RedisServer::start().await;
    let link = Proxy::start(redis.address()).await;
    let here = start_replica(&url_through(&link), &API).await;
    let there = start_replica(&redis.url(), &API).await;
    let _alice = Node::connect_settled(here.address(), "alice").await;
    let _bob = Node::connect_settled(there.address(), "bob").await;
    assert_eq!(api_get(here.address(), "/nodes").await["nodes"].as_array().unwrap().len(), 2);
    link.refuse().await;
    link.cut();
    eventually("Redis is unavailable", || {
        here.metrics().contains("crolang_redis_connected{use=\"nodes\"} 0")
    })
    .await;
    let page = api_get(here.address(), "/nodes").await;
    assert_eq!(column(&page["nodes"], "id"), ["alice"]);
    assert_eq!(page["incomplete"].as_array().unwrap().len(), 1);
}
