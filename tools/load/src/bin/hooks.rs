//! All five webhooks of a broker, which say yes to everything at once; one of them can hang.
//!
//! `HANG` names that one, by its path: `authentication`, `authorization`, `validity`,
//! `rtc-configuration` or `socket-message`. Validity and socket-message then answer nobody, the
//! others everybody but the strangers of `load relay --strangers`. It listens on `PORT` of the
//! loopback address (8080; 0 takes a free one), says on standard output where, and answers
//! `/health`. On SIGTERM it prints how many calls of each hook it has answered and how many it has
//! left to hang, and ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;

use memchr::memmem;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

/// The longest request that is read, in bytes.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// The hooks by their paths, and their yes.
const HOOKS: [(&str, &str); 5] = [
    ("authentication", r#"{"authenticated":true}"#),
    ("authorization", r#"{"authorized":true}"#),
    ("validity", r#"{"invalidNodesIds":[]}"#),
    ("rtc-configuration", r#"{"iceServers":[{"urls":["stun:stun.example.org:3478"]}]}"#),
    ("socket-message", "{}"),
];

/// What `load` calls strangers.
const STRANGER: &[u8] = b"-stranger";

/// The hooks, and what became of their calls. Everything runs on one thread, so a cell will do.
#[derive(Default)]
struct Hooks {
    hangs: Option<&'static str>,
    calls: RefCell<BTreeMap<&'static str, Calls>>,
}

/// The calls of one hook.
#[derive(Default, Serialize)]
struct Calls {
    answered: u64,
    hung: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match LocalSet::new().run_until(listen()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hooks: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn listen() -> io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".into());
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is no port"))?;
    let hangs = match std::env::var("HANG").ok().filter(|name| !name.is_empty()) {
        Some(name) => Some(hook(&name).ok_or_else(|| io::Error::other("HANG is no hook"))?.0),
        None => None,
    };
    let hooks = Rc::new(Hooks { hangs, ..Hooks::default() });
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut stop = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        tokio::select! {
            accepted = listener.accept() => drop(spawn_local(serve(accepted?.0, hooks.clone()))),
            _ = stop.recv() => break,
        }
    }
    println!("{}", serde_json::to_string(&*hooks.calls.borrow())?);
    Ok(())
}

/// The hook with this name, and its yes.
fn hook(name: &str) -> Option<(&'static str, &'static str)> {
    HOOKS.into_iter().find(|(hook, _)| *hook == name)
}

/// Serves one connection until its end, however that comes.
async fn serve(mut stream: TcpStream, hooks: Rc<Hooks>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        while let Some((path, body, taken)) = request(&bytes) {
            let answer = match (path, hook(path)) {
                ("health", _) => Some("ok"),
                (_, Some(hook)) => hooks.call(hook, body),
                (_, None) => return Ok(()),
            };
            bytes.drain(..taken);
            if let Some(answer) = answer {
                let length = answer.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all((head + answer).as_bytes()).await?;
            }
        }
        if bytes.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// The first request in `bytes` if it is complete: its path without the slash, its content, and its
/// length.
fn request(bytes: &[u8]) -> Option<(&str, &[u8], usize)> {
    let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let path = head.split(' ').nth(1)?.trim_start_matches('/');
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
    let body = bytes[end..].get(..length)?;
    Some((path, body, end + length))
}

impl Hooks {
    /// The answer to a call; none if it hangs.
    fn call(&self, (name, yes): (&'static str, &'static str), body: &[u8]) -> Option<&'static str> {
        let for_everybody = matches!(name, "validity" | "socket-message");
        let hangs =
            self.hangs == Some(name) && (for_everybody || memmem::find(body, STRANGER).is_some());
        let mut calls = self.calls.borrow_mut();
        let calls = calls.entry(name).or_default();
        *if hangs { &mut calls.hung } else { &mut calls.answered } += 1;
        (!hangs).then_some(yes)
    }
}
