//! The commands of the program that use the server API.

use std::process::Output;

use crate::support::{API, Node, Process, READ_TOKEN, TOKEN, program};

/// A server, and what its commands need to find it.
struct Broker {
    process: Process,
    port: String,
}

impl Broker {
    async fn start() -> Self {
        let process = Process::start(&API).await;
        let port = process.address.port().to_string();
        Self { process, port }
    }

    /// Runs a command with the server's own variables.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let variables = [&API[..], &[("PORT", &self.port)]].concat();
        run(&variables, arguments).await
    }
}

/// Runs the program. Returns its exit code, and what it has written.
async fn run(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let mut command = program(variables);
    command.args(arguments);
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = ended;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[tokio::test]
async fn nodes_are_listed_messaged_and_disconnected() {
    let broker = Broker::start().await;
    let address = broker.process.address;
    let mut alice = Node::connect_settled(address, "alice").await;
    let _bob = Node::connect_settled(address, "bob%20smith").await;
    let (code, table, _) = broker.run(&["nodes"]).await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{table}");
    assert!(lines[0].starts_with("ID         REPLICA   CONNECTED  ADDRESS"), "{table}");
    assert!(lines[1].starts_with("alice      ") && lines[1].contains("127.0.0.1"), "{table}");
    let (code, table, _) = broker.run(&["nodes", "bob smith"]).await;
    assert_eq!((code, table.lines().count()), (0, 2), "{table}");
    let (code, json, _) = broker.run(&["nodes", "--search", "ali", "--json"]).await;
    let page: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &page["nodes"][0]["id"]), (0, &"alice".into()));

    let send = ["send", "alice", "carol", "--channel", "news", "--content", "hi"];
    let (code, table, _) = broker.run(&send).await;
    assert_eq!((code, table.as_str()), (1, "ID     ACK\nalice  OK\ncarol  NOT_CONNECTED\n"));
    assert!(alice.text().await.contains("hi"));
    let (code, table, _) = broker.run(&["send", "*", "--channel", "c", "--content", "x"]).await;
    assert_eq!((code, table.as_str()), (0, "OK  NOT_CONNECTED  ERROR\n2   0              0\n"));
    alice.text().await;

    let (code, out, _) = broker.run(&["kick", "alice", "--reason", "test"]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert_eq!(alice.text().await, "41");
    let (code, _, error) = broker.run(&["kick", "alice"]).await;
    let expected = "crolang-broker: not_connected: no node with this ID is connected\n";
    assert_eq!((code, error.as_str()), (1, expected));
}

#[tokio::test]
async fn bans_are_set_listed_and_lifted() {
    let broker = Broker::start().await;
    let ban = ["ban", "node:alice", "--for", "2h", "--reason", "spam"];
    let (code, table, _) = broker.run(&ban).await;
    let expected = "NAME        REMAINING  REASON\nnode:alice  ";
    assert!(code == 0 && table.starts_with(expected), "{table}");
    let refused = Node::try_connect(broker.process.address, "alice").await.err().unwrap();
    assert!(refused.contains("authentication failed"), "{refused}");
    let (code, _, _) = broker.run(&["ban", "address:10.0.0.0/8", "--for", "1d"]).await;
    assert_eq!(code, 0);
    let (code, table, _) = broker.run(&["bans"]).await;
    let names: Vec<_> = table.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((code, names), (0, vec!["NAME", "address:10.0.0.0/8", "node:alice"]));
    for name in ["node:alice", "address:10.0.0.0/8"] {
        assert_eq!(broker.run(&["unban", name]).await.0, 0);
    }
    Node::connect_settled(broker.process.address, "alice").await;
}

#[tokio::test]
async fn the_state_and_the_configuration_are_shown_and_the_process_ends() {
    let broker = Broker::start().await;
    let (code, table, _) = broker.run(&["status"]).await;
    assert!(code == 0 && table.contains("STATUS") && table.contains("ready"), "{table}");
    let (code, settings, _) = broker.run(&["config"]).await;
    assert!(code == 0 && settings.contains("API_TOKEN=*** # environment\n"), "{settings}");
    let (code, _, _) = broker.run(&["drain", "--reason", "test"]).await;
    assert_eq!(code, 0);
    let (code, log) = broker.process.end().await;
    assert!(code == Some(0) && log.contains("drain request"), "{log}");
}

#[tokio::test]
async fn what_is_not_done_has_its_exit_code() {
    let broker = Broker::start().await;
    let url = format!("http://{}", broker.process.address);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (read, write, wrong) =
        (file("r", READ_TOKEN), file("w", TOKEN), file("x", "0123456789abcdef"));
    for (arguments, code, error) in [
        (&["nodes", "--url", &url, "--token-file", &read][..], 0, ""),
        (&["nodes", "--url", &url, "--token-file", &write], 0, ""),
        (&["kick", "a", "--url", &url, "--token-file", &read], 1, "read_only_token"),
        (&["nodes", "--url", &url, "--token-file", &wrong], 1, "unauthorized"),
        (&["nodes", "--url", "http://127.0.0.1:1", "--token-file", &read], 1, "refused"),
        (&["nodes", "--url", &url], 2, "there is no token"),
        (&["nodes", "--url", &url, "--token-file", "/nowhere"], 2, "/nowhere"),
        (&["nodes", "--url", "ftp://x"], 2, "not an http or https URL"),
        (&["ban", "alice", "--for", "1h", "--url", &url, "--token-file", &write], 2, "node:<ID>"),
        (&["ban", "node:a", "--for", "1", "--url", &url, "--token-file", &write], 2, "90s"),
    ] {
        let (got, _, stderr) = run(&[], arguments).await;
        assert_eq!(got, code, "{arguments:?}: {stderr}");
        assert!(stderr.contains(error), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&[], &["completions", shell]).await;
        assert!(code == 0 && script.contains("token-file") && script.contains("unban"), "{shell}");
    }
    let (code, _, _) = run(&[], &["completions", "dos"]).await;
    assert_eq!(code, 2);
}
