//! The webhooks of which one hangs, beside a broker that asks them.

use std::process::Command;

use serde_json::Value;

use crate::broker::{broker_of, number, well_with};
use crate::program::Listening;

/// The hooks by their paths, and the broker's variables for them.
const HOOKS: [(&str, &str); 5] = [
    ("authentication", "NODES_AUTHENTICATION_WEBHOOK_URL"),
    ("authorization", "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL"),
    ("validity", "NODES_VALIDITY_CHECK_WEBHOOK_URL"),
    ("rtc-configuration", "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL"),
    ("socket-message", "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL"),
];

/// A run beside strangers with this hook hanging: its report, and the calls of each hook.
async fn run(hangs: &str) -> (Value, Value) {
    let hooks = Listening::start(Command::new(env!("CARGO_BIN_EXE_hooks")).env("HANG", hangs));
    let urls = HOOKS.map(|(path, _)| format!("http://{}/{path}", hooks.address));
    let mut variables: Vec<_> =
        HOOKS.iter().zip(&urls).map(|((_, name), url)| (*name, url.as_str())).collect();
    variables.extend([
        ("AUTHORIZATION_CACHE_TTL_MS", "60000"),
        ("NODES_STATUS_CHECK_INTERVAL_MS", "100"),
        ("WEBHOOK_TIMEOUT_MS", "300"),
    ]);
    let broker = broker_of(&variables).await;
    let arguments = "relay --pairs 2 --rate 50 --strangers 50 --seconds 1 --warmup 0.5";
    let json = well_with(broker.address(), arguments).await;
    let calls = hooks.stop();
    (json, serde_json::from_str(&calls).unwrap_or_else(|_| panic!("{calls}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_is_named_hangs_and_the_pairs_do_not_mind() {
    for (hangs, outcome) in [
        ("", "stranger: NOT_CONNECTED"),
        ("authentication", "stranger: 503 "),
        ("authorization", "stranger: ERROR"),
        ("validity", "stranger: NOT_CONNECTED"),
        ("rtc-configuration", "stranger: NOT_CONNECTED"),
        ("socket-message", "stranger: NOT_CONNECTED"),
    ] {
        let (json, calls) = run(hangs).await;
        let outcomes = json["outcomes"].as_object().unwrap();
        assert!(number(&json, "/outcomes/strangers") > 50.0, "{json}");
        let mut names = outcomes.keys().filter(|name| name.starts_with("stranger: "));
        assert!(names.all(|name| name.starts_with(outcome)), "{hangs}: {json}");
        assert!(outcomes.keys().any(|name| name.starts_with(outcome)), "{hangs}: {json}");
        for (hook, _) in HOOKS {
            let count = |what| calls[hook][what].as_u64().unwrap_or_default();
            assert_eq!(count("hung") > 0, hook == hangs, "{hook}: {calls}");
            // The pairs were let in and allowed to send.
            let is_asked_by_pairs = !matches!(hook, "validity" | "socket-message");
            assert!(count("answered") > 0 || !is_asked_by_pairs, "{hook}: {calls}");
            // Nothing of what is answered is refused: else strangers would not ask any more.
            let is_asked_by_strangers = hangs.is_empty() && hook != "validity";
            assert!(count("answered") > 50 || !is_asked_by_strangers, "{hook}: {calls}");
        }
    }
}
