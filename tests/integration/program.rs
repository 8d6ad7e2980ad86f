//! The program as an operator meets it: arguments, configuration, log, signals, exit codes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{Authority, Hook, Node, Process, SOON, eventually, get, program};

pub fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::from(program(variables));
    command.kill_on_drop(true);
    command
}

/// Runs to the end: exit code, standard output, standard error.
pub async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(SOON, command.output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn wrong_variables_stop_the_start_and_all_are_named() {
    let mut broken =
        command(&[("PORT", "http"), ("LOG_LEVEL", "7"), ("REDIS_URL", "ftp://:hunter2@h/")]);
    let (code, out, err) = run({
        broken.env("MAX_PRESENCE_IDS", "0");
        broken
    })
    .await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for variable in ["PORT: \"http\"", "LOG_LEVEL: \"7\"", "REDIS_URL: ", "MAX_PRESENCE_IDS: \"0\""]
    {
        assert!(err.contains(variable), "{err}");
    }
    assert!(!err.contains("hunter2"));
}

#[tokio::test]
async fn arguments() {
    let with = |argument: &str, variables: &[(&str, &str)]| {
        let mut command = command(variables);
        command.arg(argument);
        run(command)
    };
    let (code, help, _) = with("--help", &[]).await;
    assert_eq!(code, Some(0));
    for variable in crolang_broker::VARIABLES {
        assert!(help.contains(variable.name) && help.contains(variable.about), "{}", variable.name);
    }
    assert_eq!(
        with("--version", &[]).await.1,
        format!("crolang-broker {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(with("--check-config", &[]).await.0, Some(0));
    assert_eq!(with("--check-config", &[("PORT", "x")]).await.0, Some(2));
    assert_eq!(with("--unheard-of", &[]).await.0, Some(2));
    let secret = ("REDIS_URL", "redis://:hunter2@h");
    let (code, settings, _) = with("--print-config", &[("PORT", "81"), secret]).await;
    assert_eq!(code, Some(0));
    for line in
        ["PORT=81 # environment", "REDIS_URL=*** # environment", "LOG_FORMAT=text # default"]
    {
        assert!(settings.lines().any(|it| it == line), "{settings}");
    }
    let (code, _, err) = with("--check-config", &[("MAX_CONNECTION", "5")]).await;
    assert_eq!(code, Some(0));
    assert!(err.contains("did you mean MAX_CONNECTIONS?"), "{err}");
}

#[tokio::test]
async fn the_env_file_is_read_after_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "LOG_LEVEL=9\nPORT=x\n").unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = command(variables);
        command.current_dir(folder.path()).arg("--check-config");
        run(command)
    };
    let (code, _, err) = check(&[("PORT", "0")]).await;
    assert!(code == Some(2) && err.contains("LOG_LEVEL") && !err.contains("PORT"), "{err}");
    assert_eq!(check(&[("PORT", "0"), ("LOG_LEVEL", "")]).await.0, Some(0));
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let (code, _, err) = run(command(&[("HOST", "127.0.0.1"), ("PORT", &port)])).await;
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{err}");
}

