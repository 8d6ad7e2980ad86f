//! Whether an ack is the right one.

use serde_json::Value;

/// The longest name that a wrong ack or answer is counted under, in bytes.
const MAX_NAME_BYTES: usize = 40;

/// What the acks of a sender have to be.
#[derive(Debug)]
pub enum Answer {
    /// `["OK"]`: the message was handed over.
    Ok,
    /// The truth about the nodes that were asked about.
    Results(Results),
}

/// The right answer to a presence question.
#[derive(Debug)]
pub struct Results {
    nodes: Vec<(String, bool)>,
    /// The text of the last right answer, which spares reading the same again.
    seen: Vec<u8>,
}

/// What became of a message or question, by its ack.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ack is the right one.
    Right,
    /// It is not; this is its name.
    Wrong(String),
}

impl Answer {
    /// The answer to a question about these nodes, each with whether it is connected.
    pub fn results(nodes: Vec<(String, bool)>) -> Self {
        Self::Results(Results { nodes, seen: Vec::new() })
    }

    /// The name under which right answers are counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Results(_) => "right results",
        }
    }

    /// Judges the array of an ack's arguments.
    pub fn judge(&mut self, arguments: &[u8]) -> Verdict {
        let is_right = match self {
            Self::Ok => arguments == br#"["OK"]"#,
            Self::Results(results) => results.are(arguments),
        };
        if is_right { Verdict::Right } else { Verdict::Wrong(name(arguments)) }
    }
}

impl Results {
    fn are(&mut self, arguments: &[u8]) -> bool {
        if !self.seen.is_empty() && self.seen == arguments {
            return true;
        }
        let right = self.read(arguments) == Some(true);
        if right {
            self.seen = arguments.to_vec();
        }
        right
    }

    fn read(&self, arguments: &[u8]) -> Option<bool> {
        let [argument]: [Value; 1] = serde_json::from_slice(arguments).ok()?;
        // The original broker answers with an object, others with a text that is one.
        let answer = match argument {
            Value::String(text) => serde_json::from_str(&text).ok()?,
            object => object,
        };
        let results = answer.get("results")?.as_array()?;
        let is_right = |(result, (id, connected)): (&Value, &(String, bool))| {
            result.get("id").and_then(Value::as_str) == Some(id)
                && result.get("connected").and_then(Value::as_bool) == Some(*connected)
        };
        Some(results.len() == self.nodes.len() && results.iter().zip(&self.nodes).all(is_right))
    }
}

/// What a wrong ack is called: its text where that is a short one.
fn name(arguments: &[u8]) -> String {
    match serde_json::from_slice::<Vec<Value>>(arguments).as_deref() {
        Ok([Value::String(text)]) if text.starts_with('{') => "wrong results".to_owned(),
        Ok([Value::String(text)]) if !text.is_empty() => short(text),
        _ => short(&String::from_utf8_lossy(arguments)),
    }
}

/// As much of a text as a name may be long, and nothing in it that a terminal would act upon.
pub fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str) -> Verdict {
        Verdict::Wrong(name.into())
    }

    #[test]
    fn only_ok_is_ok() {
        let judge = |arguments: &str| Answer::Ok.judge(arguments.as_bytes());
        assert_eq!(judge(r#"["OK"]"#), Verdict::Right);
        assert_eq!(judge(r#"["NOT_CONNECTED"]"#), wrong("NOT_CONNECTED"));
        assert_eq!(judge(r#"["OK","OK"]"#), wrong(r#"["OK","OK"]"#));
        assert_eq!(judge("[]"), wrong("[]"));
        assert_eq!(judge(""), wrong(""));
    }

    #[test]
    fn names_are_short_and_printable() {
        let long = format!("[\"a\\n{}\"]", "é".repeat(100));
        let Verdict::Wrong(name) = Answer::Ok.judge(long.as_bytes()) else { panic!("right") };
        assert_eq!(name, format!("a {}", "é".repeat(19)));
    }

    #[test]
    fn results_are_compared_one_by_one() {
        let nodes = vec![("a".into(), true), ("b".into(), false)];
        let mut of_original = Answer::results(nodes.clone());
        let mut answer = Answer::results(nodes);
        let mut judge = |results: &str| {
            let argument = format!(r#"{{"results":[{results}]}}"#);
            answer.judge(serde_json::json!([argument]).to_string().as_bytes())
        };
        let (a, b) = (r#"{"id":"a","connected":true}"#, r#"{"id":"b","connected":false}"#);
        let right = format!("{a},{b}");
        assert_eq!(judge(&right), Verdict::Right);
        assert_eq!(judge(&right), Verdict::Right);
        assert_eq!(judge(&format!("{a}, {b}")), Verdict::Right);
        let object = format!(r#"[{{"results":[{right}]}}]"#);
        assert_eq!(of_original.judge(object.as_bytes()), Verdict::Right);
        for other in [format!("{b},{a}"), a.into(), format!("{a},{b},{b}"), String::new()] {
            assert_eq!(judge(&other), wrong("wrong results"), "{other}");
        }
        assert_eq!(judge(&format!("{a},{}", b.replace("false", "true"))), wrong("wrong results"));
        assert_eq!(answer.judge(br#"["ERROR"]"#), wrong("ERROR"));
    }
}
