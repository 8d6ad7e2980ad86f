//! The bodies of requests, with the checks of Rondevu in its order.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::FromBody;
use super::error::ApiError;
use super::fields::Fields;
use crate::model::{Code, JsonText, Secret, Side};

/// The longest `info` in UTF-16 units.
const MAX_INFO_UNITS: usize = 1024;

/// The longest wait of a poll.
const MAX_WAIT_MS: f64 = 30_000.0;

/// An offer.
#[derive(Debug, PartialEq, ToSchema)]
#[schema(as = OfferBody)]
pub(super) struct OfferRequest {
    /// What the offerer says about itself; lengths are in UTF-16 units. Later clients call it
    /// `peerId`, which counts where there is no `info`.
    #[schema(value_type = String, min_length = 1, max_length = 1024)]
    pub(super) info: JsonText,
    /// The offerer's description, which the server does not interpret.
    #[schema(value_type = String, min_length = 1)]
    pub(super) offer: JsonText,
    /// The code that the session shall have; if it is not given or empty, a random one.
    #[schema(value_type = Option<String>, max_length = 64, pattern = "^[A-Za-z0-9._~-]*$")]
    pub(super) code: Option<Code>,
    /// Whether the session shall have a secret, by which the offerer recognises the answer that it
    /// waits for.
    #[schema(value_type = Option<bool>)]
    pub(super) secret: bool,
}

impl FromBody for OfferRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body);
        let info = fields.info.filter(|info| info.get() != "null").or(fields.peer_id);
        let info = info.and_then(JsonText::new).ok_or(ApiError::MissingInfo)?;
        if info.utf16_len() > MAX_INFO_UNITS {
            return Err(ApiError::InfoTooLong);
        }
        let offer = fields.offer.and_then(JsonText::new).ok_or(ApiError::MissingOffer)?;
        let code = match fields.code.map(RawValue::get) {
            None | Some("null" | r#""""#) => None,
            Some(json) => {
                let code = serde_json::from_str::<String>(json).ok();
                Some(code.and_then(|code| Code::parse(&code)).ok_or(ApiError::MissingCode)?)
            }
        };
        let secret = match fields.secret.map(RawValue::get) {
            None | Some("null" | "false") => false,
            Some("true") => true,
            Some(_) => return Err(ApiError::BadSecretRequest),
        };
        Ok(Self { info, offer, code, secret })
    }
}

/// An answer or a candidate, never both.
// Serialized nowhere: utoipa reads the attribute that needs the derive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnswerBody)]
#[serde(untagged)]
pub(super) enum AnswerRequest {
    /// An answer.
    Answer {
        /// The session's code.
        #[schema(value_type = String, min_length = 1)]
        code: Code,
        side: Side,
        /// The answerer's description, which the server does not interpret.
        #[schema(value_type = String, min_length = 1)]
        answer: JsonText,
        /// Not given.
        #[schema(value_type = Option<String>, max_length = 0)]
        candidate: NotGiven,
        /// The session's secret. A wrong one is no error: the answer is not verified then.
        #[schema(value_type = Option<String>)]
        secret: Option<Secret>,
    },
    /// A candidate.
    Candidate {
        /// The session's code.
        #[schema(value_type = String, min_length = 1)]
        code: Code,
        side: Side,
        /// A candidate of this side, which the server does not interpret.
        #[schema(value_type = String, min_length = 1)]
        candidate: JsonText,
        /// Not given.
        #[schema(value_type = Option<String>, max_length = 0)]
        answer: NotGiven,
    },
}

/// A field that is missing, null or the empty text.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct NotGiven;

impl FromBody for AnswerRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body);
        let session = SessionFields::parse(&fields)?;
        let answer = given(fields.answer)?;
        let candidate = given(fields.candidate)?;
        let side = session.side;
        match (answer, candidate) {
            (None, None) => Err(ApiError::NothingGiven),
            (Some(_), Some(_)) => Err(ApiError::BothGiven),
            (Some(answer), None) => {
                let secret = secret(fields.secret)?;
                let (code, candidate) = (session.code()?, NotGiven);
                Ok(Self::Answer { code, side, answer, candidate, secret })
            }
            (None, Some(candidate)) => {
                Ok(Self::Candidate { code: session.code()?, side, candidate, answer: NotGiven })
            }
        }
    }
}

