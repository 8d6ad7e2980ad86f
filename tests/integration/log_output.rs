//! The log's output: nobody reads it, it is closed, the disk is full. It costs lines, nothing else.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Node, Port, SOON, eventually, get, program};

/// What becomes of the log.
#[derive(Debug, Clone, Copy)]
enum Output {
    Unread,
    Closed,
    Full,
}

/// A broker with this output; both streams go there.
async fn start(output: Output, level: &str) -> (Child, std::net::SocketAddr, Option<impl Sized>) {
    let port = Port::free();
    let address = port.address();
    let mut command: Command = program(&[
        ("HOST", "127.0.0.1"),
        ("PORT", &address.port().to_string()),
        ("LOG_LEVEL", level),
    ]);
    let (reader, writer) = std::io::pipe().unwrap();
    let stdio = || match output {
        Output::Full => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
        Output::Unread | Output::Closed => Stdio::from(writer.try_clone().unwrap()),
    };
    command.stdin(Stdio::null()).stdout(stdio()).stderr(stdio());
    let child = command.spawn().unwrap();
    drop(command);
    drop(writer);
    let reader = matches!(output, Output::Unread).then_some(reader);
    eventually("it listens", || std::net::TcpStream::connect(address).is_ok()).await;
    (child, address, reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_takes_nothing_stops_nothing() {
    for output in [Output::Unread, Output::Closed, Output::Full] {
        for level in ["0", "1", "2", "3"] {
            let (mut child, address, reader) = start(output, level).await;
            let mut node = Node::connect(address, "a").await;
            let long = "x".repeat(200);
            // More than any pipe and than the queue behind it take, at the levels that log these.
            let texts: Vec<_> = (0..500)
                .map(|_| format!(r#"4277["SOCKET_MSG_EXCHANGE","{{\"to\":\"{long}\"}}"]"#))
                .collect();
            for _ in 0..20 {
                node.send_all(&texts).await;
                for _ in &texts {
                    assert_eq!(node.text().await, r#"4377["NOT_CONNECTED"]"#);
                }
            }
            for n in 0..20 {
                Node::connect(address, &format!("n{n}")).await;
            }
            let metrics = get(address, "/metrics").await;
            assert!(metrics.contains("crolang_log_lines_dropped_total{"), "{metrics}");
            Command::new("kill").arg(child.id().to_string()).status().unwrap();
            let began = std::time::Instant::now();
            eventually("it ends", || child.try_wait().unwrap().is_some()).await;
            assert_eq!(child.wait().unwrap().code(), Some(0), "{output:?} {level}");
            assert!(began.elapsed() < SOON.min(Duration::from_secs(4)));
            drop(reader);
        }
    }
}
