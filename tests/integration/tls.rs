//! TLS without a proxy: who gets a connection, who does not, and that the links below keep what they
//! promise.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crolang_broker::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, version};

use crate::support::{
    Authority, HaProxy, Mode, Node, Process, SOON, TlsFiles, eventually, metric, program,
    resident_bytes, start_with_variables, upgrade_request,
};

/// Connects by TLS, to a broker that is called `localhost`.
pub async fn connect(
    config: ClientConfig,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A node that is connected by TLS.
pub async fn node(
    config: ClientConfig,
    address: SocketAddr,
    id: &str,
) -> Node<TlsStream<TcpStream>> {
    let request = upgrade_request(&format!("&id={id}&version=1&runtime=r"));
    let stream = connect(config, address).await.unwrap();
    let mut node = Node::upgraded(stream, request.as_bytes()).await.unwrap();
    node.send("40").await;
    node.authenticated().await;
    node
}

fn handshakes(server: &Server, outcome: &str) -> f64 {
    metric(server, &format!("crolang_tls_handshakes_total{{outcome=\"{outcome}\"}}"))
}

/// Sends a request, and returns all that comes back until the end.
async fn ask(mut stream: TlsStream<TcpStream>, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_both_versions_reach_each_other() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let server = start_with_variables(&files.variables()).await;
    let old = authority.client_of(&[&version::TLS12], None);
    let mut alice = node(old, server.address(), "alice").await;
    let mut bob = node(authority.client(None), server.address(), "bob").await;
    let versions = [&alice, &bob].map(|node| node.stream.get_ref().1.protocol_version().unwrap());
    assert_eq!(versions, [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3]);
    // Longer than all buffers of TLS, in both directions.
    for length in [1, 900_000] {
        let long = "x".repeat(length);
        for (from, to) in [("alice", "bob"), ("bob", "alice")] {
            let (sender, receiver) =
                if from == "alice" { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
            let payload = format!(r#"{{"from":"{from}","to":"{to}","content":"{long}"}}"#);
            let (ack, received) =
                tokio::join!(sender.ask("SOCKET_MSG_EXCHANGE", &payload), receiver.text());
            assert_eq!(ack, "[\"OK\"]");
            assert!(received.contains(&long), "{} bytes came", received.len());
        }
    }
    assert_eq!(handshakes(&server, "ok"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_served_and_ends_in_good_order() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let server = start_with_variables(&files.variables()).await;
    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = connect(config, server.address()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let response = ask(stream, "/health").await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // Longer than a record.
    let stream = connect(authority.client(None), server.address()).await.unwrap();
    let response = ask(stream, "/metrics").await.unwrap();
    assert!(response.ends_with("# EOF\n"), "{response}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_ends_its_connection_only() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let server = start_with_variables(&files.variables()).await;
    let mut bystander = node(authority.client(None), server.address(), "alice").await;

    for garbage in
        [&b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n"[..], &[0xff; 600], &[22, 3, 1, 0xff, 0xff, 9]]
    {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut response = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut response));
        // A reset is an end too.
        let _ = read.await.expect("the connection is closed");
        assert!(response.is_empty() || response[0] == 21, "an alert or nothing: {response:?}");
    }
    eventually("garbage is counted", || handshakes(&server, "not_tls") == 3.0).await;

    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = connect(config, server.address()).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    assert_eq!(handshakes(&server, "no_common_protocol"), 1.0);

    // The client does not know this authority.
    let error = connect(Authority::new().client(None), server.address()).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    eventually("its alert is counted", || handshakes(&server, "refused_by_client") == 1.0).await;

    let ack = bystander.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await;
    assert_eq!(ack, "[\"NOT_CONNECTED\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_and_its_request_take_five_seconds_at_most() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let server = start_with_variables(&files.variables()).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut begun = TcpStream::connect(server.address()).await.unwrap();
    begun.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut secure = connect(authority.client(None), server.address()).await.unwrap();
    secure.write_all(b"GET /hea").await.unwrap();
    let mut buffer = [0; 64];
    let ends = async {
        let _ = silent.read(&mut buffer).await;
        let _ = begun.read(&mut buffer).await;
        let _ = secure.read(&mut buffer).await;
    };
    tokio::time::timeout(3 * SOON, ends).await.expect("all are closed");
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    eventually("both are counted", || handshakes(&server, "unfinished") == 2.0).await;
    eventually("nothing is left", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_need_a_certificate_if_the_operator_says_so() {
    let (authority, clients, files) = (Authority::new(), Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let ca = clients.file();
    let mut variables = files.variables().to_vec();
    variables.push(("TLS_CLIENT_CA_FILE", ca.path().to_str().unwrap()));
    let server = start_with_variables(&variables).await;
    let with = |certificate| authority.client(Some(certificate));
    let mut known = node(with(clients.pem("alice")), server.address(), "alice").await;
    assert_eq!(known.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"x"}"#).await, "[\"NOT_CONNECTED\"]");

    // In TLS 1.3 the client learns it only when it reads.
    for (config, outcome) in [
        (authority.client(None), "client_certificate_missing"),
        (with(authority.pem("mallory")), "client_certificate_invalid"),
    ] {
        let stream = connect(config, server.address()).await.unwrap();
        let error = ask(stream, "/health").await.unwrap_err();
        assert!(error.to_string().contains("received fatal alert"), "{outcome}: {error}");
        assert_eq!(handshakes(&server, outcome), 1.0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_headers_come_before_the_handshake() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    for (version, protocol) in [(1, "optional"), (2, "required")] {
        let mut variables = files.variables().to_vec();
        variables.extend([("TRUSTED_PROXIES", "127.0.0.1"), ("PROXY_PROTOCOL", protocol)]);
        variables.push(("LOG_LEVEL", "1"));
        let broker = Process::start(&variables).await;
        let proxy =
            HaProxy::start_with(Mode::TcpWithHeader(version), None, &[broker.address]).await;
        let alice = node(authority.client(None), proxy.address(), "alice").await;
        let port = alice.stream.get_ref().0.local_addr().unwrap().port();
        let client = format!("127.0.0.1:{port}");
        eventually("the admission is logged", || broker.has_logged("node admitted", &client)).await;
        // The header and the first bytes of the handshake in one packet.
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n").await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(authority.client(None)));
        let stream = connector.connect(name, stream).await.unwrap();
        assert!(ask(stream, "/health").await.unwrap().starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stops_reading_is_closed() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let mut variables = files.variables().to_vec();
    variables.push(("WRITE_TIMEOUT_MS", "1000"));
    let server = start_with_variables(&variables).await;
    let deaf = node(authority.client(None), server.address(), "deaf").await;
    let mut alice = node(authority.client(None), server.address(), "alice").await;
    let long = "x".repeat(900_000);
    let payload = format!(r#"{{"from":"alice","to":"deaf","content":"{long}"}}"#);
    let began = Instant::now();
    while alice.ask("SOCKET_MSG_EXCHANGE", &payload).await != "[\"NOT_CONNECTED\"]" {
        assert!(began.elapsed() < 4 * SOON, "it is still connected");
    }
    let closed = "crolang_connections_closed_total{reason=\"write_timeout\"}";
    assert_eq!(metric(&server, closed), 1.0);
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_check_speaks_tls_too() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let ca = authority.file();
    for clients_need_one in [false, true] {
        let mut variables = files.variables().to_vec();
        if clients_need_one {
            variables.push(("TLS_CLIENT_CA_FILE", ca.path().to_str().unwrap()));
        }
        let broker = Process::start(&variables).await;
        let port = broker.address.port().to_string();
        variables.extend([("HOST", "127.0.0.1"), ("PORT", &port)]);
        let url = format!("https://localhost:{port}/health");
        for arguments in [&["health"][..], &["health", &url]] {
            let output = program(&variables).args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let plain = format!("http://localhost:{port}/health");
        let output = program(&[]).args(["health", &plain]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_takes_little_more_memory() {
    const NODES: usize = 300;
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    // Nobody answers heartbeats here.
    let quiet = ("PING_INTERVAL_MS", "600000");
    let tls = [quiet, files.variables()[0], files.variables()[1]];
    let mut per_node = [0; 2];
    for (variables, per_node) in [&[quiet][..], &tls].into_iter().zip(&mut per_node) {
        let broker = Process::start(variables).await;
        let mut nodes: (Vec<_>, Vec<_>) = Default::default();
        let mut used = [0; 2];
        // The first ones make the process grow by more than what they take.
        for (count, used) in [NODES / 3, NODES].into_iter().zip(&mut used) {
            for _ in 0..count {
                let id = format!("n{}", nodes.0.len() + nodes.1.len());
                if variables.len() == 1 {
                    nodes.0.push(Node::connect(broker.address, &id).await);
                } else {
                    nodes.1.push(node(authority.client(None), broker.address, &id).await);
                }
            }
            *used = resident_bytes(broker.pid());
        }
        *per_node = used[1].saturating_sub(used[0]) / NODES;
    }
    let [plain, secure] = per_node;
    println!("an idle node takes {plain} bytes, and {secure} with TLS");
    assert!(secure < plain + 32 * 1024, "{plain} bytes, and {secure} with TLS");
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    let (certificate, key) = authority.pem("localhost");
    let (_, other_key) = authority.pem("localhost");
    let expect = |variables: &[(&str, &str)], texts: &[&str]| {
        let output = program(variables).arg("--check-config").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(texts.iter().all(|text| error.contains(text)), "{texts:?} in {error}");
    };
    let both = files.variables();
    let [(_, certificate_path), (_, key_path)] = both;
    expect(&both, &["TLS_CERT_FILE", certificate_path, "No such file"]);
    files.write(&(certificate.clone(), other_key));
    expect(&both, &["TLS_KEY_FILE", key_path, "not that of the certificate"]);
    files.write(&(certificate.clone(), "no key".into()));
    expect(&both, &["TLS_KEY_FILE", key_path, "no private key"]);
    files.write(&("no certificate".into(), key.clone()));
    expect(&both, &["TLS_CERT_FILE", certificate_path, "no certificate"]);
    files.write(&(certificate, key));
    let ca = ("TLS_CLIENT_CA_FILE", "/dev/null");
    expect(&[both[0], both[1], ca], &["TLS_CLIENT_CA_FILE", "/dev/null", "no certificate"]);
    for incomplete in [&[both[0]][..], &[both[1]], &[ca], &[both[0], ca]] {
        expect(incomplete, &[incomplete[0].0, "both a certificate and its key"]);
    }
    let output = program(&both).arg("--check-config").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
