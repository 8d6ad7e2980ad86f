//! The commands that Redis has to permit.

use redis::Cmd;
use redis_session::Refusal;

use super::RedisDirectory;

impl RedisDirectory {
    /// Returns the commands that the directory needs, on `key`, which is gone afterwards.
    pub(crate) fn required_commands(key: &str) -> Vec<Cmd> {
        let command = |name: &str, arguments: &[&str]| {
            let mut command = redis::cmd(name);
            command.arg(key).arg(arguments);
            command
        };
        let mut script = redis::cmd("EVAL");
        script.arg("return redis.call('TYPE', KEYS[1]).ok").arg(1).arg(key);
        vec![
            command("SET", &["", "NX", "PX", "1000"]),
            command("GET", &[]),
            command("MGET", &[]),
            command("EXISTS", &[]),
            command("TYPE", &[]),
            command("PEXPIRE", &["1000"]),
            script,
            command("DEL", &[]),
        ]
    }

    /// Returns a command that Redis refuses at present.
    pub(in crate::directory) fn refusal(&self) -> Option<Refusal> {
        self.0.redis.refusal()
    }

    /// Whether others may do what this replica may not.
    pub(super) fn lacks_permission(&self) -> bool {
        self.0.redis.refusal().is_some_and(|refusal| refusal.is_permission())
    }
}
