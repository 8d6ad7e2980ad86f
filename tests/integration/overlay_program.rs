//! `crolang-broker peer`, as an operator meets it, and peers behind TLS.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::support::{
    Authority, PEERS, RawPeer, SOON, Web, connect_from, id, program, start_with_variables,
};

fn command(variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crolang-broker"));
    command
        .env_clear()
        .envs([("HOST", "127.0.0.1")])
        .envs(variables.iter().copied())
        .arg("peer")
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .kill_on_drop(true);
    command
}

/// The next line with this start, without it.
async fn line(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>, start: &str) -> String {
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    };
    tokio::time::timeout(2 * SOON, found).await.unwrap_or_else(|_| panic!("no line {start}"))
}

/// A peer's process, its ID, and what it says when others connect.
struct Process {
    child: Child,
    id: String,
    out: Lines<BufReader<tokio::process::ChildStdout>>,
    err: Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Process {
    async fn start(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = command(variables, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let id = line(&mut out, "ID ").await;
        Self { child, id, out, err }
    }
}

#[tokio::test]
async fn a_peer_alone_says_who_connects_and_ends_in_good_order() {
    let mut hub = Process::start(&[], &["0"]).await;
    let address = line(&mut hub.out, "LISTENING ").await;
    let mut leaf = Process::start(&[], &[&format!("ws://{address}")]).await;
    assert_eq!(line(&mut hub.err, "PEER ").await, leaf.id[..4]);
    assert_eq!(line(&mut leaf.err, "PEER ").await, hub.id[..4]);
    // Others are told that it listens on this machine, as by the package.
    let address: std::net::SocketAddr = address.parse().unwrap();
    let mut raw = RawPeer::connect(address, id(9)).await;
    let offer = serde_json::json!({
        "to": raw.other, "from": id(8), "path": [id(8), id(9)], "nonce": "1",
        "data": {"type": "handshake-offer"},
    });
    raw.send(&offer).await;
    let answer = loop {
        let message = raw.message().await;
        if message["to"] == serde_json::json!(id(8)) {
            break message;
        }
    };
    let port = address.port();
    assert_eq!(answer["data"]["data"]["ws"], format!("ws://localhost:{port}/"));

    let pid = hub.child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap();
    assert!(sent.success());
    let ended = tokio::time::timeout(2 * SOON, hub.child.wait()).await.expect("it ends");
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn wrong_arguments_stop_the_start() {
    for arguments in [&[][..], &["http://a"], &["65536"], &["ws://"]] {
        let output = command(&[], arguments).output();
        let output = tokio::time::timeout(SOON, output).await.expect("it ends").unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn an_id_in_a_file_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peer.id");
    let variables = [("PEER_RELAY_ID_FILE", path.to_str().unwrap())];
    let first = Process::start(&variables, &["0"]).await.id;
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), first);
    assert_eq!(Process::start(&variables, &["0"]).await.id, first);
    // The broker has it too.
    let broker = start_with_variables(&[variables[0], ("PEER_RELAY_PATH", PEERS)]).await;
    assert_eq!(broker.peer().unwrap().id().to_string(), first);

    std::fs::write(&path, "something else").unwrap();
    for program in [command(&variables, &["0"]), broker_command(&variables)] {
        let (code, text) = output(program).await;
        assert_ne!(code, Some(0));
        assert!(text.contains("does not hold a peer's ID"), "{text}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else");
}

/// A broker that is a peer.
fn broker_command(variables: &[(&str, &str)]) -> Command {
    let broker = [("HOST", "127.0.0.1"), ("PORT", "0"), ("PEER_RELAY_PATH", PEERS)];
    program(&[variables, &broker].concat()).into()
}

/// Runs to the end: the exit code, and what it says.
async fn output(mut program: Command) -> (Option<i32>, String) {
    let output = program.kill_on_drop(true).output();
    let output = tokio::time::timeout(2 * SOON, output).await.expect("it ends").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn connections_are_limited_by_address_and_in_total() {
    let variables =
        [("PEER_RELAY_MAX_CHANNELS", "3"), ("PEER_RELAY_MAX_CHANNELS_PER_ADDRESS", "2")];
    let mut hub = Process::start(&variables, &["0"]).await;
    let address: std::net::SocketAddr = line(&mut hub.out, "LISTENING ").await.parse().unwrap();
    // They count before they are WebSockets.
    let open = async |source| connect_from(source, address).await;
    let held = (open(2).await, open(2).await, open(3).await);
    for source in [2, 4] {
        let mut web = Web::over(open(source).await);
        let answer = web.head().await.unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2".into()));
    }
    drop(held);
    let began = std::time::Instant::now();
    while RawPeer::open(address).await.is_err() {
        assert!(began.elapsed() < SOON, "places are free again");
        tokio::time::sleep(SOON / 100).await;
    }
}

/// Takes TLS off connections and hands them to a plain server.
async fn without_tls(listener: TcpListener, tls: tokio_rustls::TlsAcceptor, plain: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, plain) = (tls.clone(), plain.clone());
        tokio::spawn(async move {
            let mut outside = tls.accept(stream).await?;
            let mut inside = TcpStream::connect(plain).await?;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

#[tokio::test]
async fn peers_behind_tls_are_dialed_if_their_certificate_is_trusted() {
    let mut hub = Process::start(&[], &["0"]).await;
    let address = line(&mut hub.out, "LISTENING ").await;
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    tokio::spawn(without_tls(listener, authority.server("127.0.0.1"), address));

    let mut stranger = Process::start(&[], &[&url]).await;
    let warned = line(&mut stranger.out, "").await;
    assert!(warned.contains("a bootstrap peer could not be reached"), "{warned}");
    // The variable by which OpenSSL, and others after it, find the system's roots.
    let roots = authority.file();
    let variables = [("SSL_CERT_FILE", roots.path().to_str().unwrap())];
    let mut friend = Process::start(&variables, &[&url]).await;
    assert_eq!(line(&mut friend.err, "PEER ").await, hub.id[..4]);
    assert_eq!(line(&mut hub.err, "PEER ").await, friend.id[..4]);
}
