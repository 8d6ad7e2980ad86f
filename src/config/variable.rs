//! What is said of a variable.

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value where nothing is set; empty for "not set".
    pub default: &'static str,
    /// What it may be set to.
    pub allowed: &'static str,
    /// What it does.
    pub about: &'static str,
}
