//! How many allocations a message costs, counted by the allocator.
//!
//! A test program of its own: the count is that of the whole process. Everything in it but the
//! broker stands still or allocates nothing while it is counted: the two nodes are blocking
//! sockets whose frames and buffers were made before, and no heartbeat comes.
//!
//! To see where they come from, name a folder in `ALLOCATIONS_PROFILE`: DHAT's viewer shows what is
//! written there (`dh_view.html` of valgrind).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

#[path = "../benches/support/pair.rs"]
#[allow(unreachable_pub, reason = "benches use it too")]
mod pair;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crolang_broker::{Config, Server};
use dhat::{HeapStats, Profiler};
use pair::{MOST_AT_ONCE, Pair, RECEIVER, from_client, from_server, read};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// How many messages are counted, and how many go before: by then every buffer has its size.
const MESSAGES: usize = 10_000;
const WARM_UP: usize = 1_600;

/// The most allocations per message that goes alone, from its arrival to its ack; all of them are
/// made by libraries. It may fall; a change that raises it needs a reason.
const MOST_ALONE: f64 = 2.0;

/// The most per message of a burst. The link has a buffer for what it has read of a burst and the
/// transport has no capacity for yet: one for each read, and mostly a burst is one.
const MOST_IN_BURSTS: f64 = 2.5;

/// The most per presence question about [`IDS`] IDs.
const MOST_PER_QUESTION: f64 = 36.0;

/// What the test's own harness may allocate meanwhile, for each of the [`MESSAGES`].
const TOLERANCE: f64 = 0.05;

/// How many IDs a question has.
const IDS: usize = 20;

/// Messages have this many bytes of content.
const CONTENT_BYTES: usize = 200;

#[test]
fn a_message_costs_no_more_allocations_than_it_did() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let mut config = Config { host: [127, 0, 0, 1].into(), port: 0, ..Config::default() };
    config.transport.ping_interval = Duration::from_secs(3600);
    (config.link.max_messages_per_second, config.link.max_bytes_per_second) = (None, None);
    let server = runtime.block_on(Server::bind(&config)).unwrap();
    let mut pair = Pair::connect(server.address(), CONTENT_BYTES);
    let mut question = Question::new();

    pair.relay(WARM_UP, 1);
    let alone = count("alone", || pair.relay(MESSAGES, 1));
    pair.relay(WARM_UP, MOST_AT_ONCE);
    let in_bursts = count("bursts", || pair.relay(MESSAGES, MOST_AT_ONCE));
    question.ask(&mut pair.sender, WARM_UP);
    let per_question = count("questions", || question.ask(&mut pair.sender, MESSAGES));
    println!(
        "allocations per message: {alone:.3} alone, {in_bursts:.3} in bursts of {MOST_AT_ONCE}; \
         {per_question:.3} per question about {IDS} IDs"
    );
    for (what, counted, most) in [
        ("message", alone, MOST_ALONE),
        ("message of a burst", in_bursts, MOST_IN_BURSTS),
        ("question", per_question, MOST_PER_QUESTION),
    ] {
        assert!(counted > 0.0, "nothing was counted");
        assert!(counted <= most + TOLERANCE, "{counted} allocations per {what}, not {most}");
    }
    runtime.block_on(server.shutdown());
}

/// The allocations of each of the [`MESSAGES`] that `send` sends, reallocations among them.
fn count(name: &str, send: impl FnOnce()) -> f64 {
    let profiler = match std::env::var_os("ALLOCATIONS_PROFILE") {
        Some(folder) => {
            let file = Path::new(&folder).join(format!("{name}.json"));
            Profiler::builder().file_name(file).trim_backtraces(None).build()
        }
        None => Profiler::builder().testing().build(),
    };
    send();
    let allocations = HeapStats::get().total_blocks;
    drop(profiler);
    allocations as f64 / MESSAGES as f64
}

/// A question which of some IDs are connected; every other one is.
struct Question {
    sent: Vec<u8>,
    answer: Vec<u8>,
    room: Vec<u8>,
}

impl Question {
    fn new() -> Self {
        let ids = (0..IDS).map(|place| if place % 2 == 0 { RECEIVER } else { "nobody" });
        let asked: Vec<_> = ids.clone().map(|id| format!(r#"\"{id}\""#)).collect();
        let told = ids.map(|id| format!(r#"{{\"id\":\"{id}\",\"connected\":{}}}"#, id == RECEIVER));
        let (asked, told) = (asked.join(","), told.collect::<Vec<_>>().join(","));
        let question =
            format!(r#"421000["ARE_NODES_CONNECTED_TO_BROKER","{{\"ids\":[{asked}]}}"]"#);
        let answer = from_server(&format!(r#"431000["{{\"results\":[{told}]}}"]"#));
        Self { sent: from_client(&question), room: vec![0; answer.len()], answer }
    }

    fn ask(&mut self, asker: &mut TcpStream, times: usize) {
        for _ in 0..times {
            asker.write_all(&self.sent).unwrap();
            read(asker, &self.answer, &mut self.room);
        }
    }
}
