//! What a message to another replica costs in Redis: commands, and bytes on its connections.
//!
//! Counted by Redis itself and never by the clock. The figures in `doc/guides/replicas.md` are what this
//! prints (`cargo test --test integration replicas_cost -- --nocapture`).

use std::time::Instant;

use crate::support::{Node, RedisServer, start_replica};

const MESSAGES: usize = 2_000;

/// Bytes of each message's argument, as JSON text.
const ARGUMENT_BYTES: usize = 200;

/// The channel, the header of the message between replicas and Redis's own framing, for a message
/// and its answer, are at most so many bytes each way.
const MOST_BYTES_AROUND: f64 = 400.0;

/// The maintenance of two replicas and the asking of this test cost at most so many bytes a second.
const MAINTENANCE_BYTES: f64 = 50_000.0;

/// What Redis had done up to a moment.
struct Count {
    at: Instant,
    publishes: u64,
    others: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Count {
    fn now(redis: &RedisServer) -> Self {
        let mut calls = redis.command_calls();
        calls.retain(|command, _| !matches!(command.as_str(), "auth" | "info"));
        let publishes = calls.remove("publish").unwrap_or(0);
        let stats = redis.command(&["INFO", "stats"]);
        let stat = |name: &str| -> u64 {
            let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap().trim().parse().unwrap()
        };
        Self {
            at: Instant::now(),
            publishes,
            others: calls.values().sum(),
            bytes_in: stat("total_net_input_bytes"),
            bytes_out: stat("total_net_output_bytes"),
        }
    }
}

/// Sends `MESSAGES` from one replica to the other, `burst` in one write, each burst after the one
/// before has been answered. Checks what it costs.
async fn send_in_bursts(redis: &RedisServer, alice: &mut Node, bob: &mut Node, burst: usize) {
    let filler = "x".repeat(ARGUMENT_BYTES - r#""{\"to\":\"bob\",\"s\":\"\"}""#.len());
    let array = format!(r#"["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"s\":\"{filler}\"}}"]"#);
    let texts: Vec<_> = (0..burst).map(|n| format!("42{n}{array}")).collect();
    let before = Count::now(redis);
    for _ in 0..MESSAGES / burst {
        alice.send_all(&texts).await;
        for n in 0..burst {
            assert_eq!(bob.text().await, format!("42{array}"));
            assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
        }
    }
    let after = Count::now(redis);
    let seconds = after.at.duration_since(before.at).as_secs_f64() + 1.0;
    let sent = (MESSAGES / burst * burst) as f64;
    let each = |before: u64, after: u64| (after - before) as f64 / sent;
    let publishes = each(before.publishes, after.publishes);
    let others = each(before.others, after.others);
    let bytes_in = each(before.bytes_in, after.bytes_in);
    let bytes_out = each(before.bytes_out, after.bytes_out);
    println!(
        "{burst} at a time: {publishes:.3} PUBLISH and {others:.3} other commands, {bytes_in:.0} \
         bytes to Redis and {bytes_out:.0} from it for each message of {ARGUMENT_BYTES} bytes"
    );
    let maintenance_commands = 40.0 * seconds / sent;
    assert!(publishes <= 2.0 + maintenance_commands, "{publishes} PUBLISH for each message");
    assert!(others <= maintenance_commands, "{others} other commands for each message");
    let most = ARGUMENT_BYTES as f64 + MOST_BYTES_AROUND + MAINTENANCE_BYTES * seconds / sent;
    assert!(bytes_in <= most, "{bytes_in} bytes to Redis for each message");
    assert!(bytes_out <= most, "{bytes_out} bytes from Redis for each message");
    // Less than what has to go there would be a count that counts something else.
    assert!(publishes > 0.0 && bytes_in.min(bytes_out) > ARGUMENT_BYTES as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_another_replica_costs_few_commands_and_bytes() {
    let redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    // The first one looks for its receiver.
    alice.send(r#"420["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#).await;
    bob.text().await;
    assert_eq!(alice.text().await, "430[\"OK\"]");
    for burst in [1, 50] {
        send_in_bursts(&redis, &mut alice, &mut bob, burst).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_a_thousand_ids_hold_up_no_message_and_lose_none() {
    const ASKING: usize = 30;
    let redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    let ids: Vec<_> = (0..1_000).map(|n| format!("\\\"n{n}\\\"")).collect();
    let question =
        format!(r#"["ARE_NODES_CONNECTED_TO_BROKER","{{\"ids\":[{}]}}"]"#, ids.join(","));
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..ASKING {
        let (mut node, question) =
            (Node::connect(a.address(), &format!("asks{n}")).await, question.clone());
        asking.spawn(async move {
            loop {
                let answer = node.ask_raw(&question).await;
                assert!(answer.contains("n999"), "{answer}");
            }
        });
    }
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await;
        times.push(began.elapsed());
        assert_eq!(ack, "[\"OK\"]");
        bob.text().await;
    }
    assert!(asking.try_join_next().is_none(), "a question was not answered");
    let calls = redis.command_calls();
    assert!(calls["mget"] > 100, "the questions are asked in hundreds: {}", calls["mget"]);
    times.sort();
    // Not asserted: here the answers to the questions take the processor. No message is lost to the
    // 900 ms after which it would be an error.
    println!("median {:?}, slowest {:?}", times[50], times[99]);
}
