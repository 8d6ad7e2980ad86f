//! Receivers that stop reading: they cost a bounded amount, are closed, and harm nobody else.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Frame, Node, back_at_the_start, eventually, frame, metric, start, start_with,
};

/// A message of about 10 KB for `bob`.
fn message(n: usize) -> String {
    format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"s\":\"{}\"}}"]"#, "x".repeat(10_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_senders_are_answered_and_it_is_closed() {
    let server = start_with(|config| config.link.write_timeout = Duration::from_secs(2)).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    socket2::SockRef::from(&bob.stream).set_recv_buffer_size(16 * 1024).unwrap();
    let mut alice = Node::connect(server.address(), "alice").await;
    let (mut taken, mut n) = (0, 0);
    let began = Instant::now();
    loop {
        alice.send(&message(n)).await;
        let asked = Instant::now();
        let answer = alice.text().await;
        assert!(asked.elapsed() < Duration::from_secs(1), "an answer comes at once");
        match answer.strip_prefix(&format!("43{n}")).unwrap() {
            "[\"OK\"]" => taken += 1,
            "[\"ERROR\"]" => break,
            other => panic!("{other}"),
        }
        n += 1;
        assert!(n < 3_000, "30 MB were taken for a receiver that reads nothing");
    }
    // The queue, what the kernels hold on both sides, and not much more.
    assert!(taken * 10_000 < 8 << 20, "{taken} messages were taken");
    eventually("it is closed", || {
        metric(&server, "crolang_connections_closed_total{reason=\"write_timeout\"}") == 1.0
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(2) + crate::support::SOON);
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"NOT_CONNECTED\"]");
    Node::connect(server.address(), "bob").await;
    bob.end().await;
    drop((alice, bob));
    back_at_the_start(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reads_a_little_now_and_then_is_closed_too() {
    let server = start_with(|config| config.link.write_timeout = Duration::from_secs(2)).await;
    let bob = Node::connect(server.address(), "bob").await;
    socket2::SockRef::from(&bob.stream).set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = bob.second_stream();
    let reading = tokio::spawn(async move {
        let (mut buffer, mut ticks) =
            (vec![0; 2048], tokio::time::interval(Duration::from_millis(100)));
        while let Ok(1..) = stream.read(&mut buffer).await {
            ticks.tick().await;
        }
    });
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut full = None;
    for n in 0.. {
        alice.send(&message(n)).await;
        match alice.text().await.strip_prefix(&format!("43{n}")).unwrap() {
            "[\"OK\"]" => {}
            "[\"ERROR\"]" => drop(full.get_or_insert_with(Instant::now)),
            "[\"NOT_CONNECTED\"]" => break,
            other => panic!("{other}"),
        }
    }
    let took = full.expect("its queue was full").elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let name = "crolang_connections_closed_total{reason=\"write_timeout\"}";
    assert_eq!(metric(&server, name), 1.0);
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_finished_in_time_ends_its_connection() {
    let timeout = Duration::from_millis(800);
    let server = start_with(|config| config.link.message_timeout = timeout).await;
    let mut patient = Node::connect(server.address(), "patient").await;
    let mut endless = Node::connect(server.address(), "endless").await;
    let event = frame(0x81, br#"42["SOCKET_MSG_EXCHANGE","{}"]"#);
    let (head, tail) = event.split_at(20);
    // A text in fragments, of which none is the last.
    endless.send_bytes(&frame(0x01, b"42")).await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while began.elapsed() < 2 * timeout {
        patient.send_bytes(head).await;
        ticks.tick().await;
        patient.send_bytes(tail).await;
        // Fails once the broker has closed.
        let _ = endless.stream.write_all(&frame(0x00, b"x")).await;
    }
    endless.end().await;
    assert_eq!(patient.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
    let name = "crolang_connections_closed_total{reason=\"message_timeout\"}";
    assert_eq!(metric(&server, name), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reads_again_gets_everything_that_was_acked() {
    let server = start().await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for round in 0..3 {
        let mut acked = Vec::new();
        for n in 0..2_000 {
            alice.send(&message(n)).await;
            match alice.text().await.strip_prefix(&format!("43{n}")).unwrap() {
                "[\"OK\"]" => acked.push(n),
                _ => break,
            }
        }
        assert!(acked.len() < 2_000, "round {round}: the queue has a limit");
        for n in acked {
            assert!(
                bob.text().await == message(n).replacen(&format!("42{n}["), "42[", 1),
                "{round} {n}"
            );
        }
    }
    // The send queue is empty again: the next message is accepted.
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"OK\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reads_no_answers_is_slowed_down_and_loses_none() {
    let server = start_with(|config| config.transport.ping_timeout = Duration::from_secs(60)).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let socket = socket2::SockRef::from(&alice.stream);
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    const QUESTIONS: usize = 30_000;
    let filler = "x".repeat(400);
    let questions: Vec<u8> = (0..QUESTIONS)
        .flat_map(|n| frame(0x81, format!(r#"42{n}["X","{filler}"]"#).as_bytes()))
        .collect();
    let mut asking = alice.second_stream();
    let mut asked = tokio::spawn(async move { asking.write_all(&questions).await });
    // Nobody reads the answers, so at some point the broker reads no more questions.
    let stuck = tokio::time::timeout(Duration::from_secs(2), &mut asked).await;
    assert!(stuck.is_err(), "12 MB of questions were read while no answer was");
    for n in 0..QUESTIONS {
        // Nothing is written in between: it would end up in the middle of a question.
        let answer = alice.next_unanswered().await;
        assert_eq!(answer, Frame::Text(format!("43{n}[\"ERROR\"]")));
    }
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bystanders_do_not_notice() {
    let server = start_with(|config| config.link.write_timeout = Duration::from_secs(1)).await;
    let mut stuck = Vec::new();
    for n in 0..20 {
        stuck.push(Node::connect(server.address(), &format!("stuck{n}")).await);
    }
    let mut flooder = Node::connect(server.address(), "flooder").await;
    let (mut carol, mut dave) = (
        Node::connect(server.address(), "carol").await,
        Node::connect(server.address(), "dave").await,
    );
    let flood = tokio::spawn(async move {
        for n in 0..4_000 {
            let to = format!("stuck{}", n % 20);
            let text = message(n).replacen("bob", &to, 1).replacen(&format!("42{n}["), "42[", 1);
            flooder.send(&text).await;
        }
        flooder
    });
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() {
        let asked = Instant::now();
        assert_eq!(carol.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"dave"}"#).await, "[\"OK\"]");
        dave.text().await;
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let flooder = flood.await.unwrap();
    eventually("all stuck ones are closed", || metric(&server, "crolang_nodes") == 3.0).await;
    drop((stuck, flooder, carol, dave));
    back_at_the_start(&server).await;
}
