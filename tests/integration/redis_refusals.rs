//! Redis refuses commands: by an ACL, under another name, for as long as replicas are missing. What
//! is refused is named, and there are never two owners of an ID.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::redis_outage::{BACK, Pair, Side, TTL_MS};
use crate::support::{
    Node, Process, RedisServer, SOON, eventually, get, metric, program, start_with_variables,
};

/// The rules that `doc/guides/replicas.md` gives.
const DOCUMENTED: [&str; 9] = [
    "resetchannels",
    "~crolang:*",
    "&crolang:*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@pubsub",
    "+@connection",
    "-@dangerous",
];

fn set_user(redis: &RedisServer, name: &str, rules: &[&str]) -> String {
    redis.command(&[&["ACL", "SETUSER", name, "on", ">pw"], rules].concat());
    format!("redis://{name}:pw@{}", redis.address())
}

/// A user that may do all but this.
fn set_user_without(redis: &RedisServer, name: &str, command: &str) -> String {
    set_user(redis, name, &["~*", "resetchannels", "&*", "+@all", &format!("-{command}")])
}

/// The body of what `/readyz` answers.
async fn readiness(server: &Server) -> Value {
    let answer = get(server.address(), "/readyz").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    let parts = body.as_object_mut().unwrap().remove("parts").unwrap();
    // Redis is the only part that may be not ready here, so its state is that of all.
    assert_eq!(parts["redis"], body);
    body
}

async fn until_refused(server: &Server, command: &str, code: &str) {
    let expected = json!({
        "status": "not ready", "cause": "redis_refuses", "command": command, "code": code,
    });
    let began = Instant::now();
    loop {
        let found = readiness(server).await;
        if found == expected {
            break;
        }
        assert!(began.elapsed() < SOON, "{found} and not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refusals = format!("crolang_redis_refusals_total{{command=\"{command}\",code=\"{code}\"}}");
    assert!(metric(server, &refusals) >= 1.0, "{}", server.metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rules_are_enough_and_forbid_what_is_not_needed() {
    let redis = RedisServer::start().await;
    let url = set_user(&redis, "broker", &DOCUMENTED);
    let variables = [("STORAGE_TYPE", "redis"), ("DISCOVERY_PATH", "/d")];
    let mut pair = Pair::start([&url, &url], &variables).await;
    pair.relays().await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
    for command in ["FLUSHALL", "KEYS *", "CONFIG GET *", "CLIENT LIST", "GET other", "SHUTDOWN"] {
        let words = command.split(' ').collect::<Vec<_>>();
        let answer = redis.command(&[&["ACL", "DRYRUN", "broker"], &words[..]].concat());
        assert!(answer.contains("has no permissions"), "{command}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_is_wished_for_and_not_needed() {
    let redis = RedisServer::start_with(&["--rename-command", "INFO", ""]).await;
    let mut pair = Pair::start([&redis.url(), &redis.url()], &[]).await;
    pair.relays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_missing_at_the_start_is_named() {
    let redis = RedisServer::start().await;
    let commands =
        ["set", "get", "mget", "exists", "type", "pexpire", "eval", "del", "publish", "subscribe"];
    for command in commands {
        let url = set_user_without(&redis, command, command);
        let broker = start_with_variables(&[("REDIS_URL", &url)]).await;
        until_refused(&broker, &command.to_uppercase(), "NOPERM").await;
        let mut side = Side { broker, members: Vec::new() };
        side.turns_away().await;
        redis.command(&["ACL", "SETUSER", command, &format!("+{command}")]);
        side.until_ready(BACK).await;
        // Brokers of rounds before, which were dropped and not shut down, may have left their IDs.
        side.try_join(&format!("of-{command}")).await.unwrap();
    }
    let renamed = RedisServer::start_with(&["--rename-command", "EVAL", "SECRET"]).await;
    let broker = start_with_variables(&[("REDIS_URL", &renamed.url())]).await;
    until_refused(&broker, "EVAL", "UNKNOWN_COMMAND").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_a_failed_start_say_what_is_missing() {
    let redis = RedisServer::start().await;
    let url = set_user_without(&redis, "broker", "eval");
    let process = Process::start(&[("REDIS_URL", &url)]).await;
    let advice = "Redis refuses EVAL (NOPERM): its user needs the ACL rules +eval ~<prefix>:*";
    eventually("it is logged", || process.log().contains(advice)).await;
    assert_eq!(process.log().matches(advice).count(), 1, "{}", process.log());
    let mut required = program(&[
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("REDIS_URL", &url),
        ("REDIS_REQUIRED_AT_START", "true"),
    ]);
    let output = tokio::task::spawn_blocking(move || required.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(advice), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_make_the_broker_not_ready_and_disconnect_nobody() {
    let redis = RedisServer::start().await;
    let mut pair = Pair::start([&redis.url(), &redis.url()], &[]).await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    for side in &mut pair.0 {
        side.turns_away().await;
        let began = Instant::now();
        while side.is_ready().await {
            assert!(began.elapsed() < BACK, "it says that it is ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(readiness(&side.broker).await["code"], "NOREPLICAS");
        side.goes_on().await;
    }
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
    pair.nobody_was_disconnected();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_never_has_two_owners_whatever_is_refused() {
    let redis = std::sync::Arc::new(RedisServer::start().await);
    let mut rows = JoinSet::new();
    for command in ["set", "get", "mget", "exists", "pexpire", "eval", "del", "publish"] {
        let redis = redis.clone();
        rows.spawn(async move {
            let url = set_user_without(&redis, command, "acl");
            let common = [("REDIS_KEY_PREFIX", command), ("REDIS_LOCK_TTL_MS", TTL_MS)];
            let start = async |url: &str| {
                let variables = [&[("REDIS_URL", url)], &common[..]].concat();
                let broker = start_with_variables(&variables).await;
                let side = Side { broker, members: Vec::new() };
                side.until_ready(BACK).await;
                side.broker
            };
            let (refused, other) = (start(&url).await, start(&redis.url()).await);
            let _alice = Node::connect(refused.address(), "alice").await;
            redis.command(&["ACL", "SETUSER", command, &format!("-{command}")]);
            let began = Instant::now();
            while began.elapsed() < 3 * Duration::from_millis(TTL_MS.parse().unwrap()) {
                // What is used only to admit nodes is noticed when one comes.
                let _ = Node::try_connect(refused.address(), "carol").await;
                let entered = Node::try_connect(other.address(), "alice").await;
                if entered.is_ok() {
                    let nodes = metric(&refused, "crolang_nodes");
                    assert_eq!(nodes, 0.0, "-{command}: alice has two connections");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    rows.join_all().await;
}
