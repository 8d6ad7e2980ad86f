//! Which nodes an operator supports, by their platform and the version of their library.

use std::str::FromStr;

use semver::Version;

use super::Handshake;

/// The nodes that may connect (`ALLOWED_RUNTIMES`, `MIN_NODE_VERSION`); all of them by default.
#[derive(Debug, Clone, Default)]
pub struct SupportedNodes {
    /// The platforms, in any case; `None` for all.
    pub runtimes: Option<Vec<String>>,
    /// The oldest version.
    pub min_version: Option<NodeVersion>,
}

/// A version by the rules of Semantic Versioning, whose later numbers may be left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeVersion(Version);

impl FromStr for NodeVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
        let zeros = match numbers.split('.').count() {
            1 => ".0.0",
            2 => ".0",
            _ => "",
        };
        Version::parse(&format!("{numbers}{zeros}{rest}")).map(Self).map_err(|_| ())
    }
}

impl SupportedNodes {
    /// Whether the node that introduces itself so is one of them. Where a version is required, one
    /// that cannot be read is too old.
    pub(crate) fn include(&self, handshake: &Handshake) -> bool {
        let has_runtime = self.runtimes.as_ref().is_none_or(|runtimes| {
            runtimes.iter().any(|runtime| runtime.eq_ignore_ascii_case(&handshake.runtime))
        });
        has_runtime
            && self.min_version.as_ref().is_none_or(|least| {
                handshake.version.parse::<NodeVersion>().is_ok_and(|version| version >= *least)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(supported: &SupportedNodes, runtime: &str, version: &str) -> bool {
        let query = format!("id=a&version={version}&runtime={runtime}");
        supported.include(&Handshake::parse(&query, 0).unwrap())
    }

    #[test]
    fn all_nodes_are_supported_by_default() {
        for (runtime, version) in [("JVM", "0.2.2-alpha"), ("", ""), ("x", "new")] {
            assert!(includes(&SupportedNodes::default(), runtime, version));
        }
    }

    #[test]
    fn runtimes_are_compared_in_any_case() {
        let runtimes = Some(vec!["JVM".to_owned(), "nodejs".to_owned()]);
        let supported = SupportedNodes { runtimes, ..SupportedNodes::default() };
        for (runtime, expected) in
            [("jvm", true), ("NodeJS", true), ("BROWSER", false), ("", false)]
        {
            assert_eq!(includes(&supported, runtime, "1"), expected, "{runtime}");
        }
    }

    #[test]
    fn versions_have_the_order_of_semantic_versioning() {
        let supported = |least: &str| SupportedNodes {
            min_version: Some(least.parse().unwrap()),
            ..SupportedNodes::default()
        };
        for (least, version, expected) in [
            ("1.2.0", "1.2.0", true),
            ("1.2", "1.10.0", true),
            ("1", "1", true),
            ("1.2.0", "1.2.0-beta", false),
            ("1.2.0-alpha", "1.2.0-beta", true),
            ("0.1.0-beta", "0.2.2-alpha", true),
            ("1.2.0", "1.1.9", false),
            ("0", "", false),
            ("0", "newest", false),
            ("0", "1.2.3.4", false),
        ] {
            assert_eq!(includes(&supported(least), "JVM", version), expected, "{least} {version}");
        }
    }
}
