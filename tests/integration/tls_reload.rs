//! New certificates while nodes are connected.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::support::{
    Authority, Port, Process, SOON, TlsFiles, eventually, eventually_within, get, metric,
    start_with_variables,
};
use crate::tls::{connect, node};

const RELOADED: &str = "crolang_tls_reloads_total{outcome=\"ok\"}";
const FAILED: &str = "crolang_tls_reloads_total{outcome=\"failed\"}";

/// The certificate that a new connection is shown.
async fn shown(authority: &Authority, address: std::net::SocketAddr) -> CertificateDer<'static> {
    let stream = connect(authority.client(None), address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_nodes_relay_on_and_lose_nothing() {
    const PAIRS: usize = 50;
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let server = start_with_variables(&files.variables()).await;
    let address = server.address();
    let first = shown(&authority, address).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        let (from, to) = (format!("a{pair}"), format!("b{pair}"));
        let mut sender = node(authority.client(None), address, &from).await;
        let mut receiver = node(authority.client(None), address, &to).await;
        let is_over = is_over.clone();
        pairs.push(tokio::spawn(async move {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let payload = format!(r#"{{"from":"{from}","to":"{to}","content":"{count}"}}"#);
                assert_eq!(sender.ask("SOCKET_MSG_EXCHANGE", &payload).await, "[\"OK\"]");
                let received = receiver.text().await;
                assert!(received.contains(&format!("\\\"{count}\\\"")), "{received}");
                count += 1;
            }
            count
        }));
    }
    let mut shown_before = first;
    for reload in 1..=3 {
        files.write(&authority.pem("localhost"));
        let is_loaded = || metric(&server, RELOADED) >= f64::from(reload);
        eventually_within(3 * SOON, "the new files are loaded", is_loaded).await;
        // The certificate and its key are written one after the other, and both writes may be seen.
        let mut shown_now = shown(&authority, address).await;
        let began = std::time::Instant::now();
        while shown_now == shown_before {
            assert!(began.elapsed() < SOON, "the new certificate is not shown");
            shown_now = shown(&authority, address).await;
        }
        shown_before = shown_now;
    }
    assert_eq!(metric(&server, "crolang_nodes"), 2.0 * PAIRS as f64);
    is_over.store(true, Ordering::Relaxed);
    for pair in pairs {
        assert!(pair.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_files_change_nothing_and_links_that_are_swapped_are_noticed() {
    // As Kubernetes mounts a secret: files that are links through a folder that is a link.
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let version = |name: &str, (certificate, key): (&str, &str)| {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("tls.crt"), certificate).unwrap();
        std::fs::write(at(name).join("tls.key"), key).unwrap();
        symlink(name, at("swapped")).unwrap();
        std::fs::rename(at("swapped"), at("data")).unwrap();
    };
    let (certificate, key) = authority.pem("localhost");
    version("one", (&certificate, &key));
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("data").join(name), at(name)).unwrap();
    }
    let (certificate, key) = (at("tls.crt"), at("tls.key"));
    let variables =
        [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let server = start_with_variables(&variables).await;
    let first = shown(&authority, server.address()).await;

    version("two", ("broken", "broken"));
    eventually("the broken files are noticed", || metric(&server, FAILED) == 1.0).await;
    assert!(shown(&authority, server.address()).await == first);

    let (certificate, key) = authority.pem("localhost");
    version("three", (&certificate, &key));
    eventually("the good files are loaded", || metric(&server, RELOADED) == 1.0).await;
    assert!(shown(&authority, server.address()).await != first);
    assert_eq!(metric(&server, FAILED), 1.0, "once for each change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_and_does_not_end_the_process() {
    let (authority, files) = (Authority::new(), TlsFiles::new());
    files.write(&authority.pem("localhost"));
    let internal = Port::free();
    let internal_address = format!("127.0.0.1:{}", internal.number());
    let mut variables = files.variables().to_vec();
    variables.push(("INTERNAL_ADDR", &internal_address));
    let broker = Process::start(&variables).await;
    let mut alice = node(authority.client(None), broker.address, "alice").await;
    broker.signal("HUP");
    eventually("it reloads", || broker.logged("TLS certificate loaded").is_some()).await;
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"x"}"#).await, "[\"NOT_CONNECTED\"]");
    // This one has no TLS.
    let metrics = get(internal_address.parse().unwrap(), "/metrics").await;
    assert!(metrics.contains(RELOADED), "{metrics}");
    broker.signal("TERM");
    let (code, log) = broker.end().await;
    assert_eq!(code, Some(0), "{log}");
}
