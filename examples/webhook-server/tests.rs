//! The hooks as the broker sees them: requests in, answers out.

use std::env::VarError;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower_service::Service;

use crate::routes;
use crate::settings::Settings;

fn server(variables: &[(&str, &str)]) -> Router {
    let find = |name: &str| variables.iter().find(|variable| variable.0 == name);
    let source = |name: &str| find(name).map(|v| v.1.to_owned()).ok_or(VarError::NotPresent);
    routes(Settings::read(source).unwrap())
}

/// What the server answers; null where there is no JSON in it.
async fn post(server: &Router, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = server.clone().call(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1024 * 1024).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn ask(server: &Router, path: &str, body: Value) -> Value {
    let (status, answer) = post(server, path, &body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    answer
}

#[tokio::test]
async fn authentication() {
    let server = server(&[("TOKENS", "alice=north,mallory=east"), ("BANNED", "mallory")]);
    for (node, token, authenticated) in
        [("alice", "north", true), ("alice", "south", false), ("mallory", "east", false)]
    {
        let data = json!({"token": token});
        for data in [data.clone(), data.to_string().into()] {
            let body = json!({"id": node, "nodeId": node, "data": data});
            let answer = ask(&server, "/authentication", body).await;
            assert_eq!(answer, json!({"authenticated": authenticated}), "{node} {data}");
        }
    }
    let body = json!({"id": "alice", "nodeId": "alice"});
    assert_eq!(ask(&server, "/authentication", body).await, json!({"authenticated": false}));
}

#[tokio::test]
async fn authorization() {
    let server = server(&[("PAIRS", "alice>bob")]);
    for (from, to, authorized) in [("alice", "bob", true), ("bob", "alice", false)] {
        let answer = ask(&server, "/authorization", json!({"from": from, "to": to})).await;
        assert_eq!(answer, json!({"authorized": authorized}));
    }
}

#[tokio::test]
async fn a_ban_counts_until_it_is_lifted() {
    let server = server(&[("BANNED", "mallory")]);
    let invalid = async || {
        let nodes = json!({"connectedNodesIds": ["trudy", "alice", "mallory"]});
        let mut answer = ask(&server, "/validity", nodes).await;
        answer["invalidNodesIds"].take()
    };
    assert_eq!(invalid().await, json!(["mallory"]));

    let banned = ask(&server, "/ban", json!({"id": "trudy"})).await;
    assert_eq!(banned, json!({"banned": ["mallory", "trudy"]}));
    assert_eq!(invalid().await, json!(["trudy", "mallory"]));
    let newcomer = ask(&server, "/authentication", json!({"id": "trudy"})).await;
    assert_eq!(newcomer, json!({"authenticated": false}));

    ask(&server, "/unban", json!({"id": "mallory"})).await;
    assert_eq!(invalid().await, json!(["trudy"]));
}

#[tokio::test]
async fn rtc_configuration() {
    let server = server(&[("TURN_URLS", "turn:b"), ("TURN_SECRET", "north")]);
    let answer = ask(&server, "/rtc-configuration", json!({"nodeId": "alice"})).await;
    let turn = &answer["rtcConfiguration"]["iceServers"][0];
    assert_eq!(turn["urls"], json!(["turn:b"]));
    assert!(turn["username"].as_str().unwrap().ends_with(":alice"));
}

#[tokio::test]
async fn socket_message() {
    let message = r#"{"senderId":"alice","receiverId":"bob","isReceiverConnected":true}"#;
    let (status, _) = post(&server(&[]), "/socket-message", message).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_no_no() {
    for path in ["/authentication", "/authorization", "/validity", "/rtc-configuration"] {
        for body in ["", "{}", "[]", "null", "{"] {
            let (status, _) = post(&server(&[]), path, body).await;
            assert!(status.is_client_error(), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn with_a_secret_nothing_is_answered_unsigned() {
    let server = server(&[("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    for path in ["/authentication", "/validity", "/ban", "/nowhere"] {
        let (status, answer) = post(&server, path, r#"{"id":"alice"}"#).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer, json!({"error": "webhook-id is missing"}));
    }
}