/// Parses a text that may be [`NotGiven`]; values of other types are errors.
fn given(field: Option<&RawValue>) -> Result<Option<JsonText>, ApiError> {
    match field.map(RawValue::get) {
        None | Some("null" | r#""""#) => Ok(None),
        Some(_) => field.and_then(JsonText::new).map(Some).ok_or(ApiError::NothingGiven),
    }
}

/// Parses a secret. A text that cannot be one is like none at all: it verifies nothing.
fn secret(field: Option<&RawValue>) -> Result<Option<Secret>, ApiError> {
    match field.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) if json.starts_with('"') => {
            Ok(serde_json::from_str::<String>(json).ok().and_then(|text| Secret::parse(&text)))
        }
        Some(_) => Err(ApiError::BadSecret),
    }
}

/// The side of a session that polls.
#[derive(Debug, PartialEq, ToSchema)]
#[schema(as = PollBody)]
pub(super) struct PollRequest {
    /// The session's code.
    #[schema(value_type = String, min_length = 1)]
    pub(super) code: Code,
    pub(super) side: Side,
    /// How long to wait for a change, in milliseconds; more than 30000 counts as 30000.
    #[schema(value_type = Option<u32>, minimum = 0)]
    pub(super) wait: Duration,
}

impl FromBody for PollRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body);
        let session = SessionFields::parse(&fields)?;
        let wait = match fields.wait.map(RawValue::get) {
            None | Some("null") => Duration::ZERO,
            Some(number) => {
                let ms: f64 = serde_json::from_str(number).map_err(|_| ApiError::BadWait)?;
                Duration::from_millis(ms.clamp(0.0, MAX_WAIT_MS) as u64)
            }
        };
        Ok(Self { code: session.code()?, side: session.side, wait })
    }
}

/// The fields that name a session and one of its sides.
struct SessionFields {
    code: Option<Code>,
    side: Side,
}

impl SessionFields {
    fn parse(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let code = fields.code.and_then(JsonText::new).ok_or(ApiError::MissingCode)?;
        let decoded = |json: &str| serde_json::from_str::<String>(json).ok();
        let side = fields.side.and_then(|side| Side::parse(&decoded(side.get())?));
        let side = side.ok_or(ApiError::BadSide)?;
        Ok(Self { code: decoded(code.as_json()).and_then(|code| Code::parse(&code)), side })
    }

