//! Variables that name a file with the value of another variable: Docker, Kubernetes and systemd
//! mount secrets as files, where a list of the process's environment does not show them.

/// What such a variable's name ends in.
const SUFFIX: &str = "_FILE";

/// One for every variable that may hold a secret, in the order of [`super::VARIABLES`].
const SECRET_FILES: &[&str] = &[
    "REDIS_URL_FILE",
    "REDIS_SENTINEL_USERNAME_FILE",
    "REDIS_SENTINEL_PASSWORD_FILE",
    "JWT_SECRET_FILE",
    "JWT_JWKS_URL_FILE",
    "NODES_AUTHENTICATION_WEBHOOK_URL_FILE",
    "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL_FILE",
    "NODES_VALIDITY_CHECK_WEBHOOK_URL_FILE",
    "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL_FILE",
    "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL_FILE",
    "NODE_EVENTS_WEBHOOK_URL_FILE",
    "WEBHOOK_SECRET_FILE",
    "WEBHOOK_PROXY_FILE",
    "API_TOKEN_FILE",
    "API_READ_TOKEN_FILE",
    "TURN_SECRET_FILE",
    "PEER_RELAY_BOOTSTRAP_FILE",
];

/// What the value of each of them has to be.
pub(super) const ALLOWED: &str =
    "a readable file that is not empty, if the variable itself is not set";

/// The variable that names the file with `name`'s value, if `name` may hold a secret.
pub(super) fn secret_file_of(name: &str) -> Option<&'static str> {
    let is_its = |file: &&&str| file.strip_suffix(SUFFIX) == Some(name);
    SECRET_FILES.iter().find(is_its).copied()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Config, VARIABLES};

    #[test]
    fn what_is_not_shown_can_be_read_from_a_file() {
        // Every wrong value that is kept out of the error must be one that a file can hold.
        for variable in VARIABLES {
            let hunter2 = |name: &str| (name == variable.name).then(|| "//hunter2".into());
            let is_secret = Config::read(hunter2).err().is_some_and(|errors| {
                errors.0.iter().any(|error| error.problem.contains("secret"))
            });
            let is_public_url = variable.name == "PEER_RELAY_PUBLIC_URL";
            assert!(
                !is_secret || is_public_url || secret_file_of(variable.name).is_some(),
                "{} has no file",
                variable.name
            );
        }
        for file in SECRET_FILES {
            let name = file.strip_suffix(SUFFIX).unwrap();
            assert!(VARIABLES.iter().any(|variable| variable.name == name), "there is no {name}");
        }
    }

    #[test]
    fn a_file_is_read_as_the_variable_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.into_os_string()
        };
        let url = file("url", b" https://hooks.test/?token=hunter2\n");
        let read = |variables: &[(&str, OsString)]| {
            Config::read(|name| variables.iter().find(|it| it.0 == name).map(|it| it.1.clone()))
        };
        const FILE: &str = "NODES_AUTHENTICATION_WEBHOOK_URL_FILE";
        let config = read(&[(FILE, url.clone()), ("NODES_AUTHENTICATION_WEBHOOK_URL", " ".into())]);
        let authentication = config.unwrap().webhooks.authentication.unwrap();
        assert_eq!(authentication.expose().as_str(), "https://hooks.test/?token=hunter2");
        assert!(read(&[(FILE, "".into())]).unwrap().webhooks.authentication.is_none());

        for (value, problem) in [
            (OsString::from("/nowhere"), "No such file"),
            ("/".into(), "Is a directory"),
            (file("empty", b" \n"), "the file is empty"),
            (file("bytes", b"\xff"), "the file is not UTF-8"),
        ] {
            let error = read(&[(FILE, value)]).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains(problem), "{error}");
        }
        let both = read(&[(FILE, url), ("NODES_AUTHENTICATION_WEBHOOK_URL", "http://h".into())]);
        let error = both.unwrap_err().to_string();
        assert!(error.contains("NODES_AUTHENTICATION_WEBHOOK_URL is set too"), "{error}");
        let error = read(&[(FILE, file("wrong", b"ftp://hunter2"))]).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
