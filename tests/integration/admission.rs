//! Admission: greeting, refusals, and rejections before the upgrade.

use crate::support::{
    Frame, Node, back_at_the_start, enter, exchange, frame, get, metric, start, start_with,
    unix_time, upgrade_request,
};

#[tokio::test]
async fn a_node_is_greeted_to_the_byte() {
    let server = start().await;
    let mut node = Node::open(server.address(), "&id=a&version=1&runtime=r").await;
    node.send("40").await;
    let connected = node.text().await;
    assert!(connected.starts_with("40{\"sid\":\"") && connected.ends_with("\"}"), "{connected}");
    let authenticated = node.text().await;
    let start = concat!(
        r#"42["AUTHENTICATED","{\n  \"iceServers\": [\n    {\n      \"urls\": [\n"#,
        r#"        \"stun:stun.l.google.com:19302\",\n"#
    );
    assert!(authenticated.starts_with(start), "{authenticated}");
    assert!(authenticated.ends_with(r#"\n  \"iceCandidatePoolSize\": 10\n}"]"#), "{authenticated}");
}

#[tokio::test]
async fn a_handshake_with_a_value_that_is_too_long_is_refused() {
    let server = start_with(|config| config.broker.max_data_bytes = 1000).await;
    let longest = |version: usize, data: usize| {
        format!("&id=a&version={}&runtime=r&data={}", "v".repeat(version), "d".repeat(data))
    };
    drop(enter(server.address(), &longest(256, 1000)).await.unwrap());
    for (query, key) in [(longest(257, 0), "version"), (longest(1, 1001), "data")] {
        let refusal = enter(server.address(), &query).await.err().unwrap();
        let message =
            format!("server side exception: Error: Too long OnConnectionData value: {key}");
        assert_eq!(refusal, format!("44{{\"message\":\"{message}\"}}"));
    }
    assert_eq!(metric(&server, "crolang_refusals_total{cause=\"too_long_value\"}"), 2.0);
}

#[tokio::test]
async fn the_engine_io_greeting_names_the_limits() {
    let server = start().await;
    let request = upgrade_request("&id=a&version=1&runtime=r") + "close, please";
    let answer = exchange(server.address(), request.as_bytes()).await;
    assert!(
        answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            || answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    assert!(
        answer.contains(
            r#","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        ),
        "{answer}"
    );
}

#[tokio::test]
async fn a_version_and_a_runtime_may_be_empty() {
    let server = start().await;
    for query in ["&id=a&version=&runtime=", "&id=b&version&runtime"] {
        let mut node = Node::open(server.address(), query).await;
        node.send("40").await;
        node.authenticated().await;
    }
}

#[tokio::test]
async fn refusals_come_as_connect_errors() {
    let server = start().await;
    let cases = [
        ("", "id"),
        ("&id=a&id=b&version=1&runtime=r", "id"),
        ("&id=%20a&version=1&runtime=r", "id"),
        ("&id=a&runtime=r", "version"),
        ("&id=a&version=1&runtime=r&runtime=r", "runtime"),
    ];
    for (query, key) in cases {
        let mut node = Node::open(server.address(), query).await;
        node.send("40").await;
        let message =
            format!("server side exception: Error: Missing required OnConnectionData value: {key}");
        assert_eq!(node.text().await, format!("44{{\"message\":\"{message}\"}}"), "{query}");
        // What it sends all the same is thrown away, and its end is noticed.
        node.send_all(&["421[\"SOCKET_MSG_EXCHANGE\",\"{}\"]", "40", "41"]).await;
    }
    assert_eq!(metric(&server, "crolang_refusals_total{cause=\"missing_value\"}"), 5.0);
    assert_eq!(metric(&server, "crolang_admissions_total"), 0.0);
    back_at_the_start(&server).await;
}

#[tokio::test]
async fn odd_ids_are_ordinary_ids() {
    let server = start().await;
    for (sent, id) in [
        ("__proto__", "__proto__"),
        ("*", "*"),
        ("a:b", "a:b"),
        ("socket.io%23/%23", "socket.io#/#"),
        ("a+b", "a b"),
    ] {
        let mut node = Node::connect(server.address(), sent).await;
        let payload = format!("{{\"to\":\"{id}\",\"from\":\"{id}\"}}");
        node.send(&format!(
            "429[\"SOCKET_MSG_EXCHANGE\",{}]",
            serde_json::to_string(&payload).unwrap()
        ))
        .await;
        let mut answers = [node.text().await, node.text().await];
        answers.sort();
        assert!(
            answers[0].starts_with("42[\"SOCKET_MSG_EXCHANGE\",") && answers[1] == "439[\"OK\"]",
            "{answers:?}"
        );
    }
}

#[tokio::test]
async fn other_transports_versions_and_methods_are_bad_requests() {
    let server = start().await;
    let address = server.address();
    let requests = [
        (
            "/socket.io/?EIO=4&transport=polling&id=a&version=1&runtime=r",
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        ("/socket.io/?EIO=4&transport=webtransport", r#"{"code":0,"message":"Transport unknown"}"#),
        ("/socket.io/?EIO=4", r#"{"code":0,"message":"Transport unknown"}"#),
        (
            "/socket.io/?EIO=3&transport=websocket",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "/socket.io/?transport=websocket",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "/socket.io/?EIO=4&transport=websocket&sid=abc",
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "/socket.io/?EIO=4&transport=websocket&id=a&version=1&runtime=r",
            r#"{"code":3,"message":"Bad request"}"#,
        ),
    ];
    for (target, body) in requests {
        let answer = get(address, target).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with(body),
            "{target}: {answer}"
        );
    }
    for method in ["POST", "PUT", "DELETE"] {
        let request = upgrade_request("&id=a&version=1&runtime=r")
            .replacen("GET", method, 1)
            .replacen("Upgrade\r\n", "close\r\n", 1);
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{method}: {answer}");
    }
    let preflight = "OPTIONS /socket.io/?EIO=4 HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\n\
                     Access-Control-Request-Headers: x-a\r\nConnection: close\r\n\r\n";
    let answer = exchange(address, preflight.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    for header in ["origin: *", "methods: *", "credentials: true", "headers: x-a"] {
        assert!(answer.contains(&format!("access-control-allow-{header}\r\n")), "{answer}");
    }
    assert_eq!(metric(&server, "crolang_admissions_total"), 0.0);
    back_at_the_start(&server).await;
}

#[tokio::test]
async fn events_sent_together_with_connect_are_answered() {
    let server = start().await;
    let mut receiver = Node::connect(server.address(), "bob").await;
    for round in 0..50 {
        let mut node =
            Node::open(server.address(), &format!("&id=a{round}&version=1&runtime=r")).await;
        let events: Vec<_> = (0..20)
            .map(|n| format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#))
            .collect();
        let mut packets = vec!["40".to_owned()];
        packets.extend(events);
        node.send_all(&packets).await;
        node.authenticated().await;
        for n in 0..20 {
            assert_eq!(node.text().await, format!("43{n}[\"OK\"]"));
            assert_eq!(
                receiver.text().await,
                format!(r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#)
            );
        }
    }
}

#[tokio::test]
async fn frames_right_behind_the_upgrade_request_are_read() {
    let server = start().await;
    let mut request = upgrade_request("&id=a&version=1&runtime=r").into_bytes();
    request.extend(frame(0x81, b"40"));
    request.extend(frame(0x81, br#"425["SOCKET_MSG_EXCHANGE","{\"to\":\"b\"}"]"#));
    let mut node = Node::request(server.address(), &request).await.unwrap();
    node.authenticated().await;
    assert_eq!(node.text().await, "435[\"NOT_CONNECTED\"]");
}

#[tokio::test]
async fn events_before_connect_end_the_connection_and_reach_nobody() {
    let server = start().await;
    let bystander = Node::connect(server.address(), "bob").await.live();
    let mut node = Node::open(server.address(), "&id=a&version=1&runtime=r").await;
    node.send_all(&[r#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#, "40"]).await;
    node.end().await;
    drop(server);
    assert_eq!(bystander.ended().await, 0);
}

#[tokio::test]
async fn a_node_that_leaves_the_namespace_cannot_come_back_on_its_connection() {
    let server = start().await;
    let mut node = Node::connect(server.address(), "a").await;
    node.send_all(&["41", "40", "421[\"SOCKET_MSG_EXCHANGE\",\"{}\"]"]).await;
    assert!(matches!(node.next().await, Frame::End | Frame::Close));
    assert_eq!(metric(&server, "crolang_connections_closed_total{reason=\"node_left\"}"), 1.0);
    Node::connect(server.address(), "a").await;
}

#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let server = start().await;
    let mut node = Node::connect(server.address(), "a").await;
    node.send_all(&vec!["40"; 1000]).await;
    node.end().await;
    let reason = "crolang_connections_closed_total{reason=\"protocol_violation\"}";
    assert_eq!(metric(&server, reason), 1.0);
    Node::connect(server.address(), "a").await;
}

#[tokio::test]
async fn above_the_most_connections_there_is_503() {
    let server = start_with(|config| config.max_connections = 2).await;
    let first = Node::connect(server.address(), "a").await;
    let _second = Node::connect(server.address(), "b").await;
    let answer = Node::try_connect(server.address(), "c").await.err().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 2\r\n"),
        "{answer}"
    );
    assert_eq!(metric(&server, "crolang_rejections_total{cause=\"max_connections\"}"), 1.0);
    drop(first);
    crate::support::eventually("room again", || server.connections() == 1).await;
    Node::connect(server.address(), "c").await;
}

#[tokio::test]
async fn health_and_unknown_paths() {
    let server = start().await;
    let answer = get(server.address(), "/health").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json"),
        "{head}"
    );
    let now = unix_time().as_millis() as u64;
    let health: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(health["status"], "ok");
    assert!(now.abs_diff(health["timestamp"].as_u64().unwrap()) < 10_000);
    assert!(get(server.address(), "/").await.starts_with("HTTP/1.1 404 "));
    assert!(get(server.address(), "/metrics").await.contains("# EOF"));
}

/// An nginx without `proxy_http_version` speaks HTTP/1.0; other proxies map a prefix onto the path.
#[tokio::test]
async fn proxies_may_speak_an_older_http_and_change_what_follows_the_path() {
    let server = start().await;
    let request = upgrade_request("&id=a&version=1&runtime=r");
    let older = request.replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n");
    let answer = exchange(server.address(), (older + "close, please").as_bytes()).await;
    let (head, greeting) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 101 ") && head.to_ascii_lowercase().contains("connection: upgrade"));
    assert!(greeting.contains("0{\"sid\":\""), "{answer}");
    for (n, path) in ["/socket.io", "/socket.io//", "/socket.io/socket.io/", "/socket.io/x"]
        .into_iter()
        .enumerate()
    {
        let request = upgrade_request(&format!("&id=n{n}&version=1&runtime=r"))
            .replace("/socket.io/?", &format!("{path}?"));
        let mut node = Node::request(server.address(), request.as_bytes()).await.unwrap();
        node.send("40").await;
        node.authenticated().await;
    }
    let answer = get(server.address(), "/socket.io2?EIO=4&transport=websocket").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
