//! The `.env` file, parsed as the original broker parses it, so that existing files still work.
//!
//! The original uses the npm package dotenv: `NAME=value`, with or without quotes, and nothing is
//! substituted. dotenvy requires quotes around more values and substitutes `$NAME`. So every value
//! first gets the quotes and escapes that make dotenvy read what dotenv would. Two rules are
//! stricter: a line without an assignment is an error, and `#` begins a comment only after a blank.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::ConfigError;

const BLANKS: [char; 2] = [' ', '\t'];

/// A line that dotenvy refuses.
const NO_ASSIGNMENT: &str = "?\n";

/// The variables in a `.env` file; none if there is no such file.
pub(super) fn read_env_file(path: &Path) -> (HashMap<String, String>, Option<ConfigError>) {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (HashMap::new(), None),
        Err(_) => return (HashMap::new(), Some(error("cannot be read"))),
    };
    match String::from_utf8(content) {
        Ok(text) => env_variables(&text),
        Err(_) => (HashMap::new(), Some(error("cannot be read as text"))),
    }
}

/// The error does not show the line, which may contain a secret.
fn error(problem: &str) -> ConfigError {
    ConfigError {
        variable: ".env",
        problem: problem.into(),
        allowed: "a readable file of lines NAME=value in UTF-8, or none",
    }
}

/// The variables in the text of a `.env` file: those before the first line that is no assignment.
pub(crate) fn env_variables(text: &str) -> (HashMap<String, String>, Option<ConfigError>) {
    let mut variables = HashMap::new();
    for line in dotenvy::from_read_iter(with_quotes(text).as_bytes()) {
        match line {
            Ok((name, value)) => drop(variables.insert(name, value)),
            Err(_) => return (variables, Some(error("has a line that is not NAME=value"))),
        }
    }
    (variables, None)
}

/// The same assignments, each on a line of its own, with their values in quotes. What is no
/// assignment stays none and ends the text, as it ends the reading.
fn with_quotes(text: &str) -> String {
    let mut quoted = String::new();
    // Windows editors begin a file with a byte order mark.
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while !rest.is_empty() {
        if rest.starts_with('#') {
            rest = behind_line(rest).trim_start();
            continue;
        }
        let Some(assignment) = Assignment::parse(rest) else {
            quoted.push_str(NO_ASSIGNMENT);
            break;
        };
        rest = assignment.rest.trim_start();
        // No variable here has such a name, and dotenvy knows none.
        if !assignment.name.starts_with(is_letter) || assignment.name.contains(['-', '.']) {
            continue;
        }
        quoted.push_str(assignment.name);
        quoted.push_str("=\"");
        for c in assignment.value.chars() {
            match c {
                '\\' | '"' | '$' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                c => quoted.push(c),
            }
        }
        quoted.push_str("\"\n");
    }
    quoted
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// One `NAME=value`.
struct Assignment<'a> {
    name: &'a str,
    value: String,
    /// What follows its last line.
    rest: &'a str,
}

impl<'a> Assignment<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let exported = text.strip_prefix("export").filter(|text| text.starts_with(BLANKS));
        let text = exported.unwrap_or(text).trim_start_matches(BLANKS);
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)))?;
        let (name, behind) = text.split_at(end);
        let value = match behind.strip_prefix(':') {
            Some(value) => value.starts_with(BLANKS).then_some(value),
            None => behind.trim_start_matches(BLANKS).strip_prefix('='),
        }?;
        let value = value.trim_start_matches(BLANKS);
        let (value, rest) = match value.chars().next() {
            Some(quote @ ('\'' | '"' | '`')) => quoted(value, quote)?,
            _ => unquoted(value),
        };
        (!name.is_empty()).then_some(Self { name, value, rest })
    }
}

/// The value that begins with `quote`, over one or more lines; `None` if the quote is not closed or
/// is followed by anything but a comment.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let inside = text.strip_prefix(quote)?;
    let is_escaped = |at: usize| inside.get(..at).is_some_and(|before| before.ends_with('\\'));
    let end = inside.match_indices(quote).map(|(at, _)| at).find(|at| !is_escaped(*at))?;
    let (value, behind) = inside.split_at(end);
    let behind = behind.strip_prefix(quote)?;
    let line = behind.lines().next().unwrap_or_default().trim_start();
    if !line.is_empty() && !line.starts_with('#') {
        return None;
    }
    // Only there, and only these.
    let value = match quote {
        '"' => value.replace("\\n", "\n").replace("\\r", "\r"),
        _ => value.to_owned(),
    };
    Some((value, behind_line(behind)))
}