    /// Returns the code, after all fields were checked.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for a text that no session has as its code.
    fn code(&self) -> Result<Code, ApiError> {
        self.code.ok_or(ApiError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODE: &str = "00000000-0000-4000-8000-000000000000";

    #[test]
    fn offers_are_checked_in_order() {
        let error = |body: &str| OfferRequest::parse(body.as_bytes()).unwrap_err();
        for body in ["", "x", "[]", "null", "{}", r#"{"info":""}"#, r#"{"info":1,"offer":1}"#] {
            assert_eq!(error(body), ApiError::MissingInfo, "{body}");
        }
        let marked = "\u{feff}{\"info\":\"a\",\"offer\":\"b\"}";
        assert!(OfferRequest::parse(marked.as_bytes()).is_ok());
        let long = "🙂".repeat(512);
        assert_eq!(error(&format!(r#"{{"info":"{long}a"}}"#)), ApiError::InfoTooLong);
        for offer in ["null", r#""""#, "1", "{}"] {
            let body = format!(r#"{{"info":"{long}","offer":{offer}}}"#);
            assert_eq!(error(&body), ApiError::MissingOffer);
        }
        let offer = OfferRequest::parse(br#"{"info":"a","offer":"\u0062","more":1}"#).unwrap();
        assert_eq!((offer.info.as_json(), offer.offer.as_json()), (r#""a""#, r#""\u0062""#));
        for (body, info) in [
            (r#"{"peerId":"p","offer":"o"}"#, r#""p""#),
            (r#"{"peerId":"p","info":null,"offer":"o"}"#, r#""p""#),
            (r#"{"peerId":"p","info":"i","offer":"o"}"#, r#""i""#),
        ] {
            assert_eq!(
                OfferRequest::parse(body.as_bytes()).unwrap().info.as_json(),
                info,
                "{body}"
            );
        }
        assert_eq!(error(r#"{"peerId":1,"offer":"o"}"#), ApiError::MissingInfo);
        let code = |code: &str| {
            let body = format!(r#"{{"info":"i","offer":"o","code":{code}}}"#);
            OfferRequest::parse(body.as_bytes()).map(|offer| offer.code.map(|it| it.to_string()))
        };
        for none in ["null", r#""""#] {
            assert_eq!(code(none), Ok(None), "{none}");
        }
        assert_eq!(code(r#""r\u006fom-1""#), Ok(Some("room-1".into())));
        let too_long = format!("\"{}\"", "x".repeat(65));
        for wrong in ["1", "{}", r#""a b""#, r#""\ud800""#, &too_long] {
            assert_eq!(code(wrong), Err(ApiError::MissingCode), "{wrong}");
        }
    }

    #[test]
    fn answers_are_checked_in_order() {
        let error = |body: &str| AnswerRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error("not JSON"), ApiError::MissingCode);
        assert_eq!(error(r#"{"code":1,"side":"x"}"#), ApiError::MissingCode);
        for side in ["null", "1", r#""""#, r#""Offerer""#, r#""both""#] {
            assert_eq!(error(&format!(r#"{{"code":"x","side":{side}}}"#)), ApiError::BadSide);
        }
        let with = |rest: &str| format!(r#"{{"code":"{CODE}","side":"offerer"{rest}}}"#);
        for rest in ["", r#","answer":"","candidate":null"#, r#","answer":1"#, r#","candidate":{}"#]
        {
            assert_eq!(error(&with(rest)), ApiError::NothingGiven, "{rest}");
        }
        assert_eq!(error(&with(r#","answer":"a","candidate":"c""#)), ApiError::BothGiven);
        let parsed = AnswerRequest::parse(with(r#","answer":"","candidate":"c""#).as_bytes());
        assert!(matches!(parsed, Ok(AnswerRequest::Candidate { .. })));
    }

    #[test]
    fn secrets_are_asked_for_and_given() {
        let asked = |secret: &str| {
            let body = format!(r#"{{"info":"i","offer":"o","secret":{secret}}}"#);
            OfferRequest::parse(body.as_bytes()).map(|offer| offer.secret)
        };
        for (json, is_asked) in [("true", true), ("false", false), ("null", false)] {
            assert_eq!(asked(json), Ok(is_asked), "{json}");
        }
        for json in [r#""true""#, "1", "{}", "[]", r#""""#] {
            assert_eq!(asked(json), Err(ApiError::BadSecretRequest), "{json}");
        }
        let given = |secret: &str| {
            let body =
                format!(r#"{{"code":"{CODE}","side":"answerer","answer":"a","secret":{secret}}}"#);
            match AnswerRequest::parse(body.as_bytes())? {
                AnswerRequest::Answer { secret, .. } => Ok(secret.is_some()),
                AnswerRequest::Candidate { .. } => unreachable!("it has an answer"),
            }
        };
        for (json, is_secret) in [
            (r#""AAAAAAAAAAAAAAAAAAAAAA""#, true),
            (r#""wrong""#, false),
            (r#""\ud800""#, false),
            ("null", false),
        ] {
            assert_eq!(given(json), Ok(is_secret), "{json}");
        }
        for json in ["true", "1", "{}", "[]"] {
            assert_eq!(given(json), Err(ApiError::BadSecret), "{json}");
        }
    }

    #[test]
    fn a_text_that_is_no_code_names_no_session() {
        let poll = |code: &str| {
            PollRequest::parse(format!(r#"{{"code":{code},"side":"answerer"}}"#).as_bytes())
        };
        for code in [r#""a b""#, r#""\ud800""#, r#""{0}""#] {
            assert_eq!(poll(code), Err(ApiError::NotFound), "{code}");
        }
        assert!(poll(&format!("\"{CODE}\"")).is_ok());
    }

    #[test]
    fn waits_are_bounded() {
        let wait = |wait: &str| {
            let body = format!(r#"{{"code":"{CODE}","side":"offerer","wait":{wait}}}"#);
            PollRequest::parse(body.as_bytes()).map(|poll| poll.wait.as_millis())
        };
        for (text, ms) in
            [("0", 0), ("1500", 1500), ("1.9", 1), ("-1", 0), ("1e99", 30_000), ("null", 0)]
        {
            assert_eq!(wait(text), Ok(ms), "{text}");
        }
        for text in [r#""1""#, "true", "[]", "{}"] {
            assert_eq!(wait(text), Err(ApiError::BadWait), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_body_is_parsed(body in "[\\PC{}\":,]{0,80}") {
            let _ = OfferRequest::parse(body.as_bytes());
            let _ = AnswerRequest::parse(body.as_bytes());
            let _ = PollRequest::parse(body.as_bytes());
        }
    }
}
