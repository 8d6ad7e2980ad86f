//! Discovery alone, served by axum: two peers meet over HTTP.
#![allow(clippy::unwrap_used, reason = "a test stops there")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rondevu::{Demand, Discovery, Metrics, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    _serving: AbortOnDropHandle<()>,
}

async fn serve(settings: &Settings, metrics: Metrics) -> Server {
    serve_within(settings, metrics, |_| true).await
}

async fn serve_within(
    settings: &Settings,
    metrics: Metrics,
    admits: impl Fn(Demand) -> bool + Send + Sync + 'static,
) -> Server {
    let stop = CancellationToken::new();
    let discovery = Discovery::open(settings, metrics, stop.clone()).await.unwrap();
    let discovery = discovery.within(admits);
    let app = discovery.router().into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { address, stop, _serving: AbortOnDropHandle::new(serving) }
}

impl Server {
    /// Sends a request on a connection of its own; returns the status line and the body.
    async fn request(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut response = String::new();
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut response).await.unwrap();
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Creates a session in the topic `t`; returns its code.
    async fn offer(&self, base_path: &str) -> String {
        let offer = r#"{"info":"Alice","offer":"the offer"}"#;
        let (status, body) = self.request("POST", &format!("{base_path}/t/offer"), offer).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
        body.split('"').nth(3).unwrap().to_owned()
    }
}

#[tokio::test]
async fn two_peers_meet() {
    let mut registry = prometheus_client::registry::Registry::default();
    let settings = Settings { base_path: "/meet".parse().unwrap(), ..Settings::default() };
    let server = serve(&settings, Metrics::register(&mut registry)).await;
    let code = server.offer("/meet").await;
    let (_, listed) = server.request("GET", "/meet/t/sessions", "").await;
    assert!(listed.contains(&code) && listed.contains("the offer"), "{listed}");
    let answer = format!(r#"{{"code":"{code}","side":"answerer","answer":"the answer"}}"#);
    let (_, body) = server.request("POST", "/meet/answer", &answer).await;
    assert_eq!(body, r#"{"success":true}"#);
    let poll = format!(r#"{{"code":"{code}","side":"offerer"}}"#);
    let (_, body) = server.request("POST", "/meet/poll", &poll).await;
    assert_eq!(body, r#"{"answer":"the answer","answerCandidates":[]}"#);

    for path in ["/health", "/meet/health"] {
        let (_, body) = server.request("GET", path, "").await;
        assert!(body.starts_with(r#"{"status":"ok","timestamp":"#), "{body}");
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counted = "discovery_requests_total{endpoint=\"poll\",outcome=\"ok\"} 1\n";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn errors_have_their_status_and_text() {
    let server = serve(&Settings::default(), Metrics::default()).await;
    let missing = "Missing or invalid required parameter";
    for (method, path, body, status, text) in [
        ("POST", "/t/offer", "{}", "400 Bad Request", format!("{missing}: info")),
        ("POST", "/poll", "no JSON", "400 Bad Request", format!("{missing}: code")),
        ("GET", "/answer", "", "405 Method Not Allowed", "Method not allowed".into()),
    ] {
        let (line, body) = server.request(method, path, body).await;
        assert_eq!(line, format!("HTTP/1.1 {status}"));
        assert_eq!(body, format!(r#"{{"error":"{text}"}}"#));
    }
}

#[tokio::test]
async fn stopping_completes_polls_that_wait() {
    let server = serve(&Settings::default(), Metrics::default()).await;
    let code = server.offer("").await;
    let poll = format!(r#"{{"code":"{code}","side":"offerer","wait":30000}}"#);
    // Whether the poll waits by then or not, it ends long before its time.
    let stop = async { server.stop.cancel() };
    let ((_, body), ()) = tokio::join!(server.request("POST", "/poll", &poll), stop);
    assert_eq!(body, r#"{"answer":null,"answerCandidates":[]}"#);
}

#[tokio::test]
async fn without_memory_for_more_only_sessions_that_exist_are_served() {
    let mut registry = prometheus_client::registry::Registry::default();
    let has_memory = Arc::new(AtomicBool::new(true));
    let metrics = Metrics::register(&mut registry);
    let shared = has_memory.clone();
    let admits = move |demand| demand == Demand::Ongoing || shared.load(Ordering::Relaxed);
    let server = serve_within(&Settings::default(), metrics, admits).await;
    let code = server.offer("").await;
    has_memory.store(false, Ordering::Relaxed);
    let no_memory = ("HTTP/1.1 503 Service Unavailable".into(), r#"{"error":"Not enough memory"}"#);
    for (method, path) in [("POST", "/t/offer"), ("GET", "/t/sessions"), ("GET", "/t/events")] {
        let (status, body) = server.request(method, path, "{}").await;
        assert_eq!((status, &*body), no_memory, "{path}");
    }
    let poll = format!(r#"{{"code":"{code}","side":"offerer"}}"#);
    for (method, path, body) in [("POST", "/poll", &*poll), ("GET", "/health", "")] {
        assert_eq!(server.request(method, path, body).await.0, "HTTP/1.1 200 OK", "{path}");
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counted = "discovery_requests_total{endpoint=\"offer\",outcome=\"memory_limit\"} 1\n";
    assert!(text.contains(counted), "{text}");
}
