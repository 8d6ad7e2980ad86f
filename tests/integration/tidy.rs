//! Habits that last because they are executable: the form of the source tree.

use std::path::{Path, PathBuf};

/// A file holds one idea; longer than this it holds two.
const MAX_LINES: usize = 400;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

#[test]
fn every_file_says_what_lives_in_it_and_is_short() {
    for folder in [
        "src",
        "crates",
        "tests/integration",
        "benches",
        "examples",
        "tools/load/src",
        "tools/load/tests",
    ] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{}: does not open with //!", path.display());
            let lines = text.lines().count();
            assert!(lines <= MAX_LINES, "{}: {lines} lines", path.display());
        }
    }
}

/// The modules from bottom to top; each may import those before it, and itself.
const LAYERS: [&str; 18] = [
    "telemetry",
    "secret_url",
    "node",
    "protocol",
    "metrics",
    "sharded",
    "circuit_breaker",
    "redis",
    "directory",
    "delivery",
    "webhooks",
    "overlay",
    "broker",
    "cluster",
    "discovery",
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
                ["main", "lib", "server", "bench_internals"].contains(&module.as_str()),
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
        ("hyper", &["gateway", "webhooks/client"]),
        ("reqwest", &["webhooks"]),
        ("redis", &["redis", "directory", "discovery/store"]),
        ("rusqlite", &["discovery/store"]),
        ("clap", &["main"]),
    ];
    for (path, text) in sources("src") {
        for (library, homes) in homes {
            let used = text.contains(&format!("use {library}::"))
                || text.contains(&format!("use {library}_"));
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
            "src/main.rs",
            "src/main",
            "src/lib.rs",
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
        let files = ["tests/integration", "src"].map(|folder| format!("{folder}/{module}.rs"));
        let is_there = files.iter().any(|file| {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            source.contains(&format!("fn {test}("))
        });
        assert!(is_there, "{test} is in none of {files:?}");
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}
