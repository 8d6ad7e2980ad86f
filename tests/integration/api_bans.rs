//! Bans that operators set over the server API.

use serde_json::{Value, json};

use crate::support::{
    API, Hook, Node, READ_TOKEN, RedisServer, TOKEN, Web, api_get, api_post, column, connect_from,
    enter, eventually, metric, request, start_replica, start_replicas, start_with_variables,
    upgrade_request,
};

/// A ban of a node, or of an address.
fn ban(kind: &str, target: &str) -> Value {
    let mut ban = json!({"seconds": 60, "reason": "test"});
    ban[kind] = json!(target);
    ban
}

/// What a node is told that tries to enter.
async fn answer_to(address: std::net::SocketAddr, id: &str) -> String {
    enter(address, &format!("&id={id}&version=1&runtime=r")).await.err().unwrap_or_default()
}

#[tokio::test]
async fn a_banned_node_is_disconnected_and_kept_out_on_every_replica() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &API).await;
    let (here, there) = (replicas[0].address(), replicas[1].address());
    let mut alice = Node::connect_settled(there, "alice").await;
    let mut bob = Node::connect_settled(there, "bob").await;
    let answer = api_post(here, "/bans", &ban("node", "alice")).await;
    let set = answer.json();
    assert_eq!((answer.status, &set["incomplete"]), (201, &json!([])));
    assert_eq!(set["ban"]["name"], "node:alice");
    let lasts = set["ban"]["until"].as_u64().unwrap() - set["ban"]["since"].as_u64().unwrap();
    assert_eq!(lasts, 60_000);
    assert_eq!(alice.text().await, "41");
    alice.end().await;
    for replica in &replicas {
        let refused = answer_to(replica.address(), "alice").await;
        assert_eq!(refused, r#"44{"message":"authentication failed"}"#);
        assert_eq!(metric(replica, "crolang_refusals_total{cause=\"banned\"}"), 1.0);
        assert_eq!(metric(replica, "crolang_bans"), 1.0);
        let list = api_get(replica.address(), "/bans").await;
        assert_eq!(column(&list["bans"], "name"), ["node:alice"]);
    }
    assert_eq!(bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await, "[\"NOT_CONNECTED\"]");
    // A replica that starts later knows it too.
    let late = start_replica(&redis.url(), &API).await;
    eventually("it knows the ban", || metric(&late, "crolang_bans") == 1.0).await;
    assert!(answer_to(late.address(), "alice").await.contains("authentication failed"));

    let read_only = request(here, READ_TOKEN, "DELETE", "/bans/node:alice", "").await;
    assert_eq!(read_only.status, 403);
    let lifted = request(there, TOKEN, "DELETE", "/bans/node:alice?reason=sorry", "").await;
    assert_eq!(lifted.status, 204);
    for replica in &replicas {
        assert_eq!(answer_to(replica.address(), "alice").await, "");
        eventually("she has left", || metric(replica, "crolang_nodes") <= 1.0).await;
    }
    let again = request(there, TOKEN, "DELETE", "/bans/node:alice", "").await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn the_webhook_is_not_asked_about_banned_nodes() {
    let hook = Hook::start(|_| json!({"authenticated": true})).await;
    let url = hook.url("/");
    let variables = [&API[..], &[("NODES_AUTHENTICATION_WEBHOOK_URL", url.as_str())]].concat();
    let server = start_with_variables(&variables).await;
    assert_eq!(api_post(server.address(), "/bans", &ban("node", "alice")).await.status, 201);
    assert!(answer_to(server.address(), "alice").await.contains("authentication failed"));
    assert_eq!(hook.count(), 0);
}

#[tokio::test]
async fn a_banned_address_gets_nowhere() {
    let variables = [&API[..], &[("API_ADDR", "127.0.0.1:0")]].concat();
    let server = start_with_variables(&variables).await;
    let (address, api) = (server.address(), server.api_address().unwrap());
    let request = upgrade_request("&id=alice&version=1&runtime=r");
    let mut alice = Node::over(connect_from(7, address).await, request.as_bytes()).await.unwrap();
    alice.send("40").await;
    alice.authenticated().await;
    let mut bob = Node::connect_settled(address, "bob").await;
    assert_eq!(api_post(api, "/bans", &ban("address", "127.0.0.7")).await.status, 201);
    assert_eq!(alice.text().await, "41");
    alice.end().await;
    // Closed at once, whatever it sends.
    assert_eq!(Web::over(connect_from(7, address).await).end().await, "");
    assert_eq!(bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await, "[\"NOT_CONNECTED\"]");
    assert_eq!(metric(&server, "crolang_rejections_total{cause=\"banned_address\"}"), 1.0);
}

#[tokio::test]
async fn a_banned_address_behind_a_proxy_gets_403() {
    let more = [("API_ADDR", "127.0.0.1:0"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let server = start_with_variables(&[&API[..], &more].concat()).await;
    let api = server.api_address().unwrap();
    let answer = api_post(api, "/bans", &ban("address", "2001:db8::1")).await;
    assert_eq!(answer.json()["ban"]["name"], "address:2001:db8::/64");
    for (client, status) in [("2001:db8::2", 403), ("2001:db8:0:1::1", 404)] {
        let mut web = Web::open(server.address()).await;
        let answer = web.ask("GET", "/x", &format!("X-Forwarded-For: {client}\r\n"), "").await;
        assert_eq!(answer.status, status, "{client}");
    }
}

#[tokio::test]
async fn the_number_of_bans_is_limited() {
    let variables = [&API[..], &[("API_MAX_BANS", "2")]].concat();
    let server = start_with_variables(&variables).await;
    for (id, status) in [("a", 201), ("b", 201), ("c", 409), ("b", 201)] {
        let answer = api_post(server.address(), "/bans", &ban("node", id)).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
    }
    let page = api_get(server.address(), "/bans?limit=1").await;
    assert_eq!(column(&page["bans"], "name"), ["node:a"]);
    let cursor = page["next"].as_str().unwrap();
    let page = api_get(server.address(), &format!("/bans?limit=1&cursor={cursor}")).await;
    assert_eq!((column(&page["bans"], "name"), page.get("next")), (vec!["node:b"], None));
    assert_eq!(metric(&server, "crolang_api_requests_total{outcome=\"too_many_bans\"}"), 1.0);
}

#[tokio::test]
async fn a_ban_ends_by_itself() {
    let server = start_with_variables(&API).await;
    let mut short = ban("node", "alice");
    short["seconds"] = json!(1);
    assert_eq!(api_post(server.address(), "/bans", &short).await.status, 201);
    assert!(answer_to(server.address(), "alice").await.contains("authentication failed"));
    let began = std::time::Instant::now();
    while !answer_to(server.address(), "alice").await.is_empty() {
        assert!(began.elapsed().as_secs() < 5, "the ban does not end");
    }
    assert_eq!(api_get(server.address(), "/bans").await["bans"], json!([]));
}

#[tokio::test]
async fn bans_outlive_a_redis_that_loses_its_data() {
    let redis = RedisServer::start().await;
    let replica = start_replica(&redis.url(), &API).await;
    assert_eq!(api_post(replica.address(), "/bans", &ban("node", "alice")).await.status, 201);
    redis.command(&["DEL", "crolang:bans:all"]);
    let is_stored = || redis.command(&["GET", "crolang:bans:all"]).contains("node:alice");
    crate::support::eventually_within(3 * crate::support::SOON, "it is stored again", is_stored)
        .await;
    // A lifted one does not come back.
    let lifted = request(replica.address(), TOKEN, "DELETE", "/bans/node:alice", "").await;
    assert_eq!(lifted.status, 204);
    assert_eq!(redis.command(&["GET", "crolang:bans:all"]).trim(), "[]");
}
