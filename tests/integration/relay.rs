//! Messages between nodes: acks, bytes and order.

use crolang_broker::Server;

use crate::support::{EVENTS, Node, RELAYED_EVENT, metric, start, start_with};

async fn pair(server: &Server) -> (Node, Node) {
    (Node::connect(server.address(), "alice").await, Node::connect(server.address(), "bob").await)
}

#[tokio::test]
async fn every_event_arrives_byte_for_byte_and_is_acked() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    let arguments = [
        r#""{\"from\":\"alice\",\"to\":\"bob\",\"content\":\"hi\"}""#,
        r#""{\"to\":\"bob\",\"n\":1.0,\"m\":1e400,\"o\":-0.0}""#,
        r#""{\"to\":\"\\u0062ob\",\"s\":\"\\/\\ud800\"}""#,
        r#""{\"to\":\"bob\",\"s\":\"\ud800 \udfff \/ \u0041\"}""#,
        r#""  {\"to\" : \" bob\u00a0\ufeff\",\n\t\"x\":[[[]]] }  ""#,
        "\"{\\\"to\\\":\\\"bob\\\",\\\"s\\\":\\\"😀\u{2028}\u{7f}\\\"}\"",
        r#""{\"to\":\"bob\",\"sessionDescription\":{\"type\":\"offer\",\"sdp\":\"v=0\\r\\n\"}}""#,
    ];
    for event in EVENTS {
        for argument in arguments {
            let array = format!("[\"{}\",{argument}]", event);
            assert_eq!(alice.ask_raw(&array).await, "[\"OK\"]", "{array}");
            assert_eq!(bob.text().await, format!("42{array}"));
        }
    }
    assert_eq!(
        metric(&server, r#"crolang_messages_total{event="SOCKET_MSG_EXCHANGE",ack="OK"}"#),
        arguments.len() as f64
    );
}

#[tokio::test]
async fn large_messages_pass_and_larger_ones_end_the_connection() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    for size in [16_000, 65_535, 65_536, 200_000, 900_000] {
        let array = format!(
            r#"["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"s\":\"{}\"}}"]"#,
            "x".repeat(size)
        );
        alice.send(&format!("421{array}")).await;
        assert!(bob.text().await == format!("42{array}"));
        assert_eq!(alice.text().await, "431[\"OK\"]");
    }
    let too_long = format!(
        r#"421["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"s\":\"{}\"}}"]"#,
        "x".repeat(1_000_000)
    );
    alice.send(&too_long).await;
    alice.end().await;
    assert_eq!(bob.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"alice"}"#).await, "[\"NOT_CONNECTED\"]");
}

