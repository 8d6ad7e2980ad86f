//! Conversion of what scripts return to sessions. A value that does not fit is
//! [`StoreError::Corrupt`]: another program has written it.

use redis::Value;

use super::super::StoreError;
use crate::model::{
    Answer, Code, JsonText, SecretHash, Session, Timestamp, Topic, TopicCount, Topics,
};

/// Parses the result of a change.
pub(super) fn done(value: &Value) -> Result<(), StoreError> {
    let Value::BulkString(outcome) = value else { return Err(StoreError::Corrupt) };
    Err(match outcome.as_slice() {
        b"done" => return Ok(()),
        b"not_found" => StoreError::NotFound,
        b"code_taken" => StoreError::CodeTaken,
        b"too_many_sessions" => StoreError::TooManySessions,
        b"too_many_of_origin" => StoreError::TooManyOfOrigin,
        b"too_many_candidates" => StoreError::TooManyCandidates,
        b"session_too_large" => StoreError::SessionTooLarge,
        b"too_many_bytes" => StoreError::TooManyBytes,
        _ => StoreError::Corrupt,
    })
}

/// Parses how many sessions were removed, and how many remain.
pub(super) fn cleaned_up(value: Value) -> Result<(usize, usize), StoreError> {
    let [removed, remaining] = pair(value)?;
    Ok((number(&removed)?, number(&remaining)?))
}

pub(super) fn topics(value: Value) -> Result<Topics, StoreError> {
    let [total, page] = pair(value)?;
    let topics = pairs(page)?.map(|(topic, count)| {
        let topic = Topic::stored(text(topic)?);
        Ok(TopicCount { topic, count: number(&count)? })
    });
    Ok(Topics { topics: topics.collect::<Result<_, StoreError>>()?, total: number(&total)? })
}

pub(super) fn sessions(value: Value) -> Result<Vec<Session>, StoreError> {
    let sessions = pairs(value)?.map(|(code, values)| {
        let code = Code::parse(&text(code)?).ok_or(StoreError::Corrupt)?;
        listed_session(code, values)
    });
    sessions.collect()
}

/// Parses a session as lists have it.
fn listed_session(code: Code, values: Value) -> Result<Session, StoreError> {
    let mut values = list(values)?.into_iter();
    let mut next = || values.next().ok_or(StoreError::Corrupt);
    Ok(Session {
        code,
        info: json(next()?)?,
        offer: json(next()?)?,
        secret: None,
        answer: None,
        answers: 0,
        answer_candidates: Vec::new(),
        created_at: Timestamp(number(&next()?)?),
        expires_at: Timestamp(number(&next()?)?),
        offer_candidates: values.map(json).collect::<Result<_, _>>()?,
    })
}

/// Parses a session from its fields, which are in no order.
pub(super) fn session(code: Code, fields: Value) -> Result<Session, StoreError> {
    let (mut info, mut offer, mut answer) = (None, None, None);
    let (mut created_at, mut expires_at, mut answers) = (None, None, None);
    let (mut secret, mut answer_secret) = (None, None);
    let (mut offer_candidates, mut answer_candidates) = (Vec::new(), Vec::new());
    for (name, value) in pairs(fields)? {
        match text(name)?.as_str() {
            "info" => info = Some(json(value)?),
            "offer" => offer = Some(json(value)?),
            "answer" => answer = Some(json(value)?),
            "secret" => secret = Some(secret_hash(&bytes(value)?)?),
            "answer_secret" => answer_secret = Some(numbered_hash(&bytes(value)?)?),
            "answers" => answers = Some(number(&value)?),
            "created" => created_at = Some(Timestamp(number(&value)?)),
            "expires" => expires_at = Some(Timestamp(number(&value)?)),
            name => match name.split_once(':') {
                Some(("offerer", number)) => offer_candidates.push(candidate(number, value)?),
                Some(("answerer", number)) => answer_candidates.push(candidate(number, value)?),
                _ => {}
            },
        }
    }
    let answers = answers.ok_or(StoreError::Corrupt)?;
    let answer_secret =
        answer_secret.filter(|(number, _)| *number == answers).map(|(_, hash)| hash);
    Ok(Session {
        code,
        info: info.ok_or(StoreError::Corrupt)?,
        offer: offer.ok_or(StoreError::Corrupt)?,
        secret,
        answer: answer.map(|text| Answer { text, secret: answer_secret }),
        answers,
        offer_candidates: in_order(offer_candidates),
        answer_candidates: in_order(answer_candidates),
        created_at: created_at.ok_or(StoreError::Corrupt)?,
        expires_at: expires_at.ok_or(StoreError::Corrupt)?,
    })
}

