//! What is said of a variable.

use super::secret_files::secret_file_of;

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

impl Variable {
    /// Returns the variable that names a file with this one's value; `None` if it holds no secret.
    pub fn file(&self) -> Option<&'static str> {
        secret_file_of(self.name)
    }
}
