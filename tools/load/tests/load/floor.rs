//! The floor beside the brokers: `load` drives it just as it drives them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::program::measure;

/// A floor that ends with its test.
struct Floor {
    process: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        let mut process = command.env("PORT", "0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_relays_and_lets_in_all_that_load_sends() {
    let floor = Floor::start();
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
    ] {
        let told = measure(floor.address, arguments).await;
        assert_eq!(told.code, Some(0), "{arguments}: {}", told.err);
        assert!(told.json()["count"].as_u64().unwrap() > 0, "{arguments}: {}", told.out);
    }
}

#[test]
fn it_says_that_it_is_there() {
    let floor = Floor::start();
    let mut stream = TcpStream::connect(floor.address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: floor\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
