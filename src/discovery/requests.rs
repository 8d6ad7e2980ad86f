//! From a request's body or query to what its sender wants, with the checks of Rondevu in its
//! order.

use std::time::Duration;

use serde_json::value::RawValue;

use super::fault::Fault;
use super::session::{Code, Side};
use super::text::{Fields, JsonText};

/// The longest `info` in UTF-16 units.
const MAX_INFO_UNITS: usize = 1024;

/// The longest wait of a poll.
const MAX_WAIT_MS: f64 = 30_000.0;

/// How many topics a page has if nobody says it, and at most.
const TOPICS_PER_PAGE: u64 = 100;
const MAX_TOPICS_PER_PAGE: u64 = 1000;

/// JavaScript's largest exact whole number: no page is behind it.
const LAST_PAGE: u64 = (1 << 53) - 1;

/// The body of an offer.
#[derive(Debug, PartialEq)]
pub(super) struct OfferRequest {
    pub(super) info: JsonText,
    pub(super) offer: JsonText,
}

impl OfferRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let fields = Fields::parse(body);
        let info = fields.info.and_then(JsonText::new).ok_or(Fault::MissingInfo)?;
        if info.utf16_len() > MAX_INFO_UNITS {
            return Err(Fault::InfoTooLong);
        }
        let offer = fields.offer.and_then(JsonText::new).ok_or(Fault::MissingOffer)?;
        Ok(Self { info, offer })
    }
}

/// What is left in a session.
#[derive(Debug, PartialEq)]
pub(super) enum Left {
    Answer(JsonText),
    Candidate(JsonText),
}

/// The body of an answer or a candidate.
#[derive(Debug, PartialEq)]
pub(super) struct AnswerRequest {
    pub(super) name: SessionName,
    pub(super) left: Left,
}

impl AnswerRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let fields = Fields::parse(body);
        let name = SessionName::parse(&fields)?;
        let answer = given(fields.answer)?;
        let candidate = given(fields.candidate)?;
        let left = match (answer, candidate) {
            (None, None) => return Err(Fault::NothingGiven),
            (Some(_), Some(_)) => return Err(Fault::BothGiven),
            (Some(answer), None) => Left::Answer(answer),
            (None, Some(candidate)) => Left::Candidate(candidate),
        };
        Ok(Self { name, left })
    }
}

/// A text that may be missing, which null and the empty text count as; other types are mistakes.
fn given(field: Option<&RawValue>) -> Result<Option<JsonText>, Fault> {
    match field.map(RawValue::get) {
        None | Some("null" | r#""""#) => Ok(None),
        Some(_) => field.and_then(JsonText::new).map(Some).ok_or(Fault::NothingGiven),
    }
}

/// The body of a poll.
#[derive(Debug, PartialEq)]
pub(super) struct PollRequest {
    pub(super) name: SessionName,
    /// How long to wait for news; zero for not at all.
    pub(super) wait: Duration,
}

impl PollRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let fields = Fields::parse(body);
        let name = SessionName::parse(&fields)?;
        let wait = match fields.wait.map(RawValue::get) {
            None | Some("null") => Duration::ZERO,
            Some(number) => {
                let ms: f64 = serde_json::from_str(number).map_err(|_| Fault::BadWait)?;
                Duration::from_millis(ms.clamp(0.0, MAX_WAIT_MS) as u64)
            }
        };
        Ok(Self { name, wait })
    }
}

/// Which session is meant, and which of the two asks.
#[derive(Debug, PartialEq)]
pub(super) struct SessionName {
    /// None for a text that is no session's code.
    code: Option<Code>,
    pub(super) side: Side,
}

impl SessionName {
    fn parse(fields: &Fields<'_>) -> Result<Self, Fault> {
        let code = fields.code.and_then(JsonText::new).ok_or(Fault::MissingCode)?;
        let side = fields.side.and_then(decoded).and_then(|side| Side::parse(&side));
        let side = side.ok_or(Fault::BadSide)?;
        let code: Option<String> = serde_json::from_str(code.as_json()).ok();
        Ok(Self { code: code.and_then(|code| Code::parse(&code)), side })
    }

    /// The code.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if no session can have it.
    pub(super) fn code(&self) -> Result<Code, Fault> {
        self.code.ok_or(Fault::NotFound)
    }
}

fn decoded(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Which topics are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The page, from 1 on.
    pub number: u64,
    /// How many topics it has, from 1 to 1000.
    pub limit: u64,
}

impl Page {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let (mut number, mut limit) = (None, None);
        for (name, value) in &mut pairs {
            match &*name {
                "page" => drop(number.get_or_insert_with(|| leading_number(&value))),
                "limit" => drop(limit.get_or_insert_with(|| leading_number(&value))),
                _ => {}
            }
        }
        let number = number.flatten().unwrap_or(1).clamp(1, LAST_PAGE);
        let limit = limit.flatten().unwrap_or(TOPICS_PER_PAGE).clamp(1, MAX_TOPICS_PER_PAGE);
        Self { number, limit }
    }

    /// How many topics come before this page.
    pub(super) fn offset(self) -> u64 {
        (self.number - 1).saturating_mul(self.limit)
    }
}

