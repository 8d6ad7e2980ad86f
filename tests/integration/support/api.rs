//! A client of the server API.

use std::net::SocketAddr;

use serde_json::Value;

use super::Web;
use super::web::Answer;

/// A token that may change things, and one that may only read.
pub const TOKEN: &str = "0123456789abcdef-write";
pub const READ_TOKEN: &str = "0123456789abcdef-read";

/// What switches the API on.
pub const API: [(&str, &str); 3] =
    [("API_TOKEN", TOKEN), ("API_READ_TOKEN", READ_TOKEN), ("API_SENDER_ID", "operator")];

/// Sends a request with a token on a connection of its own.
pub async fn request(
    address: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    let mut headers = format!("Authorization: Bearer {token}\r\n");
    if !body.is_empty() {
        headers += "Content-Type: application/json\r\n";
    }
    let target = format!("/api/v1{path}");
    Web::open(address).await.ask(method, &target, &headers, body).await
}

/// What a GET with the token that may only read gives.
pub async fn api_get(address: SocketAddr, path: &str) -> Value {
    let answer = request(address, READ_TOKEN, "GET", path, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What a POST gives.
pub async fn api_post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    request(address, TOKEN, "POST", path, &body.to_string()).await
}

/// The texts at one key of each entry of a list.
pub fn column<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap()).collect()
}
