//! Commands that Redis refuses: to this user, on this server, or for as long as something is wrong.

use redis::{Arg, Cmd, ServerError};

/// The code of a command that the server does not have, or has under another name only.
const UNKNOWN_COMMAND: &str = "UNKNOWN_COMMAND";

/// The code of a command that the user may not execute, or not for this key or channel.
const NO_PERMISSION: &str = "NOPERM";

/// The codes with which a server refuses a command whatever it is about. The others say something
/// of one key, of a server of a cluster, or of a moment.
const REFUSALS: [&str; 6] =
    [NO_PERMISSION, UNKNOWN_COMMAND, "READONLY", "OOM", "NOREPLICAS", "MISCONF"];

/// A command that Redis refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis refuses {command} ({code}){}", self.advice())]
pub struct Refusal {
    /// The command's name, in upper case.
    pub command: String,
    /// Redis's error code, or `UNKNOWN_COMMAND`.
    pub code: String,
}

impl Refusal {
    /// Returns what an error with this code means for a command, if it is a refusal.
    pub(crate) fn of(command: &Cmd, code: &str) -> Option<Self> {
        REFUSALS.contains(&code).then(|| Self { command: name(command), code: code.to_owned() })
    }

    /// Whether this process is refused what others may do: a different user, or a different server.
    /// Then waiting does not help, and others can take what this process cannot keep.
    pub fn is_permission(&self) -> bool {
        [NO_PERMISSION, UNKNOWN_COMMAND].contains(&self.code.as_str())
    }

    fn advice(&self) -> String {
        let command = self.command.to_lowercase();
        let pattern = if command.contains("publish") || command.contains("subscribe") {
            "&<prefix>:*"
        } else {
            "~<prefix>:*"
        };
        match self.code.as_str() {
            NO_PERMISSION => format!(": its user needs the ACL rules +{command} {pattern}"),
            UNKNOWN_COMMAND => ": the server does not have it under this name".to_owned(),
            _ => String::new(),
        }
    }
}

/// Returns the name of a command; it holds no argument, which may be a secret.
fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name).to_uppercase(),
        _ => String::new(),
    }
}

/// Returns the code of an error. Redis has none for unknown commands, and before 7.0 calls each
/// error in a script one of the script, and says behind its place what it was: `ERR Error running
/// script (...): @user_script:1: WRONGTYPE Operation against ...`.
pub(crate) fn code(error: &ServerError) -> &str {
    let details = error.details().unwrap_or_default();
    let of_command = || {
        let (_, place) = details.rsplit_once("@user_script:")?;
        let (_line, text) = place.split_once(": ")?;
        let word = text.split(' ').next()?.trim_start_matches('-');
        let is_code = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(word)
    };
    match error.code() {
        "ERR" if details.contains("user executing the script can't") => NO_PERMISSION,
        "ERR" if details.to_lowercase().starts_with("unknown command") => UNKNOWN_COMMAND,
        "ERR" if details.contains("Unknown Redis command called from script") => UNKNOWN_COMMAND,
        "ERR" => of_command().unwrap_or("ERR"),
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn code_of(text: &str) -> String {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => code(&error).to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_in_a_script_has_the_code_of_the_failed_command() {
        let script = "ERR Error running script (call to f_2e9d): @user_script:";
        for (text, expected) in [
            (format!("{script}1: WRONGTYPE Operation against a key"), "WRONGTYPE"),
            (format!("{script}2: @user_script: 2: -OOM command not allowed"), "OOM"),
            (format!("{script}1: @user_script: 1: -READONLY You can't"), "READONLY"),
            (format!("{script}1: user_script:1: attempt to call a nil value"), "ERR"),
            (format!("{script}1: @user_script: 1: The user can't run this"), "ERR"),
            ("ERR user_script:1: attempt script: f_2e9d, on @user_script:1.".into(), "ERR"),
            ("WRONGTYPE Operation script: f_2e9d, on @user_script:1.".into(), "WRONGTYPE"),
            ("ERR".into(), "ERR"),
        ] {
            assert_eq!(code_of(&text), expected, "{text}");
        }
    }

    #[test]
    fn refusals_are_told_from_other_errors_and_name_the_command() {
        let script = "script: b991, on @user_script:1.";
        for (text, expected) in [
            ("NOPERM this user has no permissions to run the 'mget' command".into(), true),
            ("ERR unknown command 'EVAL', with args beginning with: ".into(), true),
            (format!("ERR The user executing the script can't run this command {script}"), true),
            (format!("ERR Unknown Redis command called from script {script}"), true),
            ("OOM command not allowed when used memory > 'maxmemory'.".into(), false),
            ("NOREPLICAS Not enough good replicas to write.".into(), false),
        ] {
            let mut command = redis::cmd("eval");
            let refusal = Refusal::of(command.arg("secret"), &code_of(&text)).unwrap();
            assert_eq!((refusal.command.as_str(), refusal.is_permission()), ("EVAL", expected));
        }
        for code in ["WRONGTYPE", "LOADING", "CLUSTERDOWN", "ERR"] {
            assert_eq!(Refusal::of(&redis::cmd("GET"), code), None);
        }
        let refusal = Refusal::of(&redis::cmd("PUBLISH"), NO_PERMISSION).unwrap();
        assert_eq!(
            refusal.to_string(),
            "Redis refuses PUBLISH (NOPERM): its user needs the ACL rules +publish &<prefix>:*"
        );
    }
}
