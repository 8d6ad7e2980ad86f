//! What one side of a connection says of itself: the few values of its SDP (RFC 8866, 8839, 8841,
//! 8842) that a data channel needs. Pure.
//!
//! A stranger's text ends here: the values are checked, and written anew for the library. So its
//! candidates go nowhere, and neither does anything else that could be in it.

/// The longest description, in bytes. Those of browsers have less than 1 KB without candidates.
const MAX_SDP_BYTES: usize = 16 * 1024;

/// The longest user fragment, password or name of a medium that is taken, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// How many bytes a SHA-256 fingerprint has.
const FINGERPRINT_BYTES: usize = 32;

/// The longest message that this side takes, in bytes: a frame of the overlay.
const MAX_MESSAGE_BYTES: usize = super::MAX_WEBRTC_MESSAGE_BYTES;

/// One side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    user: String,
    password: String,
    fingerprint: String,
    setup: &'static str,
    medium: String,
    port: u16,
}

/// A text describes no side of a data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the description is none of a data channel")]
pub(crate) struct NoDescription;

impl Description {
    /// Reads an SDP.
    ///
    /// # Errors
    /// [`NoDescription`] if it is not one of exactly one medium, a data channel over SCTP, with
    /// a SHA-256 fingerprint, and with all that is needed to reach it.
    pub(crate) fn parse(sdp: &str) -> Result<Self, NoDescription> {
        Self::read(sdp).ok_or(NoDescription)
    }

    fn read(sdp: &str) -> Option<Self> {
        if sdp.len() > MAX_SDP_BYTES {
            return None;
        }
        let lines = || sdp.lines().map(str::trim_end);
        let mut media = lines().filter(|line| line.starts_with("m="));
        let words: Vec<_> = media.next()?.split(' ').collect();
        let is_data =
            matches!(words[..], ["m=application", _, "UDP/DTLS/SCTP", "webrtc-datachannel"]);
        if media.next().is_some() || !is_data {
            return None;
        }
        // Some stand above the medium, for all; there is only one.
        let value = |name: &str| {
            let mut values = lines().filter_map(|line| line.strip_prefix(name));
            values.next().filter(|value| values.all(|other| other == *value))
        };
        Some(Self {
            user: plain(value("a=ice-ufrag:")?, 4)?,
            password: plain(value("a=ice-pwd:")?, 22)?,
            fingerprint: fingerprint(value("a=fingerprint:")?)?,
            setup: match value("a=setup:")? {
                "actpass" => "actpass",
                "active" => "active",
                "passive" => "passive",
                _ => return None,
            },
            medium: plain(value("a=mid:")?, 1)?,
            port: value("a=sctp-port:")?.parse().ok()?,
        })
    }

    /// The SDP for the library.
    pub(crate) fn to_sdp(&self) -> String {
        let Self { user, password, fingerprint, setup, medium, port } = self;
        [
            "v=0",
            "o=- 1 1 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            &format!("a=group:BUNDLE {medium}"),
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            &format!("a=ice-ufrag:{user}"),
            &format!("a=ice-pwd:{password}"),
            "a=ice-options:trickle",
            &format!("a=fingerprint:sha-256 {fingerprint}"),
            &format!("a=setup:{setup}"),
            &format!("a=mid:{medium}"),
            &format!("a=sctp-port:{port}"),
            &format!("a=max-message-size:{MAX_MESSAGE_BYTES}"),
            "",
        ]
        .join("\r\n")
    }
}

/// A value of the characters that user fragments and passwords have (RFC 8839, 5.4), and the
/// names that browsers give to media.
fn plain(value: &str, least: usize) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    let fits = (least..=MAX_VALUE_BYTES).contains(&value.len()) && value.bytes().all(is_plain);
    fits.then(|| value.to_owned())
}

/// A fingerprint in upper case, without the name of its hash.
fn fingerprint(value: &str) -> Option<String> {
    let (hash, digits) = value.split_once(' ')?;
    let is_byte = |pair: &str| pair.len() == 2 && pair.bytes().all(|it| it.is_ascii_hexdigit());
    let fits = hash.eq_ignore_ascii_case("sha-256")
        && digits.split(':').count() == FINGERPRINT_BYTES
        && digits.split(':').all(is_byte);
    fits.then(|| digits.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Chromium offers, with candidates.
    fn offer() -> String {
        let fingerprint = ["AB"; FINGERPRINT_BYTES].join(":");
        format!(
            "v=0\r\no=- 5 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
             a=candidate:1 1 udp 2113937151 10.0.0.1 53000 typ host\r\n\
             a=ice-ufrag:u/+f\r\na=ice-pwd:0123456789abcdef012345\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\n\
             a=sctp-port:5000\r\na=max-message-size:262144\r\n"
        )
    }

    #[test]
    fn only_what_is_needed_passes() {
        let read = Description::parse(&offer()).unwrap();
        let written = read.to_sdp();
        assert_eq!(Description::parse(&written), Ok(read));
        for gone in ["candidate", "127.0.0.1", "10.0.0.1", "262144", "extmap"] {
            assert!(!written.contains(gone), "{written}");
        }
        assert!(written.contains("a=ice-pwd:0123456789abcdef012345\r\n"));
    }

    #[test]
    fn whatever_is_odd_is_refused() {
        let offer = offer();
        for (part, odd) in [
            ("a=ice-ufrag:u/+f\r\n", ""),
            ("u/+f", "u"),
            ("u/+f", "u f f"),
            ("u/+f", "u\nff"),
            ("0123456789abcdef012345", "short"),
            ("sha-256", "sha-1"),
            ("AB:AB", "AB"),
            ("AB:AB", "AB:XY"),
            ("actpass", "holdconn"),
            ("a=sctp-port:5000", "a=sctp-port:70000"),
            ("a=mid:0", "a=mid:"),
            ("a=mid:0", "a=mid:0\r\na=mid:1"),
            ("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"),
            ("m=application", "m=audio"),
            ("m=application", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nm=application"),
        ] {
            assert!(offer.contains(part), "{part}");
            let odd = offer.replacen(part, odd, 1);
            assert_eq!(Description::parse(&odd), Err(NoDescription), "{odd}");
        }
        let long = format!("{offer}a=x:{}\r\n", "x".repeat(MAX_SDP_BYTES));
        assert_eq!(Description::parse(&long), Err(NoDescription));
        assert_eq!(Description::parse(""), Err(NoDescription));
    }
}
