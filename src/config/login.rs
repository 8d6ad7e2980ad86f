//! Reads the configuration of logins by JWT.

use super::Source;
use super::reader::Reader;
use crate::login::{KeySource, LoginKeys, LoginSettings};
use crate::secret_url::SecretUrl;

/// Reads which tokens are accepted; `None` if nothing says what they are signed with.
pub(super) fn read(reader: &mut Reader<impl Source>) -> Option<LoginSettings> {
    let secret = reader.secret("JWT_SECRET", |text| LoginKeys::secret(text).ok());
    let public = reader.file("JWT_PUBLIC_KEY_FILE", |content| {
        LoginKeys::public(std::str::from_utf8(&content).ok()?).ok()
    });
    let url = reader.url("JWT_JWKS_URL", &["http", "https"]).map(SecretUrl::from);
    let url = url.map(KeySource::Url);
    let [audience, issuer] =
        ["JWT_AUDIENCE", "JWT_ISSUER"].map(|name| reader.items(name, |item| !item.is_empty()));
    let leeway = reader.milliseconds("JWT_LEEWAY_MS", 0);
    let mut sources = [secret, public].into_iter().flatten().map(KeySource::Given).chain(url);
    let keys = sources.next()?;
    if sources.next().is_some() {
        reader.conflict("JWT_SECRET", "there is one source of keys, and more are set");
    }
    Some(LoginSettings { keys, audience, issuer, leeway })
}
