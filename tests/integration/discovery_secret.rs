//! Secrets of sessions: the offerer sees which answers came with its secret.

use serde_json::{Value, json};

use crate::discovery::offer;
use crate::support::{RedisServer, Web, start_with_variables};

#[tokio::test]
async fn an_answer_with_the_secret_is_verified_and_others_are_not() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    for more in [
        &[("STORAGE_TYPE", "memory")][..],
        &[("STORAGE_TYPE", "sqlite"), ("STORAGE_PATH", file.to_str().unwrap())],
        &[("STORAGE_TYPE", "redis"), ("REDIS_URL", &redis.url())],
    ] {
        let server = start_with_variables(more).await;
        check(Web::open(server.address()).await, Web::open(server.address()).await).await;
        server.shutdown().await;
    }
}

async fn check(mut alice: Web, mut other: Web) {
    let offered = json!({"info": "i", "offer": "o", "secret": true});
    let reply = alice.post("/t/offer", &offered).await.json();
    let (code, secret) = (&reply["code"], reply["secret"].as_str().unwrap());
    assert_eq!((reply.as_object().unwrap().len(), secret.len()), (2, 22));
    let listed = other.get("/t/sessions").await.text;
    assert!(listed.contains(code.as_str().unwrap()) && !listed.contains(secret), "{listed}");
    let poll = json!({"code": code, "side": "offerer"});
    let polled = alice.post("/poll", &poll).await.text;
    assert_eq!(polled, r#"{"answer":null,"answerCandidates":[],"answerVerified":false}"#);
    for (text, given, is_verified) in [
        ("a", json!(null), false),
        ("b", json!(secret), true),
        ("c", json!("AAAAAAAAAAAAAAAAAAAAAA"), false),
        ("d", json!("no secret at all"), false),
        ("e", json!(secret), true),
    ] {
        let answer = json!({"code": code, "side": "answerer", "answer": text, "secret": given});
        let stored = other.post("/answer", &answer).await;
        assert_eq!((stored.status, stored.text.as_str()), (200, r#"{"success":true}"#), "{text}");
        let polled = alice.post("/poll", &poll).await.json();
        let expected = json!({
            "answer": text, "answerCandidates": [], "answerVerified": is_verified
        });
        assert_eq!(polled, expected);
        // The answerer is told nothing of it.
        let polled = other.post("/poll", &json!({"code": code, "side": "answerer"})).await.text;
        assert_eq!(polled, r#"{"offer":"o","offerCandidates":[]}"#);
    }
    // In a session without a secret, one that is given changes nothing.
    let code = Value::from(offer(&mut alice, "t", "o").await);
    let answer = json!({"code": code, "side": "answerer", "answer": "a", "secret": secret});
    other.post("/answer", &answer).await;
    let polled = alice.post("/poll", &json!({"code": code, "side": "offerer"})).await.text;
    assert_eq!(polled, r#"{"answer":"a","answerCandidates":[]}"#);
}