/// The number that a text begins with, as JavaScript's `parseInt` reads it (ECMA-262, 19.2.5);
/// negative ones give zero.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(is_space);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    // Digits fail to be a number only if there are too many of them.
    Some(if is_negative { 0 } else { digits[..end].parse().unwrap_or(u64::MAX) })
}

/// JavaScript's white space and line ends (ECMA-262, 12.2 and 12.3): those of Unicode, but the byte
/// order mark for the next line.
fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODE: &str = "00000000-0000-4000-8000-000000000000";

    #[test]
    fn offers_are_checked_in_order() {
        let fault = |body: &str| OfferRequest::parse(body.as_bytes()).unwrap_err();
        for body in ["", "x", "[]", "null", "{}", r#"{"info":""}"#, r#"{"info":1,"offer":1}"#] {
            assert_eq!(fault(body), Fault::MissingInfo, "{body}");
        }
        let marked = "\u{feff}{\"info\":\"a\",\"offer\":\"b\"}";
        assert!(OfferRequest::parse(marked.as_bytes()).is_ok());
        let long = "🙂".repeat(512);
        assert_eq!(fault(&format!(r#"{{"info":"{long}a"}}"#)), Fault::InfoTooLong);
        for offer in ["null", r#""""#, "1", "{}"] {
            let body = format!(r#"{{"info":"{long}","offer":{offer}}}"#);
            assert_eq!(fault(&body), Fault::MissingOffer);
        }
        let offer = OfferRequest::parse(br#"{"info":"a","offer":"\u0062","more":1}"#).unwrap();
        assert_eq!((offer.info.as_json(), offer.offer.as_json()), (r#""a""#, r#""\u0062""#));
    }

    #[test]
    fn answers_are_checked_in_order() {
        let fault = |body: &str| AnswerRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(fault("not JSON"), Fault::MissingCode);
        assert_eq!(fault(r#"{"code":1,"side":"x"}"#), Fault::MissingCode);
        for side in ["null", "1", r#""""#, r#""Offerer""#, r#""both""#] {
            assert_eq!(fault(&format!(r#"{{"code":"x","side":{side}}}"#)), Fault::BadSide);
        }
        let with = |rest: &str| format!(r#"{{"code":"{CODE}","side":"offerer"{rest}}}"#);
        for rest in ["", r#","answer":"","candidate":null"#, r#","answer":1"#, r#","candidate":{}"#]
        {
            assert_eq!(fault(&with(rest)), Fault::NothingGiven, "{rest}");
        }
        assert_eq!(fault(&with(r#","answer":"a","candidate":"c""#)), Fault::BothGiven);
        let parsed = AnswerRequest::parse(with(r#","answer":"","candidate":"c""#).as_bytes());
        assert!(matches!(parsed.unwrap().left, Left::Candidate(_)));
    }

    #[test]
    fn texts_that_are_no_codes_name_no_session() {
        let poll = |code: &str| {
            PollRequest::parse(format!(r#"{{"code":{code},"side":"answerer"}}"#).as_bytes())
        };
        for code in [r#""x""#, r#""\ud800""#, r#""{0}""#] {
            assert_eq!(poll(code).unwrap().name.code(), Err(Fault::NotFound), "{code}");
        }
        assert!(poll(&format!("\"{CODE}\"")).unwrap().name.code().is_ok());
    }

    #[test]
    fn waits_are_bounded() {
        let wait = |wait: &str| {
            let body = format!(r#"{{"code":"x","side":"offerer","wait":{wait}}}"#);
            PollRequest::parse(body.as_bytes()).map(|poll| poll.wait.as_millis())
        };
        for (text, ms) in
            [("0", 0), ("1500", 1500), ("1.9", 1), ("-1", 0), ("1e99", 30_000), ("null", 0)]
        {
            assert_eq!(wait(text), Ok(ms), "{text}");
        }
        for text in [r#""1""#, "true", "[]", "{}"] {
            assert_eq!(wait(text), Err(Fault::BadWait), "{text}");
        }
    }

    #[test]
    fn pages_are_read_as_javascript_reads_numbers() {
        let page = |query| {
            let page = Page::parse(Some(query));
            (page.number, page.limit)
        };
        assert_eq!(Page::parse(None), Page { number: 1, limit: 100 });
        for (query, expected) in [
            ("page=3&limit=7", (3, 7)),
            ("page=2x&limit=%205", (2, 5)),
            ("page=%EF%BB%BF2&limit=%C2%A0%0B5", (2, 5)),
            ("page=%C2%852&limit=5", (1, 5)),
            ("page=&limit=x", (1, 100)),
            ("page=0&limit=0", (1, 1)),
            ("page=-4&limit=-4", (1, 1)),
            ("page=1.9&limit=5000", (1, 1000)),
            ("page=2&page=3", (2, 100)),
            ("page=999999999999999999999999&limit=%2B9", (LAST_PAGE, 9)),
        ] {
            assert_eq!(page(query), expected, "{query}");
        }
        assert_eq!(Page::parse(Some("page=99999999999999999999&limit=1000")).offset() >> 53, 999);
    }

    proptest! {
        #[test]
        fn no_body_is_too_odd(body in "[\\PC{}\":,]{0,80}") {
            let _ = OfferRequest::parse(body.as_bytes());
            let _ = AnswerRequest::parse(body.as_bytes());
            let _ = PollRequest::parse(body.as_bytes());
            Page::parse(Some(&body));
        }
    }
}
