//! A certificate and its key in files that a test may replace.

use tempfile::TempDir;

/// The files of `TLS_CERT_FILE` and `TLS_KEY_FILE`.
pub struct TlsFiles {
    _folder: TempDir,
    paths: [String; 2],
}

impl TlsFiles {
    /// Two files that are not there yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
        Self { paths: [path("certificate.pem"), path("key.pem")], _folder: folder }
    }

    /// Writes a certificate and its key, in PEM.
    pub fn write(&self, (certificate, key): &(String, String)) {
        for (path, text) in self.paths.iter().zip([certificate, key]) {
            std::fs::write(path, text).unwrap();
        }
    }

    pub fn variables(&self) -> [(&'static str, &str); 2] {
        let [certificate, key] = &self.paths;
        [("TLS_CERT_FILE", certificate), ("TLS_KEY_FILE", key)]
    }
}
