//! What the documentation names is in the tree: files, modules, types, functions, metrics.

use std::collections::HashSet;
use std::path::Path;

use crolang_broker::described_metrics;

use super::{LAYERS, files, prose};

/// The pages that describe the code, where identifiers are checked too.
const CODE_PAGES: [&str; 3] = ["CONTRIBUTING.md", "doc/explanation", "src/lib.rs"];

/// History, which keeps the names of its time; and what describes other trees.
const EXEMPT: [&str; 4] = ["CHANGELOG.md", "doc/decisions", "doc/benchmarks", "crates"];

/// Where a path on a page may begin, beside the page's folder and the sources of each crate.
const FOLDERS: [&str; 3] = ["", "src", "tests/integration"];

#[test]
fn files_and_identifiers_that_pages_name_are_there() {
    let code = identifiers();
    let mut folders: Vec<_> = FOLDERS.map(str::to_owned).into();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        folders.push(format!("crates/{}/src", entry.unwrap().file_name().to_str().unwrap()));
    }
    let mut checked = 0;
    for (page, text) in ["md", "rs"].into_iter().flat_map(|kind| files("", kind)) {
        let is_about_code = CODE_PAGES.iter().any(|start| page.starts_with(start));
        let is_page = page.extension().is_some_and(|kind| kind == "md") || is_about_code;
        if !is_page || EXEMPT.iter().any(|start| page.starts_with(start)) {
            continue;
        }
        folders.push(page.parent().unwrap().to_str().unwrap().to_owned());
        for name in quoted(&prose(&text)) {
            let is_there = if is_file(name) || is_about_code && is_path(name) {
                exists(name, &folders)
            } else if is_about_code && is_identifier(name) {
                words(name).all(|word| code.contains(word))
            } else {
                continue;
            };
            assert!(is_there, "{}: there is no `{name}`", page.display());
            checked += 1;
        }
        folders.pop();
    }
    assert!(checked > 200, "only {checked} names are checked");
}

#[test]
fn the_code_map_lists_the_modules_in_their_order() {
    let page = std::fs::read_to_string(root().join("doc/explanation/architecture.md")).unwrap();
    let (_, map) = page.split_once("| module |").unwrap();
    let (table, _) = map.split_once("\n\n").unwrap();
    let modules: Vec<_> =
        table.split("\n| `").skip(1).map(|row| words(row).next().unwrap()).collect();
    assert_eq!(modules, LAYERS);
}

#[test]
fn metrics_that_pages_name_are_counted() {
    let (prefix, metrics) = described_metrics();
    let names: HashSet<_> = metrics.iter().map(|metric| metric.name).collect();
    let mut checked = 0;
    for (page, text) in files("", "md") {
        for rest in text.split(&format!("{prefix}_")).skip(1) {
            let name = words(rest).next().filter(|name| rest.starts_with(name)).unwrap_or_default();
            let is_module = ["broker", ""].contains(&name);
            let is_counted = ["", "_total", "_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(end).is_some_and(|name| names.contains(name)));
            assert!(is_module || is_counted, "{}: no metric {prefix}_{name}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} metrics are checked");
}

#[test]
fn a_name_that_is_nowhere_is_noticed() {
    assert!(is_file("src/nowhere.rs") && is_path("broker/session"));
    assert!(!exists("src/nowhere.rs", &["".into()]));
    assert!(exists("broker/session", &["src/".into()]) && exists("tests/*.rs", &["".into()]));
    assert!(!exists("tests/nowhere_*.rs", &["".into()]));
    // Joined at run time, or it would be in the code.
    assert!(is_identifier("Type::method") && !identifiers().contains(&["No", "Where"].concat()));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every identifier in the code of all languages, without comments.
fn identifiers() -> HashSet<String> {
    let kinds = ["rs", "lua", "js", "mjs", "toml", "yml"];
    let texts = kinds.into_iter().flat_map(|kind| files("", kind));
    let mut found = HashSet::new();
    for (_, text) in texts {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.extend(code.flat_map(words).map(str::to_owned));
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The back-quoted words of a page, without those that are several words.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2).filter(|name| !name.contains(char::is_whitespace))
}

fn is_file(name: &str) -> bool {
    let is_relative = name.starts_with(|c: char| c.is_alphanumeric());
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "./*_-".contains(c));
    let kinds = ["rs", "md", "lua", "toml"];
    is_relative && is_plain && kinds.iter().any(|kind| name.ends_with(&format!(".{kind}")))
}

/// A file, a folder or a module with its folder.
fn is_path(name: &str) -> bool {
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "./_-".contains(c));
    is_file(name) || is_plain && name.starts_with(char::is_alphabetic) && name.contains('/')
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic())
        && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
}

/// Whether a path, which may have one `*` in its file name, is below one of the folders.
fn exists(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| {
        let path = root().join(folder).join(path);
        if path.exists() || path.with_extension("rs").exists() {
            return true;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((start, end)) = name.split_once('*') else { return false };
        let entries = path.parent().and_then(|parent| std::fs::read_dir(parent).ok());
        entries.into_iter().flatten().any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str().is_some_and(|name| name.starts_with(start) && name.ends_with(end))
        })
    })
}
