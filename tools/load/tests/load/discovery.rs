//! Discovery: the real one, in which all must be well; and one that misbehaves.

use std::net::SocketAddr;

use crolang_broker::Server;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::broker::{assert_told, broker_of, number, well_with};
use crate::program::{Told, measure};

const SHORT: &str = "--seconds 0.5 --warmup 0.1";

async fn server(more: &[(&str, &str)]) -> Server {
    let own = [("STORAGE_TYPE", "memory"), ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0")];
    broker_of(&[&own[..], more].concat()).await
}

/// Everything that can be asked for, against a server with these variables.
async fn all_is_well(more: &[(&str, &str)]) {
    let limits =
        [("DISCOVERY_MAX_SESSIONS", "1000000"), ("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", "1000000")];
    let server = server(&[&limits[..], more].concat()).await;
    for what in [
        "offers",
        "answers",
        "candidates --candidates 3",
        "polls",
        "polls --answered",
        "lists --sessions 30",
        "topics --sessions 120",
    ] {
        let asked = format!("discovery --what {what} --connections 3 --size 300 {SHORT}");
        let json = well_with(server.address(), &asked).await;
        assert_eq!((&json["mode"], &json["unit"]), (&"discovery".into(), &"requests".into()));
        assert_told(&json, "answered");
        assert!(number(&json, "/outcomes/right answers") >= number(&json, "/count"), "{json}");
        assert_eq!(json["outcomes"].as_object().unwrap().len(), 1, "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_in_memory() {
    all_is_well(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    all_is_well(&[("STORAGE_TYPE", "sqlite"), ("STORAGE_PATH", path.to_str().unwrap())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_asks_as_often_as_it_is_told() {
    let server = server(&[("DISCOVERY_PATH", "/meet")]).await;
    let asked = "discovery --what polls --path /meet/ --connections 4 --rate 50 --seconds 1";
    let json = well_with(server.address(), &format!("{asked} --warmup 0.2")).await;
    let due = 4.0 * 50.0 * number(&json, "/measured_s");
    let told = number(&json, "/latency_us/answered/count");
    assert!((told - due).abs() <= due / 20.0, "{told} of {due}");
    assert_eq!(json["figures"]["unsent"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_a_bad_answer_with_its_text() {
    let server = server(&[("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", "5")]).await;
    let asked = format!("discovery --what offers --connections 2 {SHORT}");
    let told = measure(server.address(), &asked).await;
    assert_eq!(told.code, Some(1));
    let json = told.json();
    assert_eq!(json["outcomes"]["right answers"], 5);
    let bad = number(&json, "/wrong/bad_answers");
    assert!(bad > 0.0 && told.err.contains("bad_answers"), "{}", told.err);
    let refused =
        json["outcomes"].as_object().unwrap().iter().find(|(name, _)| name.starts_with("429 "));
    assert_eq!(refused.and_then(|(_, count)| count.as_f64()), Some(bad), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_discovery_is_off_there_is_nothing_to_measure() {
    let server = broker_of(&[]).await;
    for what in ["polls", "lists"] {
        let told = measure(server.address(), &format!("discovery --what {what} {SHORT}")).await;
        assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
        assert!(told.err.contains("nothing to measure: 404"), "{}", told.err);
    }
}

/// What a server does wrong, or at least unusually, with every tenth request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quirk {
    /// It answers in two chunks.
    Chunks,
    /// It closes after its answer, and says so.
    LastAnswer,
    /// It closes after its answer, without a word.
    Idle,
    /// It says 500.
    Error,
    /// It says that there is no such session.
    OtherContent,
    /// It closes instead of an answer.
    Closes,
    /// It never answers.
    Silent,
}

const EVERY: u64 = 10;

/// Starts such a server, which knows answers only to offers; it ends with the test.
async fn start(quirk: Quirk) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut first = 1;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, quirk, first));
            // So that no code comes twice.
            first += 1_000_000;
        }
    });
    address
}

async fn serve(mut stream: TcpStream, quirk: Quirk, first: u64) {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    for number in first.. {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if read.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap();
        let right = format!("{{\"code\":\"00000000-0000-4000-8000-{number:012}\"}}");
        let answer = |status: &str, more: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}")
        };
        let is_odd = number % EVERY == 0;
        let text = match quirk {
            Quirk::Chunks if is_odd => {
                let (begin, rest) = right.split_at(7);
                let rest = format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{begin}\r\n{rest}"
                )
            }
            Quirk::LastAnswer if is_odd => answer("200 OK", "Connection: close\r\n", &right),
            Quirk::Error if is_odd => answer("500 No", "", "{\"error\":\"Internal server error\"}"),
            Quirk::OtherContent if is_odd => answer("200 OK", "", "{\"code\":null}"),
            Quirk::Closes if is_odd => return,
            Quirk::Silent if is_odd => std::future::pending().await,
            _ => answer("200 OK", "", &right),
        };
        if write.write_all(text.as_bytes()).await.is_err() || (quirk == Quirk::LastAnswer && is_odd)
        {
            return;
        }
        if quirk == Quirk::Idle && is_odd {
            return;
        }
    }
}

async fn offers(quirk: Quirk, arguments: &str) -> Told {
    let address = start(quirk).await;
    measure(address, &format!("discovery --connections 2 {SHORT} {arguments}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ways_to_answer_are_no_fault() {
    for quirk in [Quirk::Chunks, Quirk::LastAnswer] {
        let told = offers(quirk, "--size 10").await;
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{quirk:?} {}", told.out);
        assert!(number(&told.json(), "/count") > 2.0 * EVERY as f64, "{quirk:?}");
    }
    // Between two requests a server may close, and the next one goes by another connection.
    let told = offers(Quirk::Idle, "--rate 40").await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
    assert!(number(&told.json(), "/count") > EVERY as f64, "{}", told.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_have_their_names() {
    for (quirk, wrong, outcome) in [
        (Quirk::Error, "bad_answers", Some("500 Internal server error")),
        (Quirk::OtherContent, "bad_answers", Some("200 with another content")),
        (Quirk::Closes, "disconnected", Some("the server closed the connection")),
        (Quirk::Silent, "unanswered", None),
    ] {
        let told = offers(quirk, "--size 10").await;
        assert_eq!(told.code, Some(1), "{quirk:?}");
        let json = told.json();
        let counts = json["wrong"].as_object().unwrap().iter();
        let counts: Vec<_> = counts.filter(|(_, count)| **count != 0).collect();
        let [(name, count)] = counts.as_slice() else { panic!("{quirk:?}: {counts:?}") };
        assert_eq!(name.as_str(), wrong, "{quirk:?}");
        assert!(told.err.contains(&format!("FAILED: {name} {count}")), "{}", told.err);
        match outcome {
            Some(outcome) => assert_eq!(json["outcomes"][outcome], **count, "{json}"),
            None => assert_eq!(**count, 2, "one for each client"),
        }
    }
}
