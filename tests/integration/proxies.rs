//! Whose address counts behind proxies: in the log, on the connection, in limits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    HaProxy, Mode, Nginx, Node, Pass, Process, SOON, Web, connect_from, eventually, metric,
    start_with_variables, upgrade_request,
};

/// What the tests' proxies are to the broker.
const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");

fn request_of(id: &str, headers: &str) -> String {
    let request = upgrade_request(&format!("&id={id}&version=1&runtime=r"));
    request.replace("Host: broker\r\n", &format!("Host: broker\r\n{headers}"))
}

/// The client's address of the last admission in the log.
async fn logged_client(broker: &Process) -> SocketAddr {
    let mut client = None;
    eventually("the admission is logged", || {
        client = broker.logged("node admitted");
        client.is_some()
    })
    .await;
    let client: Value = client.unwrap();
    let address = client.get("remote_addr").unwrap_or(&client["peer"]);
    address.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_tells_the_address_of_a_node() {
    for (mode, protocol) in [
        (Mode::HttpForwarded, "off"),
        (Mode::HttpForwarded, "optional"),
        (Mode::TcpWithHeader(1), "optional"),
        (Mode::TcpWithHeader(1), "required"),
        (Mode::TcpWithHeader(2), "required"),
    ] {
        let variables = [TRUSTED, ("PROXY_PROTOCOL", protocol), ("LOG_LEVEL", "1")];
        let broker = Process::start(&variables).await;
        let proxy = HaProxy::start_with(mode, None, &[broker.address]).await;
        let stream = connect_from(7, proxy.address()).await;
        let port = stream.local_addr().unwrap().port();
        let mut node = Node::over(stream, request_of("a", "").as_bytes()).await.unwrap();
        node.send("40").await;
        node.authenticated().await;
        let client = logged_client(&broker).await;
        let port = if mode == Mode::HttpForwarded { 0 } else { port };
        assert_eq!(client, SocketAddr::from(([127, 0, 0, 7], port)), "{mode:?} {protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_tells_the_address_of_a_node() {
    for (pass, protocol) in
        [(Pass::Upgrade, "off"), (Pass::OlderUpgrade, "off"), (Pass::Stream, "required")]
    {
        let variables = [TRUSTED, ("PROXY_PROTOCOL", protocol), ("LOG_LEVEL", "1")];
        let broker = Process::start(&variables).await;
        let proxy = Nginx::start(pass, broker.address).await;
        let mut nodes = Vec::new();
        for source in [7, 8] {
            let stream = connect_from(source, proxy.address()).await;
            let port = stream.local_addr().unwrap().port();
            let request = request_of(&format!("n{source}"), "");
            let mut node = Node::over(stream, request.as_bytes()).await.unwrap();
            node.send("40").await;
            node.authenticated().await;
            let answer = node.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await;
            assert_eq!(answer, "[\"NOT_CONNECTED\"]");
            let port = if pass == Pass::Stream { port } else { 0 };
            let client = SocketAddr::from(([127, 0, 0, source], port));
            eventually("the admission is logged", || {
                broker.has_logged("node admitted", &client.to_string())
            })
            .await;
            nodes.push(node);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_passes_no_upgrade_on_is_answered() {
    let server = start_with_variables(&[TRUSTED]).await;
    let proxy = Nginx::start(Pass::Http, server.address()).await;
    let stream = connect_from(7, proxy.address()).await;
    let answer = Node::over(stream, request_of("a", "").as_bytes()).await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let mut web = Web::open(proxy.address()).await;
    assert_eq!(web.get("/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_those_who_are_no_proxies_do_not_count() {
    let forged = "X-Forwarded-For: 192.0.2.1\r\n";
    for (proxies, expected) in [("127.0.0.1", "192.0.2.1"), ("10.0.0.0/8", "127.0.0.1")] {
        let broker = Process::start(&[("TRUSTED_PROXIES", proxies), ("LOG_LEVEL", "1")]).await;
        let request = request_of("a", forged);
        let _node = Node::request(broker.address, request.as_bytes()).await.unwrap();
        assert_eq!(logged_client(&broker).await.ip().to_string(), expected);
    }
}

#[tokio::test]
async fn each_client_of_a_proxy_has_its_own_limits() {
    let server = start_with_variables(&[
        TRUSTED,
        ("STORAGE_TYPE", "memory"),
        ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "5"),
    ])
    .await;
    // One connection, as proxies keep them for all their clients.
    let mut web = Web::open(server.address()).await;
    let mut statuses = async |client: &str| {
        let header = format!("X-Forwarded-For: 192.0.2.9, {client}\r\n");
        let mut statuses = Vec::new();
        for _ in 0..50 {
            statuses.push(web.ask("GET", "/", &header, "").await.status);
        }
        statuses
    };
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let statuses = statuses(client).await;
        assert!(statuses[..5].iter().all(|status| *status == 200), "{client}: {statuses:?}");
        assert!(statuses.contains(&429), "{client}: {statuses:?}");
    }
    // The same network of 64 bits as before.
    assert!(statuses("2001:db8::2").await[..5].contains(&429));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_must_send_its_header_in_time() {
    let server = start_with_variables(&[TRUSTED, ("PROXY_PROTOCOL", "required")]).await;
    let rejected = || metric(&server, "crolang_rejections_total{cause=\"proxy_protocol\"}");
    let mut without = Web::open(server.address()).await;
    without.write(b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n").await;
    assert_eq!(without.end().await, "");
    assert_eq!(rejected(), 1.0);
    let began = Instant::now();
    let mut slow = Web::open(server.address()).await;
    slow.write(b"PROXY TCP4 192.0.2.1").await;
    assert_eq!(slow.end().await, "");
    assert!(began.elapsed() > Duration::from_secs(4) && began.elapsed() < 3 * SOON);
    assert_eq!(rejected(), 2.0);
    eventually("no links", || server.connections() == 0).await;

    // In pieces, with the request right behind it.
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"PROX").await.unwrap();
    let rest = "Y TCP4 192.0.2.1 192.0.2.2 4711 80\r\n".to_owned() + &request_of("a", "");
    Node::over(stream, rest.as_bytes()).await.unwrap();
    // Who is no proxy connects as ever.
    let mut direct = Web::over(connect_from(2, server.address()).await);
    assert_eq!(direct.get("/health").await.status, 200);
    let mut forger = Web::over(connect_from(2, server.address()).await);
    forger.write(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(forger.answer().await.unwrap().status, 400);
}
