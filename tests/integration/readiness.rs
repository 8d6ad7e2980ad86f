//! What `/livez` and `/readyz` say of a broker and its parts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Fault, Hook, Node, Proxy, RedisServer, SOON, get, start, start_replica, start_with_variables,
    url_through,
};
use crolang_broker::Server;

async fn asked(server: &Server, path: &str) -> (String, Value) {
    let response = get(server.address(), path).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_broker_alone_is_alive_and_ready() {
    let server = start().await;
    let (status, body) = asked(&server, "/livez").await;
    assert_eq!((status.as_str(), &body["status"]), ("200", &json!("ok")));
    let ready = json!({"status": "ready"});
    let expected = json!({"status": "ready", "parts": {"broker": ready, "memory": ready}});
    assert_eq!(asked(&server, "/readyz").await, ("200".into(), expected));
}

#[tokio::test]
async fn a_webhook_that_is_not_called_any_more_is_shown() {
    let hook = Hook::start(|_| json!({"authenticated": true})).await;
    let server =
        start_with_variables(&[("NODES_AUTHENTICATION_WEBHOOK_URL", &hook.url("/"))]).await;
    let state = async || {
        let (status, body) = asked(&server, "/readyz").await;
        assert_eq!((status.as_str(), &body["status"]), ("200", &json!("ready")));
        body["parts"]["authentication_webhook"].clone()
    };
    assert_eq!(state().await, json!({"status": "ready"}));
    hook.fault(Fault::Closed, json!({})).await;
    for node in 0..10 {
        assert!(Node::try_connect(server.address(), &format!("n{node}")).await.is_err());
    }
    assert_eq!(state().await, json!({"status": "not ready", "cause": "circuit_open"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_decides_whether_redis_is_required() {
    let redis = RedisServer::start().await;
    let link = Proxy::start(redis.address()).await;
    for (required, expected) in [("true", "503"), ("false", "200")] {
        let server =
            start_replica(&url_through(&link), &[("READY_REQUIRES_REDIS", required)]).await;
        let ready = json!({"status": "ready"});
        assert_eq!(until_redis_is(&server, &ready).await, "200");
        link.refuse().await;
        link.cut();
        let unavailable = json!({"status": "not ready", "cause": "redis_unavailable"});
        assert_eq!(until_redis_is(&server, &unavailable).await, expected);
        assert_eq!(asked(&server, "/livez").await.0, "200");
        link.pass().await;
        assert_eq!(until_redis_is(&server, &ready).await, "200");
    }
}

/// Waits until Redis is in this state, and returns the status of the response that says so.
async fn until_redis_is(server: &Server, state: &Value) -> String {
    let began = Instant::now();
    loop {
        let (status, body) = asked(server, "/readyz").await;
        if body["parts"]["redis"] == *state {
            return status;
        }
        assert!(began.elapsed() < 2 * SOON, "{body}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
