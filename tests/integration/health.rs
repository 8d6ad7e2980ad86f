//! `crolang-broker health`, the health check of images that have no shell.

use std::net::TcpListener;

use test_support::Port;

use crate::program::{command, run};
use crate::support::Process;

/// Runs it: the exit code and what it says.
async fn health(variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command(variables);
    command.arg("health").args(arguments);
    let (code, out, err) = run(command).await;
    assert_eq!(out, "");
    (code, err)
}

#[tokio::test]
async fn it_asks_the_broker_that_the_configuration_names() {
    let held = Port::free();
    let port = held.number().to_string();
    let broker = Process::start(&[("PORT", &port)]).await;
    for host in ["127.0.0.1", "0.0.0.0"] {
        let answer = health(&[("HOST", host), ("PORT", &port)], &[]).await;
        assert_eq!(answer, (Some(0), String::new()), "{host}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), format!("PORT={port}")).unwrap();
    let mut from_file = command(&[]);
    from_file.current_dir(folder.path()).arg("health");
    assert_eq!(run(from_file).await.0, Some(0));

    drop(broker);
    let (code, err) = health(&[("HOST", "127.0.0.1"), ("PORT", &port)], &[]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("127.0.0.1:{port}: Connection refused")), "{err}");
    // Process 1 of this machine is no broker.
    let (code, err) = health(&[("PORT", "0")], &[]).await;
    assert!(code == Some(1) && err.contains("name a URL"), "{err}");
    assert_eq!(health(&[("PORT", "x")], &[]).await.0, Some(2));
}

#[tokio::test]
async fn it_asks_the_url_that_is_given() {
    let nobody = Port::free();
    let redis = format!("redis://{}", nobody.address());
    let broker = Process::start(&[("REDIS_URL", &redis)]).await;
    let url = |path: &str| format!("http://{}{path}", broker.address);
    assert_eq!(health(&[], &[&url("/health")]).await.0, Some(0));
    let (code, err) = health(&[], &[&url("/readyz")]).await;
    assert!(code == Some(1) && err.contains("503 Service Unavailable"), "{err}");
    for url in ["ftp://127.0.0.1/", "127.0.0.1", "/health"] {
        assert_eq!(health(&[], &[url]).await.0, Some(2), "{url}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", silent.local_addr().unwrap());
    assert_eq!(health(&[], &[&url]).await.0, Some(1));
}
