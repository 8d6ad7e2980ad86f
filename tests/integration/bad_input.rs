//! Input that nobody should send: it gets an answer or an end, and costs only its sender.

use crolang_broker::Server;

use crate::support::{
    Frame, Node, SOON, back_at_the_start, exchange, frame, get, start, upgrade_request,
};

/// Two nodes that go on exchanging messages, whatever others do.
struct Bystanders(Node, Node);

impl Bystanders {
    async fn connect(server: &Server) -> Self {
        let address = server.address();
        Self(Node::connect(address, "carol").await, Node::connect(address, "dave").await)
    }

    async fn relay(&mut self) {
        assert_eq!(self.0.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"dave"}"#).await, "[\"OK\"]");
        self.1.text().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests() {
    let server = start().await;
    let mut bystanders = Bystanders::connect(&server).await;
    let upgrade = upgrade_request("&id=a&version=1&runtime=r");
    let many_headers = (0..10_000).map(|n| format!("x{n}: y\r\n")).collect::<String>();
    let requests: Vec<(Vec<u8>, &str)> = vec![
        (b"\r\n\r\n\0\x01\x02garbage\r\n\r\n".to_vec(), "HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "HTTP/1.1 400"),
        (b"GET\r\n\r\n".to_vec(), "HTTP/1.1 400"),
        (format!("GET / HTTP/1.1\r\n{many_headers}\r\n").into_bytes(), "HTTP/1.1 431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(), "HTTP/1.1 4"),
        (format!("GET /?{} HTTP/1.1\r\nConnection: close\r\n\r\n", "x".repeat(60_000)).into_bytes(), "HTTP/1.1 404"),
        (upgrade.replace("Version: 13", "Version: 12\r\nX: y\r\nConnection: close").into_bytes(), "HTTP/1.1 400"),
        (upgrade.replace("Sec-WebSocket-Key", "Connection: close\r\nX").into_bytes(), "HTTP/1.1 400"),
        (
            b"POST /health HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            "HTTP/1.1 4",
        ),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n".to_vec(), "HTTP/1.1 400"),
    ];
    for (request, expected) in requests {
        let answer = exchange(server.address(), &request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        assert!(answer.starts_with(expected), "{shown}: {answer}");
        bystanders.relay().await;
    }
    assert!(get(server.address(), "/health").await.starts_with("HTTP/1.1 200"));
    drop(bystanders);
    back_at_the_start(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_frames_and_packets_end_their_connection_only() {
    let server = start().await;
    let mut bystanders = Bystanders::connect(&server).await;
    let text = |text: &str| frame(0x81, text.as_bytes());
    let unmasked = vec![0x81, 2, b'4', b'2'];
    let odd: Vec<Vec<u8>> = vec![
        unmasked,
        frame(0xc1, b"42"),
        frame(0x83, b"42"),
        frame(0x8b, b"42"),
        frame(0x81, b"4\xff\xfe"),
        frame(0x89, &[0; 126]),
        frame(0x09, b"half a ping"),
        frame(0x80, b"continues nothing"),
        [frame(0x01, b"4"), frame(0x81, b"2")].concat(),
        vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        vec![0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x41, 1, 2, 3, 4],
        frame(0x88, &[0]),
        frame(0x88, &[0, 1]),
        text(""),
        text("0"),
        text("5"),
        text("6"),
        text("7"),
        text("é"),
        text("4"),
        text("47"),
        text("4é"),
        text("44{}"),
        text("42"),
        text("42{}"),
        text("42["),
        text("42[]"),
        text("42[null]"),
        text(r#"42[1,"x"]"#),
        text(r#"427[1,"x"]"#),
        text("43"),
        text("431"),
        text("45-[]"),
        text("4510001-[]"),
        text("452-[\"E\"]"),
        frame(0x82, b"unannounced bytes"),
        [text("451-[\"E\",{\"_placeholder\":true,\"num\":0}]"), text("42[\"E\",\"x\"]")].concat(),
        text("bAAAA"),
        text("40"),
        text(&format!("40/{},", "x".repeat(256))),
        text("41"),
        text("1"),
    ];
    for bytes in &odd {
        // Whatever the one before sent, the ID is free again.
        let mut node = Node::connect(server.address(), "a").await;
        node.send_bytes(bytes).await;
        let ended = tokio::time::timeout(SOON, node.end()).await;
        assert!(ended.is_ok(), "the connection did not end after {bytes:x?}");
        bystanders.relay().await;
    }
    drop(bystanders);
    back_at_the_start(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_harmless_frames_change_nothing() {
    let server = start().await;
    let mut bystanders = Bystanders::connect(&server).await;
    let mut node = Node::connect(server.address(), "a").await;
    let harmless: Vec<Vec<u8>> = vec![
        frame(0x81, b"3"),
        frame(0x81, b"2"),
        frame(0x81, b"40/admin,"),
        frame(0x81, b"42/admin,[\"E\",\"x\"]"),
        frame(0x81, b"431[\"OK\"]"),
        frame(0x81, b"42[\"connect_error\",\"x\"]"),
        frame(0x81, b"42[\"disconnect\",\"x\"]"),
        frame(0x8a, b"a pong that nobody asked for"),
        frame(0x89, b""),
        [frame(0x01, b"42[\"E"), frame(0x89, b""), frame(0x80, b"\",\"x\"]")].concat(),
        frame(0x81, b"451-[\"ANNOUNCES AND NEVER SENDS\"]"),
        frame(0x82, b"but then does"),
        (0..10_000).flat_map(|_| frame(0x8a, b"")).collect(),
    ];
    for bytes in &harmless {
        node.send_bytes(bytes).await;
    }
    let fragments: Vec<u8> = r#"428["SOCKET_MSG_EXCHANGE","{\"to\":\"dave\"}"]"#
        .bytes()
        .enumerate()
        .flat_map(|(n, byte)| frame(if n == 0 { 0x01 } else { 0x00 }, &[byte]))
        .chain(frame(0x80, b""))
        .collect();
    node.send_bytes(&fragments).await;
    loop {
        match node.next().await {
            Frame::Text(text) if text == "438[\"OK\"]" => break,
            Frame::Text(text) => assert!(text.starts_with("44/admin,"), "{text}"),
            other => assert_eq!(other, Frame::Pong),
        }
    }
    assert!(bystanders.1.text().await.contains("dave"));
    bystanders.relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_announced_and_never_sent_is_ended_by_the_heartbeat() {
    let server = crate::support::start_with(|config| {
        config.transport.ping_interval = std::time::Duration::from_millis(300);
        config.transport.ping_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let mut node = Node::connect(server.address(), "a").await;
    node.send_bytes(&[0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0, 0, 1, 2, 3, 4, 5, 6]).await;
    node.end().await;
    back_at_the_start(&server).await;
}