/// The value up to the line's end or a comment, without blanks at its ends.
fn unquoted(text: &str) -> (String, &str) {
    let line = text.lines().next().unwrap_or_default();
    let is_comment = |at: usize| line.get(..at).is_none_or(|b| b.is_empty() || b.ends_with(BLANKS));
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    let value = comment.and_then(|at| line.get(..at)).unwrap_or(line);
    (value.trim().to_owned(), behind_line(text))
}

/// What follows the first line.
fn behind_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of a file with this content, in the order of their names, or the error.
    fn read(content: &[u8]) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, content).unwrap();
        let (variables, error) = read_env_file(&path);
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        error.map_or(Ok(variables), |error| Err(error.to_string()))
    }

    fn value(content: &str) -> String {
        let variables = read(content.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(variables.len(), 1, "{content:?}: {variables:?}");
        variables[0].1.clone()
    }

    #[test]
    fn files_are_read_line_by_line() {
        let content = "\u{feff}# comment\r\nPORT=9090\r\n\r\nexport HOST='::1' # here\r\n  REDIS_URL=\r\nA-b.c: d\r\n1=2\r\nPORT=1";
        let expected = [("HOST", "::1"), ("PORT", "1"), ("REDIS_URL", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(content.as_bytes()), Ok(expected.to_vec()));
        assert_eq!(read(b""), Ok(vec![]));
        assert_eq!(read(b" \n# PORT=1"), Ok(vec![]));
    }

    #[test]
    fn values_without_quotes_are_taken_as_they_are() {
        for (content, expected) in [
            ("A=b", "b"),
            ("A = b c\t", "b c"),
            ("A=b # c", "b"),
            ("A=b#c", "b#c"),
            ("A=# c", ""),
            ("A=", ""),
            ("A=it's", "it's"),
            ("A=b\\", "b\\"),
            ("A=\\\"b\\n\\$\\\\", "\\\"b\\n\\$\\\\"),
            ("A={\"b\": \"c\"}", "{\"b\": \"c\"}"),
            ("A=C:\\new\\dir", "C:\\new\\dir"),
            ("A=redis://:pa$HOME${X}@h/?a=b&c", "redis://:pa$HOME${X}@h/?a=b&c"),
            ("exported=1", "1"),
            ("export\tA=1", "1"),
        ] {
            assert_eq!(value(content), expected, "{content}");
        }
    }

    #[test]
    fn quotes_keep_blanks_comments_and_lines() {
        for (content, expected) in [
            ("A=' b # c '", " b # c "),
            ("A=\"b\"# c", "b"),
            ("A=`it's \"b\"` # c", "it's \"b\""),
            ("A='b\nc'", "b\nc"),
            ("A=\"b\\nc\\r\\t$X\"", "b\nc\r\\t$X"),
            ("A='b\\nc'", "b\\nc"),
            ("A='b\\'c'", "b\\'c"),
            ("A=''", ""),
        ] {
            assert_eq!(value(content), expected, "{content}");
        }
    }

    #[test]
    fn what_is_no_assignment_is_an_error_that_shows_no_secret() {
        for content in [
            "REDIS_URL redis://:hunter2@h\n",
            "PORT=1\nhunter2",
            "=hunter2",
            "A:hunter2",
            "A='hunter2",
            "A=\"hunter2\" b",
            "export",
            "ä=hunter2",
            "; hunter2",
        ] {
            let error = read(content.as_bytes()).unwrap_err();
            assert!(error.starts_with(".env: has a line that is not NAME=value"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(read(b"PORT=\xff\n").unwrap_err().starts_with(".env: cannot be read"));
        let folder = tempfile::tempdir().unwrap();
        assert!(read_env_file(folder.path()).1.is_some(), "a directory is no file");
        assert_eq!(read_env_file(&folder.path().join("none")), (HashMap::new(), None));
    }
}
