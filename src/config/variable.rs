//! The description of a variable.

use super::secret_files::secret_file_of;

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The name.
    pub name: &'static str,
    /// The default value; empty for "not set".
    pub default: &'static str,
    /// The allowed values.
    pub allowed: &'static str,
    /// The description.
    pub about: &'static str,
}

impl Variable {
    /// Returns the variable that names a file with this one's value; `None` if it holds no secret.
    pub fn file(&self) -> Option<&'static str> {
        secret_file_of(self.name)
    }
}
