//! Whether what discovery answers is right: its status, and its content as far as it can be known.

use serde::Deserialize;
use serde_json::Value;

use super::http::Reply;
use super::site::INFO;
use crate::answer::short;

/// What the answers to one request have to be.
#[derive(Debug)]
pub(super) enum Right {
    /// The code of a new session, which differs from the one before.
    Code {
        /// The one before.
        before: String,
    },
    /// Something that is always the same.
    Known {
        /// What it says.
        content: Content,
        /// The text of the last right answer, which spares reading the same again.
        seen: Vec<u8>,
    },
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Content {
    /// Exactly this, in whatever order of fields.
    Value(Value),
    /// The sessions with these codes, the newest first, all with the same offer.
    Sessions {
        /// Sorted.
        codes: Vec<String>,
        offer: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Session {
    code: String,
    info: String,
    offer: String,
    offer_candidates: Vec<Value>,
    created_at: u64,
    expires_at: u64,
    /// The same as `info`; Rondevu's first version has none.
    peer_id: Option<String>,
}

impl Right {
    /// The code of a new session.
    pub(super) fn code() -> Self {
        Self::Code { before: String::new() }
    }

    /// Exactly this.
    pub(super) fn value(value: Value) -> Self {
        Self::Known { content: Content::Value(value), seen: Vec::new() }
    }

    /// The sessions with these codes.
    pub(super) fn sessions(mut codes: Vec<String>, offer: String) -> Self {
        codes.sort_unstable();
        Self::Known { content: Content::Sessions { codes, offer }, seen: Vec::new() }
    }

    /// Judges an answer. A wrong one has a name, under which it is counted.
    pub(super) fn judge(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        let Reply { status, body, .. } = *reply;
        let is_right = status == 200
            && match self {
                Self::Code { before } => match code(body) {
                    Some(code) if code != before => {
                        code.clone_into(before);
                        true
                    }
                    _ => false,
                },
                Self::Known { seen, .. } if !seen.is_empty() && seen == body => true,
                Self::Known { content, seen } => {
                    let is_right = content.is(body);
                    if is_right {
                        *seen = body.to_vec();
                    }
                    is_right
                }
            };
        if is_right { Ok(()) } else { Err(name(status, body)) }
    }
}

impl Content {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            Self::Value(value) => serde_json::from_slice(body).is_ok_and(|it: Value| it == *value),
            Self::Sessions { codes, offer } => {
                let sessions = serde_json::from_slice::<Sessions>(body);
                sessions.is_ok_and(|it| are(it.sessions, codes, offer))
            }
        }
    }
}

fn are(sessions: Vec<Session>, codes: &[String], offer: &str) -> bool {
    let is_newest_first = sessions.is_sorted_by(|a, b| a.created_at >= b.created_at);
    let is_same = |session: &Session| {
        session.info == INFO
            && session.offer == offer
            && session.offer_candidates.is_empty()
            && session.created_at < session.expires_at
            && session.peer_id.as_ref().is_none_or(|peer_id| *peer_id == session.info)
    };
    let are_same = sessions.iter().all(is_same);
    let mut listed: Vec<_> = sessions.into_iter().map(|session| session.code).collect();
    listed.sort_unstable();
    is_newest_first && are_same && listed == codes
}

/// The code in the answer to an offer, if it is a UUID of version 4 (RFC 9562, 5.4).
pub(super) fn code(body: &[u8]) -> Option<&str> {
    let Code { code } = serde_json::from_slice(body).ok()?;
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        19 => b"89abAB".contains(&byte),
        _ => byte.is_ascii_hexdigit(),
    };
    (code.len() == 36 && code.bytes().enumerate().all(is_right)).then_some(code)
}

/// What a wrong answer is called: its status, and the error's text if there is one.
fn name(status: u16, body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let error = value.as_ref().and_then(|value| value.get("error")?.as_str());
    match error {
        Some(error) => short(&format!("{status} {error}")),
        None if status == 200 => "200 with another content".into(),
        None => short(&format!("{status} {}", String::from_utf8_lossy(body))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CODE: &str = "f3b0a2c4-3f0e-4d59-9a6e-0f6c2f1f7c55";

    fn judge(right: &mut Right, status: u16, body: &Value) -> Result<(), String> {
        let body = body.to_string();
        right.judge(&Reply { status, body: body.as_bytes(), is_last: false })
    }

    #[test]
    fn codes_are_new_and_of_version_4() {
        let mut right = Right::code();
        assert_eq!(judge(&mut right, 200, &json!({"code": CODE})), Ok(()));
        let wrong = Err("200 with another content".to_owned());
        assert_eq!(judge(&mut right, 200, &json!({"code": CODE})), wrong, "the same again");
        let other = CODE.replace("f3", "00");
        for bad in ["", &other[1..], &other.replace("4d", "1d"), &other.replace('-', "0")] {
            assert_eq!(judge(&mut right, 200, &json!({"code": bad})), wrong, "{bad}");
        }
        assert_eq!(judge(&mut right, 200, &json!({"code": other, "more": 1})), wrong);
        let full = json!({"error": "Too many sessions"});
        assert_eq!(judge(&mut right, 429, &full), Err("429 Too many sessions".into()));
        assert_eq!(judge(&mut right, 200, &json!({"code": other})), Ok(()));
    }

    #[test]
    fn known_answers_are_compared_as_values() {
        let mut right = Right::value(json!({"answer": null, "answerCandidates": []}));
        let text =
            |body: &str| Reply { status: 200, body: body.as_bytes(), is_last: false }.body.to_vec();
        for body in
            [r#"{"answerCandidates":[],"answer":null}"#, r#"{"answer":null,"answerCandidates":[]}"#]
        {
            let body = text(body);
            for _ in 0..2 {
                assert_eq!(
                    right.judge(&Reply { status: 200, body: &body, is_last: false }),
                    Ok(())
                );
            }
            let status = right.judge(&Reply { status: 201, body: &body, is_last: false });
            assert!(status.unwrap_err().starts_with("201 {"));
        }
        for other in [json!({"answer": null}), json!({"answer": "", "answerCandidates": []})] {
            assert!(judge(&mut right, 200, &other).is_err());
        }
    }

    #[test]
    fn lists_have_all_sessions_the_newest_first() {
        let session = |code: &str, created: u64| {
            json!({"code": code, "info": INFO, "offer": "o", "offerCandidates": [],
                   "createdAt": created, "expiresAt": created + 1})
        };
        let mut right = Right::sessions(vec!["b".into(), "a".into()], "o".into());
        let mut judge = |sessions: Value| judge(&mut right, 200, &json!({ "sessions": sessions }));
        assert_eq!(judge(json!([session("a", 2), session("b", 1)])), Ok(()));
        assert_eq!(judge(json!([session("b", 2), session("a", 2)])), Ok(()));
        let mut other_offer = session("b", 1);
        other_offer["offer"] = "p".into();
        for wrong in [
            json!([]),
            json!([session("a", 2)]),
            json!([session("a", 1), session("b", 2)]),
            json!([session("a", 2), session("c", 1)]),
            json!([session("a", 2), other_offer]),
        ] {
            assert!(judge(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