fn secret_hash(bytes: &[u8]) -> Result<SecretHash, StoreError> {
    SecretHash::stored(bytes).ok_or(StoreError::Corrupt)
}

/// Parses the number of an answer and the hash of the secret that came with it.
fn numbered_hash(bytes: &[u8]) -> Result<(u32, SecretHash), StoreError> {
    let colon = bytes.iter().position(|byte| *byte == b':').ok_or(StoreError::Corrupt)?;
    let (number, hash) = bytes.split_at(colon);
    let number = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
    Ok((number.ok_or(StoreError::Corrupt)?, secret_hash(&hash[1..])?))
}

fn candidate(number: &str, value: Value) -> Result<(u32, JsonText), StoreError> {
    Ok((number.parse().map_err(|_| StoreError::Corrupt)?, json(value)?))
}

fn in_order(mut candidates: Vec<(u32, JsonText)>) -> Vec<JsonText> {
    candidates.sort_unstable_by_key(|(number, _)| *number);
    candidates.into_iter().map(|(_, candidate)| candidate).collect()
}

fn pair(value: Value) -> Result<[Value; 2], StoreError> {
    list(value)?.try_into().map_err(|_| StoreError::Corrupt)
}

fn pairs(value: Value) -> Result<impl Iterator<Item = (Value, Value)>, StoreError> {
    let list = list(value)?;
    if list.len() % 2 != 0 {
        return Err(StoreError::Corrupt);
    }
    let mut list = list.into_iter();
    Ok(std::iter::from_fn(move || Some((list.next()?, list.next()?))))
}

fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(StoreError::Corrupt),
    }
}

fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| StoreError::Corrupt)
}

fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(StoreError::Corrupt),
    }
}

fn json(value: Value) -> Result<JsonText, StoreError> {
    JsonText::from_json(text(value)?).ok_or(StoreError::Corrupt)
}

/// Parses a number, which may be a text, as in hashes.
fn number<T: TryFrom<u64>>(value: &Value) -> Result<T, StoreError> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or(StoreError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn values_of_other_programs_are_corrupt_and_never_panic() {
        let code = Code::random();
        let whole = [
            ("info", r#""i""#),
            ("offer", r#""o""#),
            ("answers", "0"),
            ("created", "1"),
            ("expires", "2"),
            ("answerer:10", r#""c""#),
            ("answerer:9", r#""b""#),
            ("later", "x"),
            ("secret", "00000000000000000000000000000000"),
            ("answer_secret", "1:00000000000000000000000000000000"),
        ];
        let fields = |changed: &[(&str, &str)]| {
            let value = |name: &str, value: &str| {
                let change = changed.iter().find(|(changed, _)| *changed == name);
                bulk(change.map_or(value, |(_, value)| value))
            };
            Value::Array(
                whole.iter().flat_map(|(name, it)| [bulk(name), value(name, it)]).collect(),
            )
        };
        let candidates: Vec<_> = session(code, fields(&[])).unwrap().answer_candidates;
        assert_eq!(
            candidates.iter().map(JsonText::as_json).collect::<Vec<_>>(),
            [r#""b""#, r#""c""#]
        );
        for change in [
            ("info", "no JSON"),
            ("offer", r#""""#),
            ("answers", "-1"),
            ("expires", "1e3"),
            ("answers", "4294967296"),
            ("secret", "too short"),
            ("answer_secret", "1"),
            ("answer_secret", "x:00000000000000000000000000000000"),
            ("answer_secret", "1:too short"),
        ] {
            assert_eq!(session(code, fields(&[change])), Err(StoreError::Corrupt), "{change:?}");
        }
        for value in [
            Value::Nil,
            bulk("x"),
            Value::Array(vec![bulk("x")]),
            Value::Array(vec![bulk("x"), Value::Nil]),
            Value::Array(vec![Value::Int(-1), Value::Array(vec![])]),
        ] {
            assert_eq!(sessions(value.clone()), Err(StoreError::Corrupt), "{value:?}");
            assert_eq!(session(code, value.clone()), Err(StoreError::Corrupt), "{value:?}");
            assert_eq!(topics(value.clone()), Err(StoreError::Corrupt), "{value:?}");
            assert_eq!(cleaned_up(value.clone()), Err(StoreError::Corrupt), "{value:?}");
            assert_eq!(done(&value), Err(StoreError::Corrupt), "{value:?}");
        }
    }
}
