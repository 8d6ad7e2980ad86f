//! Reads the configuration of logins by JWT.

use super::Source;
use super::reader::Reader;
use crate::login::{LoginKeys, LoginSettings};

/// Reads which tokens are accepted; `None` if nothing says what they are signed with.
pub(super) fn read(reader: &mut Reader<impl Source>) -> Option<LoginSettings> {
    let secret = reader.secret("JWT_SECRET", |text| LoginKeys::secret(text).ok());
    let public = reader.file("JWT_PUBLIC_KEY_FILE", |content| {
        LoginKeys::public(std::str::from_utf8(&content).ok()?).ok()
    });
    let [audience, issuer] =
        ["JWT_AUDIENCE", "JWT_ISSUER"].map(|name| reader.items(name, |item| !item.is_empty()));
    let leeway = reader.milliseconds("JWT_LEEWAY_MS", 0);
    let keys = match (secret, public) {
        (Some(_), Some(_)) => {
            reader.conflict("JWT_SECRET", "JWT_PUBLIC_KEY_FILE is set too");
            return None;
        }
        (secret, public) => secret.or(public)?,
    };
    Some(LoginSettings { keys, audience, issuer, leeway })
}
