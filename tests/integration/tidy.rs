//! Habits that last because they are executable: the form of the source tree.

mod names;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A file holds one idea; longer than this it holds two.
const MAX_LINES: usize = 400;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files(folder, "rs")
}

/// The files below a folder of the repository, without those that tools have put there.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["target", "node_modules"].contains(&name) && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|other| other == extension) {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

#[test]
fn every_file_says_what_lives_in_it_and_is_short() {
    for folder in
        ["src", "crates", "tests", "benches", "examples", "tools/load/src", "tools/load/tests"]
    {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{}: does not open with //!", path.display());
            let lines = text.lines().count();
            assert!(lines <= MAX_LINES, "{}: {lines} lines", path.display());
        }
    }
}

/// The modules from bottom to top; each may import those before it, and itself.
const LAYERS: [&str; 21] = [
    "telemetry",
    "secret_url",
    "node",
    "protocol",
    "metrics",
    "memory_budget",
    "sharded",
    "circuit_breaker",
    "directory",
    "lifecycle",
    "delivery",
    "bans",
    "webhooks",
    "login",
    "overlay",
    "broker",
    "cluster",
    "api",
    "gateway",
    "config",
    "http",
];

#[test]
fn imports_go_downwards() {
    for (path, text) in sources("src") {
        let module = path
            .components()
            .nth(1)
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let Some(level) = LAYERS.iter().position(|layer| *layer == module) else {
            assert!(
                ["main", "lib", "server", "internals"].contains(&module.as_str()),
                "{module} has no layer"
            );
            continue;
        };
        for imported in text.split("crate::").skip(1) {
            let name: String =
                imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed =
                LAYERS.iter().position(|layer| *layer == name).is_some_and(|other| other <= level);
            assert!(allowed, "{}: {module} imports {name}", path.display());
        }
    }
}

/// Which crates are known where.
#[test]
fn libraries_stay_where_they_belong() {
    let homes = [
        ("socketioxide", &["gateway"][..]),
        ("socketioxide_core", &["gateway"]),
        ("hyper", &["gateway", "webhooks/client"]),
        ("hyper_util", &["gateway", "webhooks/client"]),
        ("reqwest", &["webhooks", "main/api"]),
        ("redis", &["directory/redis", "directory/tests", "bans/store"]),
        (
            "redis_session",
            &[
                "directory",
                "delivery",
                "bans",
                "broker",
                "cluster",
                "metrics",
                "config",
                "http",
                "lib",
            ],
        ),
        ("rondevu", &["metrics", "config", "http", "server"]),
        ("peer_relay", &["overlay", "metrics", "config", "main"]),
        ("jsonwebtoken", &["login"]),
        ("clap", &["main"]),
        ("clap_complete", &["main"]),
    ];
    for (path, text) in sources("src") {
        for (library, homes) in homes {
            let used = text.contains(&format!("use {library}::"))
                || text.contains(&format!(" ::{library}::"));
            let home = homes.iter().any(|home| {
                path.starts_with(format!("src/{home}"))
                    || path == Path::new(&format!("src/{home}.rs"))
            });
            assert!(!used || home, "{} uses {library}", path.display());
        }
        let config = text.contains("crate::config") || text.contains("crolang_broker::{Config");
        let knows = [
            "src/config",
            "src/config.rs",
            "src/server.rs",
            "src/server",
            "src/main.rs",
            "src/main",
            "src/lib.rs",
            "src/internals.rs",
        ];
        assert!(
            !config || knows.iter().any(|home| path.starts_with(home)),
            "{} knows the configuration",
            path.display()
        );
    }
}

/// The tests that CONTRIBUTING.md names: those in this folder as in
/// `leaving::a_connection_cut_at_any_byte`, those in `src` by their whole path.
#[test]
fn tests_that_promises_are_traced_to_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let (_, promises) = text.split_once("### What is promised").unwrap();
    let (promises, _) = promises.split_once("\n## ").unwrap();
    let mut named = 0;
    for (module, test) in promises.split('`').filter_map(|word| word.rsplit_once("::")) {
        let module = module.replace("::", "/");
        let files = [
            format!("tests/integration/{module}.rs"),
            format!("src/{module}.rs"),
            format!("tests/{module}/main.rs"),
        ];
        let is_there = files.iter().any(|file| {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            source.contains(&format!("fn {test}("))
        });
        assert!(is_there, "{test} is in none of {files:?}");
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}

/// Words that this project does not use, each with the one that it does. `doc/glossary.md` has the
/// words that remain. Decisions are history and keep the words of their time.
const FORBIDDEN_WORDS: [(&str, &str); 20] = [
    ("acquaintance", "known peer"),
    ("by chance", "random"),
    ("comes again", "retries, reconnects"),
    ("come again", "retry, reconnect"),
    ("farewell", "close"),
    ("fate", "outcome"),
    ("given back", "released, returned"),
    ("goodbye", "close"),
    ("hearsay", "candidate"),
    ("ownrtc", "static RTC configuration"),
    ("parcel", "frame"),
    ("patience", "timeout"),
    ("peer = %link", "remote_addr"),
    ("redis is away", "Redis is unavailable"),
    ("sign of life", "heartbeat, liveness"),
    ("signs of life", "heartbeats, liveness"),
    ("thrown out", "disconnected"),
    ("turned away", "rejected"),
    ("upkeep", "maintenance"),
    ("whoever", "anyone who, a node that"),
];

#[test]
fn one_word_per_idea() {
    let mut found = Vec::new();
    for (path, text) in ["rs", "md", "js", "cjs"].into_iter().flat_map(|kind| files("", kind)) {
        let is_exempt = ["doc/decisions", "doc/benchmarks", "tests/integration/tidy.rs"]
            .iter()
            .any(|exempt| path.starts_with(exempt));
        if is_exempt {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (word, instead) in FORBIDDEN_WORDS {
                if is_used(&line, word) {
                    found.push(format!("{}:{}: {word}; say {instead}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether a word is in the line, and not only as a part of a longer one.
fn is_used(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        let behind = line[at + word.len()..].chars().next();
        !is_letter(line[..at].chars().next_back()) && (behind == Some('s') || !is_letter(behind))
    })
}

#[test]
fn a_forbidden_word_is_found_in_names_too() {
    for line in ["its fate", "fn fate_of(", "let fates", "(fate)"] {
        assert!(is_used(line, "fate"), "{line}");
    }
    for line in ["", "fated", "sulfate", "outcome"] {
        assert!(!is_used(line, "fate"), "{line}");
    }
}

/// The text without its fenced code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub forms them.
fn anchors(page: &str) -> HashSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for (path, text) in files("", "md") {
        let page = prose(&text);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let target = root.join(target);
            assert!(target.exists(), "{}: no file for {link}", path.display());
            if !anchor.is_empty() {
                let target = prose(&std::fs::read_to_string(target).unwrap());
                assert!(anchors(&target).contains(anchor), "{}: no {link}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links are checked");
}

/// Comments name pages, which move.
#[test]
fn pages_that_comments_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in ["src", "crates", "tests/integration"].into_iter().flat_map(sources) {
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        for rest in comments.flat_map(|line| line.split("`doc/").skip(1)) {
            let page = format!("doc/{}", rest.split('`').next().unwrap());
            assert!(root.join(&page).exists(), "{}: there is no {page}", path.display());
        }
    }
}
