//! What Prometheus and Grafana are given: the metrics themselves, where they are served, and that alerts
//! and panels use none that do not exist.

use std::collections::HashSet;
use std::path::Path;

use crolang_broker::{Server, described_metrics};
use serde_json::json;

use crate::support::{
    Fault, Hook, Node, RedisServer, eventually, get, metric, start_replicas, start_with_variables,
};

/// The names of all series that may be scraped.
fn series() -> HashSet<String> {
    let (prefix, metrics) = described_metrics();
    let mut names = HashSet::from(["up".to_owned(), "ALERTS".to_owned()]);
    for metric in metrics {
        let name = match metric.name {
            name if name.starts_with("process_") => name.to_owned(),
            name => format!("{prefix}_{name}"),
        };
        names.extend(match metric.kind.as_str() {
            "counter" => vec![format!("{name}_total")],
            "histogram" => ["bucket", "sum", "count"].map(|end| format!("{name}_{end}")).to_vec(),
            _ => vec![name],
        });
    }
    names
}

#[test]
fn alerts_and_panels_use_only_metrics_that_exist() {
    let known = series();
    for (file, least) in [
        ("examples/complete/grafana/broker.json", 15),
        ("deploy/prometheus/alerts.yml", 10),
        ("deploy/prometheus/alerts.test.yml", 10),
        ("deploy/kubernetes/autoscaler.yaml", 1),
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let text = text.unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let used: HashSet<_> = words
            .filter(|word| word.starts_with("crolang_") || word.starts_with("process_"))
            .collect();
        assert!(used.len() >= least, "{file} names {used:?}");
        // Descriptions may name a metric without its end.
        let unknown: Vec<_> = used.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

async fn scraped(address: std::net::SocketAddr) -> String {
    get(address, "/metrics").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_can_have_a_listener_of_their_own() {
    for internal in [false, true] {
        let mut variables = vec![("METRICS_ADDR", "127.0.0.1:0")];
        if internal {
            variables.push(("INTERNAL_ADDR", "127.0.0.1:0"));
        }
        let server = start_with_variables(&variables).await;
        let own = scraped(server.metrics_address().unwrap()).await;
        assert!(own.starts_with("HTTP/1.1 200 ") && own.contains("crolang_build_info{"), "{own}");
        for address in [Some(server.address()), server.internal_address()].into_iter().flatten() {
            let elsewhere = scraped(address).await;
            assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        }
        let ready = server.internal_address().unwrap_or(server.address());
        assert!(get(ready, "/readyz").await.starts_with("HTTP/1.1 200 "));
        let alone = get(server.metrics_address().unwrap(), "/readyz").await;
        assert!(alone.starts_with("HTTP/1.1 404 "), "{alone}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_and_its_version_are_shown() {
    let server = start_with_variables(&[]).await;
    let text = scraped(server.address()).await;
    for metric in ["process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"] {
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        assert!(line.is_some_and(|value| value.parse::<f64>().unwrap() > 0.0), "{metric}: {text}");
    }
    let version = format!("crolang_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    assert!(metric(&server, "crolang_tasks") > 0.0);
    let _node = Node::connect(server.address(), "alice").await;
    eventually("the node is shown", || {
        metric(&server, "crolang_connections{kind=\"node\"}") == 1.0
    })
    .await;
}

fn count(server: &Server, histogram: &str) -> f64 {
    metric(server, &histogram.replacen("_seconds", "_seconds_count", 1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_webhook_is_timed_and_what_does_not_is_not() {
    let hook = Hook::start(|_| json!({"authorized": true})).await;
    let url = hook.url("/");
    for (variables, waits) in
        [(&[][..], 0.0), (&[("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &*url)], 3.0)]
    {
        let server = start_with_variables(variables).await;
        let mut alice = Node::connect(server.address(), "alice").await;
        let _bob = Node::connect(server.address(), "bob").await;
        for _ in 0..3 {
            let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"from":"alice","to":"bob"}"#).await;
            assert_eq!(ack, "[\"OK\"]");
        }
        assert_eq!(count(&server, "crolang_message_wait_seconds"), waits);
        assert_eq!(count(&server, "crolang_webhook_call_seconds{hook=\"authorization\"}"), waits);
        assert_eq!(count(&server, "crolang_admission_seconds{outcome=\"admitted\"}"), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_left_alone_is_shown() {
    let hook = Hook::start(|_| json!({"authenticated": true})).await;
    let server =
        start_with_variables(&[("NODES_AUTHENTICATION_WEBHOOK_URL", &hook.url("/"))]).await;
    let open = || metric(&server, "crolang_webhook_circuit_open{hook=\"authentication\"}");
    assert_eq!(open(), 0.0);
    hook.fault(Fault::Closed, json!({})).await;
    for node in 0..10 {
        assert!(Node::try_connect(server.address(), &format!("n{node}")).await.is_err());
    }
    assert_eq!(open(), 1.0);
    assert_eq!(count(&server, "crolang_admission_seconds{outcome=\"unavailable\"}"), 10.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_trips_to_redis_and_waits_for_other_replicas_are_timed() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[]).await;
    let [here, there] = &replicas[..] else { panic!("two were started") };
    let mut alice = Node::connect(here.address(), "alice").await;
    let _bob = Node::connect(there.address(), "bob").await;
    let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"from":"alice","to":"bob"}"#).await;
    assert_eq!(ack, "[\"OK\"]");
    assert_eq!(count(here, "crolang_message_wait_seconds"), 1.0);
    assert!(count(here, "crolang_redis_round_trip_seconds") > 0.0);
}