#[tokio::test]
async fn all_addresses_are_listened_on_by_default() {
    let process = Process::start(&[]).await;
    assert_eq!(process.address.ip().to_string(), "127.0.0.1");
    let mut command = command(&[("PORT", "0"), ("LOG_FORMAT", "json")]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("\"address\":\"") {
            break rest.split_once('"').unwrap().0.rsplit_once(':').unwrap().1.to_owned();
        }
    };
    for host in ["127.0.0.1", "[::1]"] {
        let address: std::net::SocketAddr = format!("{host}:{port}").parse().unwrap();
        if std::net::TcpListener::bind((address.ip(), 0)).is_ok() {
            assert!(get(address, "/health").await.contains("\"ok\""), "{address}");
        }
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_host_may_be_a_name_and_one_that_shells_set_does_no_harm() {
    for (host, address, is_said) in
        [("localhost", "127.0.0.1", false), ("x86_64-conda-linux-gnu", "[::]", true)]
    {
        let mut command = command(&[("HOST", host), ("PORT", "0"), ("LOG_FORMAT", "json")]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = String::new();
        let listening = loop {
            let line = lines.next_line().await.unwrap().unwrap();
            log += &line;
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                break rest.split_once('"').unwrap().0.to_owned();
            }
        };
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        let address = if has_ipv6 { address } else { address.trim_matches(['[', ':', ']']) };
        assert!(listening.starts_with(address), "{log}");
        assert_eq!(log.contains("HOST cannot be listened on"), is_said, "{log}");
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn as_many_threads_serve_as_are_asked_for() {
    let threads = |process: &Process| {
        let folder = format!("/proc/{}/task", process.pid());
        let names = std::fs::read_dir(folder).unwrap().map(|task| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        });
        names.filter(|name| name.starts_with("tokio-rt-worker")).count()
    };
    for asked in [1, 3] {
        let process = Process::start(&[("WORKER_THREADS", &asked.to_string())]).await;
        Node::connect(process.address, "a").await;
        // A thread has its name a moment after it begins.
        eventually("the threads have begun", || threads(&process) >= asked).await;
        assert_eq!(threads(&process), asked);
    }
}

#[tokio::test]
async fn the_start_says_which_modules_are_on() {
    let modules = async |variables| Process::start(variables).await.logged("modules").unwrap();
    let plain = modules(&[]).await;
    assert_eq!((&plain["signaling"], &plain["relay"]), (&"on".into(), &"on".into()));
    assert_eq!((&plain["webhooks"], &plain["redis"]), (&"off".into(), &"off".into()));
    let some = modules(&[
        ("WEBSOCKET_RELAY_ENABLED", "false"),
        ("NODES_VALIDITY_CHECK_WEBHOOK_URL", "http://127.0.0.1:9/"),
        ("NODES_AUTHENTICATION_WEBHOOK_URL", "http://127.0.0.1:9/"),
    ])
    .await;
    assert_eq!(
        (&some["relay"], &some["webhooks"]),
        (&"off".into(), &"authentication, validity".into())
    );
}

#[tokio::test]
async fn webhooks_are_trusted_by_the_systems_roots() {
    let authority = Authority::new();
    let hook = Hook::start_tls(
        authority.server("127.0.0.1"),
        |_| serde_json::json!({"authenticated": true}),
    )
    .await;
    let url = hook.url("/");
    let webhook = ("NODES_AUTHENTICATION_WEBHOOK_URL", url.as_str());
    let stranger = Process::start(&[webhook]).await;
    let answer = Node::try_connect(stranger.address, "a").await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // The variable by which OpenSSL, and others after it, find the system's roots.
    let roots = authority.file();
    let variables = [webhook, ("SSL_CERT_FILE", roots.path().to_str().unwrap())];
    let friend = Process::start(&variables).await;
    Node::connect(friend.address, "a").await;
}

#[tokio::test]
async fn signals_end_it_in_good_order() {
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        let process = Process::start(&[]).await;
        let mut node = Node::connect(process.address, "a").await;
        let began = Instant::now();
        process.signal(name);
        node.end().await;
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(log.contains(&format!("SIG{name}")) && log.contains("\"stopped\""), "{log}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let process = Process::start(&[("SHUTDOWN_TIMEOUT_MS", "60000")]).await;
    let _bob = Node::connect(process.address, "bob").await;
    let mut alice = Node::connect(process.address, "alice").await;
    let text = format!(r#"{{"to":"bob","s":"{}"}}"#, "x".repeat(100_000));
    while alice.ask("SOCKET_MSG_EXCHANGE", &text).await == "[\"OK\"]" {}
    process.signal("TERM");
    // The first signal has been taken once nobody is let in any more.
    while tokio::net::TcpStream::connect(process.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal("TERM");
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("second signal"), "{log}");
}

#[tokio::test]
async fn levels_show_more_and_more_but_never_contents() {
    for level in ["0", "1", "2", "3"] {
        let process = Process::start(&[("LOG_LEVEL", level)]).await;
        let mut node =
            Node::open(process.address, "&id=alice&version=1&runtime=r&data=canary-data").await;
        node.send("40{\"token\":\"canary-auth\"}").await;
        node.authenticated().await;
        node.ask(
            "SOCKET_MSG_EXCHANGE",
            r#"{"to":"alice","from":"eve","content":"canary-content"}"#,
        )
        .await;
        node.send(
            r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"alice\",\"content\":\"canary-content\"}"]"#,
        )
        .await;
        node.text().await;
        drop(node);
        process.signal("TERM");
        let (_, log) = process.end().await;
        assert!(!log.contains("canary"), "{log}");
        assert_eq!(
            log.contains("node admitted") && log.contains("node left"),
            level != "0",
            "{level}: {log}"
        );
        assert_eq!(log.contains("\"to\":\"alice\""), level >= "2", "{level}: {log}");
    }
}
