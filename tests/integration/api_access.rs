//! Who may use the server API, and what it answers to requests that it does not do.

use serde_json::{Value, json};

use crate::support::{
    API, Node, Process, READ_TOKEN, TOKEN, Web, api_get, get, metric, request, start,
    start_with_variables,
};

/// The code of a problem document.
fn code(body: &Value) -> &str {
    for (key, is_text) in [("type", true), ("title", true), ("detail", true), ("status", false)] {
        assert_eq!(body[key].is_string(), is_text, "{body}");
    }
    body["code"].as_str().unwrap()
}

#[tokio::test]
async fn there_is_none_without_a_token() {
    let server = start().await;
    for path in ["nodes", "openapi.json"] {
        let answer = get(server.address(), &format!("/api/v1/{path}")).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}

#[tokio::test]
async fn each_token_has_its_rights() {
    let server = start_with_variables(&API).await;
    let address = server.address();
    let _node = Node::connect_settled(address, "alice").await;
    for (method, path, token, expected) in [
        ("GET", "/nodes", READ_TOKEN, (200, "")),
        ("GET", "/nodes", TOKEN, (200, "")),
        ("GET", "/nodes", "0123456789abcdef", (401, "unauthorized")),
        ("GET", "/nodes", "", (401, "unauthorized")),
        ("DELETE", "/nodes/alice", READ_TOKEN, (403, "read_only_token")),
        ("POST", "/messages", READ_TOKEN, (403, "read_only_token")),
        ("POST", "/drain", READ_TOKEN, (403, "read_only_token")),
        ("GET", "/nothing", TOKEN, (404, "not_found")),
        ("GET", "/nothing", "", (401, "unauthorized")),
        ("PUT", "/nodes", TOKEN, (405, "method_not_allowed")),
    ] {
        let answer = request(address, token, method, path, "").await;
        assert_eq!(answer.status, expected.0, "{method} {path}: {answer:?}");
        if answer.status != 200 {
            assert_eq!(code(&answer.json()), expected.1);
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        if answer.status == 405 {
            assert!(answer.header("allow").contains("GET"), "{answer:?}");
        }
    }
    assert_eq!(metric(&server, "crolang_api_requests_total{outcome=\"unauthorized\"}"), 3.0);
    assert_eq!(api_get(address, "/nodes").await["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_guesses_tokens_is_not_listened_to() {
    let variables = [&API[..], &[("API_MAX_FAILURES_PER_MINUTE", "3")]].concat();
    let server = start_with_variables(&variables).await;
    for _ in 0..3 {
        let answer = request(server.address(), "0123456789abcdef", "GET", "/nodes", "").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    // Not even with the right one.
    let answer = request(server.address(), TOKEN, "GET", "/nodes", "").await;
    assert_eq!((answer.status, code(&answer.json())), (429, "too_many_failures"));
    assert_eq!(answer.header("retry-after"), "60");
}

#[tokio::test]
async fn what_is_not_understood_as_a_whole_is_not_done() {
    let server = start_with_variables(&API).await;
    let mut alice = Node::connect_settled(server.address(), "alice").await;
    let message = |more: &str| format!(r#"{{"to":"alice","channel":"c","content":"x"{more}}}"#);
    let too_many = json!({"to": vec!["a"; 1001], "channel": "c", "content": "x"});
    let too_long = json!({"to": "alice", "channel": "c", "content": "x".repeat(65_537)});
    let long = format!(r#","reason":"{}""#, "x".repeat(300_000));
    for (method, path, body, status) in [
        ("GET", "/nodes?limit=0", String::new(), 400),
        ("GET", "/nodes?limit=1001", String::new(), 400),
        ("GET", "/nodes?limit=1&limit=1", String::new(), 400),
        ("GET", "/nodes?cursor=%25", String::new(), 400),
        ("GET", "/nodes?sort=id", String::new(), 400),
        ("GET", "/nodes?replica=x", String::new(), 404),
        ("GET", "/nodes?replica=00000000000000000000000000000000", String::new(), 404),
        ("GET", "/nodes/%20", String::new(), 404),
        ("GET", "/nodes/bob", String::new(), 404),
        ("DELETE", "/nodes/alice?force=1", String::new(), 400),
        ("DELETE", "/nodes/bob", String::new(), 404),
        ("POST", "/drain?now=1", String::new(), 400),
        ("POST", "/messages?x=1", message(""), 400),
        ("POST", "/messages", message(r#","priority":1"#), 400),
        ("POST", "/messages", message(&long), 413),
        ("POST", "/messages", "{".into(), 400),
        ("POST", "/messages", json!({"to": [], "channel": "c", "content": "x"}).to_string(), 400),
        ("POST", "/messages", too_many.to_string(), 400),
        ("POST", "/messages", too_long.to_string(), 400),
        ("POST", "/messages", String::new(), 415),
        ("POST", "/bans", json!({"seconds": 1}).to_string(), 400),
        ("POST", "/bans", json!({"node": "bob", "address": "::1", "seconds": 1}).to_string(), 400),
        ("POST", "/bans", json!({"node": "bob", "seconds": 0}).to_string(), 400),
        ("POST", "/bans", json!({"node": "", "seconds": 1}).to_string(), 400),
        ("POST", "/bans", json!({"address": "127.0.0.1/33", "seconds": 1}).to_string(), 400),
        ("POST", "/bans", json!({"node": "bob", "seconds": 1, "hours": 1}).to_string(), 400),
        ("DELETE", "/bans/bob", String::new(), 400),
        ("DELETE", "/bans/node:bob", String::new(), 404),
    ] {
        let answer = request(server.address(), TOKEN, method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        code(&answer.json());
    }
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"NOT_CONNECTED\"]");
}

#[tokio::test]
async fn it_can_have_a_listener_of_its_own() {
    let variables = [&API[..], &[("API_ADDR", "127.0.0.1:0")]].concat();
    let server = start_with_variables(&variables).await;
    let own = server.api_address().unwrap();
    assert_eq!(api_get(own, "/nodes").await["nodes"], json!([]));
    let elsewhere = request(server.address(), TOKEN, "GET", "/nodes", "").await;
    assert_eq!(elsewhere.status, 404);
    assert!(get(own, "/metrics").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let variables = [&API[..], &[("WEBHOOK_SECRET", "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0")]];
    let server = start_with_variables(&variables.concat()).await;
    let config = api_get(server.address(), "/config").await;
    let text = config.to_string();
    assert!(!text.contains("c2VjcmV0") && !text.contains(TOKEN), "{text}");
    let shown =
        |name: &str| config.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(
        *shown("API_TOKEN"),
        json!({"name": "API_TOKEN", "value": "***", "origin": "environment"})
    );
    assert_eq!(
        *shown("MAX_DATA_BYTES"),
        json!({"name": "MAX_DATA_BYTES", "value": "32768", "origin": "default"})
    );
}

#[tokio::test]
async fn changes_are_logged_with_who_did_them() {
    let process = Process::start(&[&API[..], &[("LOG_LEVEL", "0")]].concat()).await;
    let mut alice = Node::connect_settled(process.address, "alice").await;
    let answer =
        request(process.address, TOKEN, "DELETE", "/nodes/alice?reason=too%20loud", "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(alice.text().await, "41");
    alice.end().await;
    let answer = request(process.address, TOKEN, "POST", "/drain?reason=upgrade", "").await;
    assert_eq!(answer.status, 202);
    // The process ends.
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    let audit: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["target"] == "audit")
        .collect();
    let done: Vec<_> = audit
        .iter()
        .map(|it| ["token", "action", "on", "reason"].map(|field| &it["fields"][field]))
        .collect();
    let expected = [
        [json!("write-1"), json!("disconnect"), json!("alice"), json!("too loud")],
        [json!("write-1"), json!("drain"), json!(""), json!("upgrade")],
    ];
    assert_eq!(done, expected.each_ref().map(|line| line.each_ref()), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

#[tokio::test]
async fn the_description_names_every_endpoint() {
    let variables = [&API[..], &[("API_MAX_FAILURES_PER_MINUTE", "100")]].concat();
    let server = start_with_variables(&variables).await;
    let mut web = Web::open(server.address()).await;
    let description = web.get("/api/v1/openapi.json").await.json();
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/bans",
            "/bans/{name}",
            "/config",
            "/drain",
            "/events",
            "/messages",
            "/metrics",
            "/nodes",
            "/nodes/{id}",
            "/status"
        ]
    );
    for path in paths {
        for method in description["paths"][path].as_object().unwrap().keys() {
            let path = path.replace("{id}", "x").replace("{name}", "x");
            // Without a token: an endpoint that is not there would not ask for one.
            let answer = request(server.address(), "", &method.to_uppercase(), &path, "").await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
}
