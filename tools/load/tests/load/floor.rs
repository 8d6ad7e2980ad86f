//! The floor beside the brokers: `load` drives it just as it drives them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::program::{Listening, measure};

fn floor() -> Listening {
    Listening::start(&mut Command::new(env!("CARGO_BIN_EXE_floor")))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_relays_and_lets_in_all_that_load_sends() {
    let floor = floor();
    for arguments in [
        "relay --pairs 3 --window 1 --seconds 0.3 --warmup 0",
        "relay --pairs 3 --window 16 --seconds 0.3 --warmup 0",
        "relay --pairs 2 --window 2 --size 16384 --seconds 0.3 --warmup 0",
        "relay --pairs 2 --window 2 --size 900000 --seconds 0.3 --warmup 0",
        "relay --pairs 3 --rate 50 --no-ack --seconds 0.3 --warmup 0",
        "fan-in --pairs 3 --seconds 0.3 --warmup 0",
        "churn --nodes 4 --seconds 0.3 --warmup 0",
        "idle --nodes 100 --seconds 0.1",
        "storm --nodes 100",
        "overlay --window 1 --seconds 0.3 --warmup 0",
        "overlay --pairs 3 --window 16 --size 16384 --seconds 0.3 --warmup 0",
    ] {
        let told = measure(floor.address, arguments).await;
        assert_eq!(told.code, Some(0), "{arguments}: {}", told.err);
        assert!(told.json()["count"].as_u64().unwrap() > 0, "{arguments}: {}", told.out);
    }
}

#[test]
fn it_says_that_it_is_there() {
    let floor = floor();
    let mut stream = TcpStream::connect(floor.address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: floor\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
