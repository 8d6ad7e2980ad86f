//! Requests to one server, ready to be sent.

use serde_json::{Value, json};

/// What all requests of a run have in common.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// `host:port`.
    pub(super) host: String,
    /// The path that all endpoints are below; it has no slash at its end.
    pub(super) path: String,
    /// What topics and the origin begin with. The origin is the run's own, so that its lists have
    /// nothing of others.
    pub(super) prefix: String,
}

/// What every session says of itself.
pub(super) const INFO: &str = "load";

/// A candidate, as browsers write them.
pub(super) const CANDIDATE: &str = r#"{"candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 54321 typ srflx raddr 0.0.0.0 rport 0 generation 0","sdpMid":"0","sdpMLineIndex":0}"#;

/// A text of this many bytes: an offer, or an answer.
pub(super) fn description(bytes: u64) -> String {
    "x".repeat(bytes as usize)
}

impl Site {
    /// The name of the topic with this number.
    pub(super) fn topic(&self, number: usize) -> String {
        format!("{}-t{number:06}", self.prefix)
    }

    /// Makes a session.
    pub(super) fn offer(&self, topic: &str, offer: &str) -> Vec<u8> {
        self.post(&format!("/{topic}/offer"), &json!({"info": INFO, "offer": offer}))
    }

    /// Answers a session.
    pub(super) fn answer(&self, code: &str, answer: &str) -> Vec<u8> {
        self.post("/answer", &json!({"code": code, "side": "answerer", "answer": answer}))
    }

    /// Adds a candidate of this side.
    pub(super) fn candidate(&self, code: &str, side: &str) -> Vec<u8> {
        self.post("/answer", &json!({"code": code, "side": side, "candidate": CANDIDATE}))
    }

    /// Asks for what the offerer gets.
    pub(super) fn poll(&self, code: &str) -> Vec<u8> {
        self.post("/poll", &json!({"code": code, "side": "offerer"}))
    }

    /// Asks for the sessions of a topic.
    pub(super) fn list(&self, topic: &str) -> Vec<u8> {
        self.request("GET", &format!("/{topic}/sessions"), "")
    }

    /// Asks for the first topics.
    pub(super) fn topics(&self, limit: usize) -> Vec<u8> {
        self.request("GET", &format!("/?page=1&limit={limit}"), "")
    }

    fn post(&self, path: &str, body: &Value) -> Vec<u8> {
        self.request("POST", path, &body.to_string())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let Self { host, path: base, prefix } = self;
        let about_body = match method {
            "POST" => {
                format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
            }
            _ => String::new(),
        };
        format!(
            "{method} {base}{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{prefix}\r\n\
             {about_body}\r\n{body}"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(path: &str) -> Site {
        Site { host: "h:1".into(), path: path.into(), prefix: "p".into() }
    }

    fn text(request: Vec<u8>) -> String {
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn requests_are_what_clients_send() {
        assert_eq!(
            text(site("").list("a")),
            "GET /a/sessions HTTP/1.1\r\nHost: h:1\r\nOrigin: http://p\r\n\r\n"
        );
        let answer = text(site("/x/y").answer("c", "a"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head,
            "POST /x/y/answer HTTP/1.1\r\nHost: h:1\r\nOrigin: http://p\r\n\
             Content-Type: application/json\r\nContent-Length: 43"
        );
        let fields = json!({"code": "c", "side": "answerer", "answer": "a"});
        assert_eq!((body.len(), serde_json::from_str(body).ok()), (43, Some(fields)));
        assert!(text(site("").topics(100)).starts_with("GET /?page=1&limit=100 HTTP/1.1\r\n"));
    }

    #[test]
    fn topics_are_in_the_order_of_their_numbers() {
        let names: Vec<_> = [0, 9, 10, 999].map(|number| site("").topic(number)).into();
        assert!(names.is_sorted());
    }
}