#[tokio::test]
async fn wrong_messages_are_errors_and_reach_nobody() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    let wrong = [
        r#"["EV"]"#,
        r#"["EV",{"to":"bob"}]"#,
        r#"["EV",1]"#,
        r#"["EV",null]"#,
        r#"["EV",["{}"]]"#,
        r#"["EV","{\"to\":\"bob\"}","{\"to\":\"bob\"}"]"#,
        r#"["EV","{\"to\":\"bob\"}"]]"#,
        r#"["EV","to bob"]"#,
        r#"["EV","[\"bob\",\"alice\"]"]"#,
        r#"["EV","{}"]"#,
        r#"["EV","{\"to\":null}"]"#,
        r#"["EV","{\"to\":{\"id\":\"bob\"}}"]"#,
        r#"["EV","{\"to\":\"\"}"]"#,
        r#"["EV","{\"to\":\" \\u2028\"}"]"#,
        r#"["EV","{\"to\":\"bob\",\"to\":\"bob\"}"]"#,
        r#"["EV","{\"to\":\"bob\",\"from\":\"bob\"}"]"#,
        r#"["EV","{\"to\":\"bob\",\"from\":\"Alice\"}"]"#,
        r#"["EV","{\"from\":\"eve\",\"to\":\"bob\",\"from\":\"alice\"}"]"#,
        r#"["EV","{\"to\":\"bob\"} trailing"]"#,
    ];
    for event in EVENTS {
        for array in wrong {
            let array = array.replace("EV", event);
            assert_eq!(alice.ask_raw(&array).await, "[\"ERROR\"]", "{array}");
        }
    }
    assert_eq!(alice.ask_raw(r#"["UNHEARD_OF","{\"to\":\"bob\"}"]"#).await, "[\"ERROR\"]");
    alice.send(r#"42["UNHEARD_OF","x"]"#).await;
    let last = r#"{"to":"bob","from":null,"last":1}"#;
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", last).await, "[\"OK\"]");
    assert!(bob.text().await.contains("last"));
}

#[tokio::test]
async fn a_binary_argument_is_an_error() {
    let server = start().await;
    let (mut alice, _bob) = pair(&server).await;
    alice.send(r#"451-7["SOCKET_MSG_EXCHANGE",{"_placeholder":true,"num":0}]"#).await;
    alice.send_bytes(&crate::support::frame(0x82, b"bytes")).await;
    assert_eq!(alice.text().await, "437[\"ERROR\"]");
}

#[tokio::test]
async fn nobody_there_and_oneself() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for to in ["carol", "Alice", "a\\u0000b", &"x".repeat(300)] {
        assert_eq!(
            alice.ask("CONNECTION_ATTEMPT", &format!("{{\"to\":\"{to}\"}}")).await,
            "[\"NOT_CONNECTED\"]"
        );
    }
    alice.send(r#"423["SOCKET_MSG_EXCHANGE","{\"to\":\"alice\",\"from\":\" alice \"}"]"#).await;
    assert_eq!(
        alice.text().await,
        r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"alice\",\"from\":\" alice \"}"]"#
    );
    assert_eq!(alice.text().await, "433[\"OK\"]");
}

#[tokio::test]
async fn an_event_without_an_ack_is_relayed_in_silence() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    alice.send(r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#).await;
    alice.send(r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"nobody\"}"]"#).await;
    alice.send(r#"42["ARE_NODES_CONNECTED_TO_BROKER","{\"ids\":[]}"]"#).await;
    assert_eq!(bob.text().await, r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#);
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
}

#[tokio::test]
async fn switched_off_events_are_disabled_whatever_they_hold() {
    for (signaling, relay) in [(false, true), (true, false), (false, false)] {
        let server = start_with(|config| {
            config.broker.signaling_enabled = signaling;
            config.broker.relay_enabled = relay;
        })
        .await;
        let mut alice = Node::connect(server.address(), "alice").await;
        for event in EVENTS {
            let enabled = if event != RELAYED_EVENT { signaling } else { relay };
            let (wrong, absent) =
                if enabled { ("ERROR", "NOT_CONNECTED") } else { ("DISABLED", "DISABLED") };
            assert_eq!(alice.ask(event, r#"{"to":"bob"}"#).await, format!("[\"{absent}\"]"));
            for array in [r#"["EV"]"#, r#"["EV",{}]"#, r#"["EV","{}"]"#, r#"["EV","x"]]"#] {
                assert_eq!(
                    alice.ask_raw(&array.replace("EV", event)).await,
                    format!("[\"{wrong}\"]")
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_keeps_its_order_and_every_event_is_acked_once() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    const BURST: usize = 1000;
    for round in 0..5 {
        let events: Vec<_> = (0..BURST)
            .map(|n| {
                let event = EVENTS[n % EVENTS.len()];
                format!(r#"42{n}["{event}","{{\"to\":\"bob\",\"round\":{round},\"n\":{n}}}"]"#)
            })
            .collect();
        alice.send_all(&events).await;
        for (n, event) in events.iter().enumerate() {
            let received = bob.text().await;
            assert_eq!(received, event.replacen(&format!("42{n}["), "42[", 1));
        }
        for n in 0..BURST {
            assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
        }
    }
}

#[tokio::test]
async fn ack_ids_of_all_lengths_come_back() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for id in ["0", "9", "10", "99", "100", "999999999", "9223372036854775807"] {
        alice.send(&format!(r#"42{id}["SOCKET_MSG_EXCHANGE","{{}}"]"#)).await;
        assert_eq!(alice.text().await, format!("43{id}[\"ERROR\"]"));
    }
}

#[tokio::test]
async fn an_event_is_read_in_every_form_of_its_json() {
    let server = start().await;
    let (mut alice, mut bob) = pair(&server).await;
    let argument = r#""{\"to\":\"bob\"}""#;
    let escaped: String = RELAYED_EVENT.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for packet in [
        format!(r#"421 ["{RELAYED_EVENT}",{argument}]"#),
        format!("421\t\n[ \"{RELAYED_EVENT}\" , {argument} ]"),
        format!(r#"421["{escaped}",{argument}]"#),
        format!(r#"421  ["{escaped}",{argument}]"#),
    ] {
        alice.send(&packet).await;
        assert_eq!(alice.text().await, "431[\"OK\"]", "{packet}");
        assert_eq!(bob.text().await, format!("42[\"{RELAYED_EVENT}\",{argument}]"));
    }
    for name in [r"\u00e9v\u00e9nement", r#"a\"b\\"#, r"\ud83d\ude00", r"\ud83d", r"\q"] {
        alice.send(&format!(r#"422["{name}","x"]"#)).await;
        assert_eq!(alice.text().await, "432[\"ERROR\"]", "{name}");
    }
    assert_eq!(alice.ask_raw(&format!(r#"["{RELAYED_EVENT}",{argument}]"#)).await, "[\"OK\"]");
}
