//! Sessions that outlive the process: the real program on a real file.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use crate::discovery::offer;
use crate::program::{command, run};
use crate::support::{Process, RedisServer, SOON, Web};

const OFFERS: usize = 10_000;
const CLIENTS: usize = 16;

/// The variables of a program that keeps its sessions in a folder.
fn variables(folder: &tempfile::TempDir) -> [(&'static str, String); 4] {
    let path = folder.path().join("data.db").to_str().unwrap().to_owned();
    [
        ("STORAGE_TYPE", "sqlite".into()),
        ("STORAGE_PATH", path),
        ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0".into()),
        ("SESSION_TIMEOUT", "3600000".into()),
    ]
}

async fn start(folder: &tempfile::TempDir) -> Process {
    let variables = variables(folder);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    Process::start(&variables).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_offers_loses_none_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(&folder).await;
    let address = process.address;
    let made = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (made, acknowledged) = (made.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut web = Web::open(address).await;
                let body = json!({"info": "i", "offer": "o"}).to_string();
                for n in 0..OFFERS / CLIENTS {
                    let topic = format!("t{}", (client + n) % 50);
                    if web.try_send("POST", &format!("/{topic}/offer"), &body).await.is_err() {
                        return;
                    }
                    let Some(answer) = web.answer().await else { return };
                    assert_eq!(answer.status, 200);
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    acknowledged.lock().await.push((topic, code));
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let half = async {
        while made.load(Ordering::Relaxed) < OFFERS / 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(12 * SOON, half).await.expect("half of them are made");
    process.signal("KILL");
    for client in clients {
        client.await.unwrap();
    }
    let acknowledged = acknowledged.lock().await;
    assert!(acknowledged.len() >= OFFERS / 2 && acknowledged.len() < OFFERS, "in the middle");

    let process = start(&folder).await;
    let mut web = Web::open(process.address).await;
    let mut found = HashSet::new();
    for topic in 0..50 {
        let listed = web.get(&format!("/t{topic}/sessions")).await.json();
        for session in listed["sessions"].as_array().unwrap() {
            found.insert((format!("t{topic}"), session["code"].as_str().unwrap().to_owned()));
        }
    }
    let lost: Vec<_> = acknowledged.iter().filter(|session| !found.contains(*session)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), acknowledged.len());
    offer(&mut web, "after", "o").await;
}

#[tokio::test]
async fn sessions_are_there_after_a_restart_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(&folder).await;
    let mut web = Web::open(process.address).await;
    let code = offer(&mut web, "t", "o").await;
    let body = json!({"code": code, "side": "offerer", "candidate": "c"});
    assert_eq!(web.post("/answer", &body).await.status, 200);
    let before = web.get("/t/sessions").await.json();
    process.signal("TERM");
    let (exit, log) = process.end().await;
    assert_eq!(exit, Some(0), "{log}");
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["data.db"], "nothing is left beside the file");

    let process = start(&folder).await;
    assert_eq!(process.logged("modules").unwrap()["discovery"], "sqlite");
    let mut web = Web::open(process.address).await;
    assert_eq!(web.get("/t/sessions").await.json(), before);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_the_start() {
    let variables = [
        ("PORT", "0"),
        ("HOST", "127.0.0.1"),
        ("STORAGE_TYPE", "sqlite"),
        ("STORAGE_PATH", "/nowhere/data.db"),
    ];
    let (code, _, err) = run(command(&variables)).await;
    assert_eq!(code, Some(1));
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    let problem = format!(
        "cannot open the sessions in /nowhere/data.db as user {user}: No such file or directory (os error 2)"
    );
    assert!(err.contains(&problem), "{err}");
    let (code, _, err) = run(command(&[("STORAGE_TYPE", "redis")])).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("STORAGE_TYPE: redis needs a valid REDIS_URL"), "{err}");
}

#[tokio::test]
async fn a_file_that_is_held_is_a_503_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(&folder).await;
    let mut web = Web::open(process.address).await;
    let code = offer(&mut web, "t", "o").await;
    let shell = rusqlite::Connection::open(folder.path().join("data.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = json!({"code": code, "side": "offerer", "candidate": "c"});
    let refused = web.post("/answer", &body).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2".into()));
    assert_eq!(refused.json(), json!({"error": "Storage is not available"}));
    // Those who only read go on.
    assert_eq!(web.get("/t/sessions").await.json()["sessions"][0]["code"], code.as_str());
    shell.execute_batch("COMMIT").unwrap();
    let stored = async { while web.post("/answer", &body).await.status == 503 {} };
    tokio::time::timeout(2 * SOON, stored).await.expect("it goes on");
}

#[tokio::test]
async fn no_level_shows_what_peers_leave() {
    let redis = RedisServer::start().await;
    for (level, storage) in [("0", "memory"), ("3", "memory"), ("3", "sqlite"), ("3", "redis")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        let process = Process::start(&[
            ("LOG_LEVEL", level),
            ("STORAGE_TYPE", storage),
            ("STORAGE_PATH", path.to_str().unwrap()),
            ("REDIS_URL", &redis.url()),
        ])
        .await;
        let mut web = Web::of(process.address, "https://canary.test").await;
        let code = offer(&mut web, "canary-topic", "canary-offer").await;
        for (side, what) in
            [("offerer", "candidate"), ("answerer", "answer"), ("left", "candidate")]
        {
            let body = json!({"code": code, "side": side, what: "canary-text"});
            web.post("/answer", &body).await;
        }
        web.ask("POST", "/poll", "", "canary, and no JSON").await;
        web.get("/canary-topic/sessions").await;
        process.signal("TERM");
        let (_, log) = process.end().await;
        assert!(!log.contains("canary") && !log.contains(&code), "{log}");
        assert_eq!(
            log.contains("\"endpoint\":\"offer\",\"outcome\":\"ok\""),
            level == "3",
            "{log}"
        );
    }
}
