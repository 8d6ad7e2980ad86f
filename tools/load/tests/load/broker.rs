//! The real broker in this process, and what a run against it has to tell.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;

use crolang_broker::{Config, Server};
use serde_json::Value;

use crate::program::measure;

/// A broker in this process, on a free port.
pub(crate) async fn broker() -> Server {
    broker_with(|_| ()).await
}

/// One with another configuration.
pub(crate) async fn broker_with(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config { host: [127, 0, 0, 1].into(), port: 0, ..Config::default() };
    change(&mut config);
    Server::bind(&config).await.unwrap()
}

/// One with these variables, on a free port.
pub(crate) async fn broker_of(variables: &[(&str, &str)]) -> Server {
    let own = [("HOST", "127.0.0.1"), ("PORT", "0")];
    let all: HashMap<_, _> = own.iter().chain(variables).copied().collect();
    let config = Config::read(|name: &str| all.get(name).map(OsString::from)).unwrap();
    Server::bind(&config).await.unwrap()
}

/// Runs a mode against a server of this process; all must be well.
pub(crate) async fn well_with(address: SocketAddr, arguments: &str) -> Value {
    let this = std::process::id();
    let told = measure(address, &format!("{arguments} --pid {this}")).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
    let json = told.json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["ended_early"], false);
    assert!(json["wrong"].as_object().unwrap().values().all(|count| *count == 0), "{json}");
    assert!(number(&json, "/count") > 0.0 && number(&json, "/per_s") > 0.0, "{json}");
    let server = &json["servers"][0];
    assert_eq!(server["pid"], this);
    assert!(number(server, "/resident_kb") > 100.0, "{json}");
    assert!(number(&json, "/load/cpu_s") > 0.0, "{json}");
    json
}

/// A number in a report.
pub(crate) fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {json}"))
}

/// That a latency is told, from its shortest to its longest.
pub(crate) fn assert_told(json: &Value, name: &str) {
    let all = ["p50", "p90", "p99", "p999", "max"];
    let all = all.map(|part| number(json, &format!("/latency_us/{name}/{part}")));
    assert!(all.is_sorted() && all[0] > 0.0, "{all:?}");
}
