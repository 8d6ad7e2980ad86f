//! TLS without a proxy: the certificate that clients are shown, and how it is replaced.
//!
//! The files are read again when one of them changes, and on request. Connections keep what their
//! handshake was made with. If the new files cannot be used, the old certificate stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::metrics::Metrics;

/// The time between two looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The most bytes that a connection encrypts ahead of a client that does not read: one full record.
const MAX_BUFFERED_BYTES: usize = 16 * 1024;

/// What is spoken within TLS: the name that clients may ask for by ALPN.
const PROTOCOL: &[u8] = b"http/1.1";

/// The files that TLS needs, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those of the authorities that lead to a known one.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificates of those who sign the certificates of clients. If set, every client needs one.
    pub client_authorities: Option<PathBuf>,
}

/// Why the files of [`TlsFiles`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {problem}")]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    problem: String,
}

impl TlsError {
    fn new(path: &Path, problem: impl ToString) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl TlsFiles {
    /// Reads the files, and checks that they belong together.
    ///
    /// # Errors
    /// [`TlsError`] with the file that is missing or wrong.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| TlsError::new(&self.key, "the file has no private key in PEM"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(&self.certificate, error))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| TlsError::new(path, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error| TlsError::new(path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::new(
                &self.key,
                format!("the key is not that of the certificate in {:?}", self.certificate),
            ),
            rustls::Error::InvalidCertificate(_) => TlsError::new(&self.certificate, error),
            error => TlsError::new(&self.key, error),
        })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Clients that reconnect skip the costly half of the handshake. Each load has new ticket
        // keys: a ticket must not outlive the authority that its client was checked by.
        config.ticketer =
            ring::Ticketer::new().map_err(|error| TlsError::new(&self.certificate, error))?;
        Ok(Arc::new(config))
    }

    /// Returns what changes if a file is written or replaced, also by a symbolic link.
    fn stamps(&self) -> Stamps {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        paths.map(|path| {
            let file = fs::metadata(path?).ok()?;
            Some((file.modified().ok(), file.len(), file.dev(), file.ino()))
        })
    }
}

/// Of each file: when it was written, its length, its device and its inode.
type Stamps = [Option<(Option<SystemTime>, u64, u64, u64)>; 3];

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::new(path, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match parsed {
        Ok(parsed) if !parsed.is_empty() => Ok(parsed),
        _ => Err(TlsError::new(path, "the file has no certificate in PEM, or a broken one")),
    }
}

/// What new connections are secured with; a cheap handle.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    stamps: RwLock<Stamps>,
    config: RwLock<Arc<ServerConfig>>,
    metrics: Metrics,
}

impl Tls {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// See [`TlsFiles::load`].
    pub(crate) fn load(files: TlsFiles, metrics: Metrics) -> Result<Self, TlsError> {
        // Before the files are read, so that no change after it goes unnoticed.
        let stamps = files.stamps().into();
        let config = files.load()?.into();
        Ok(Self(Arc::new(Inner { files, stamps, config, metrics })))
    }

    /// Loads the files again whenever one of them changes. Never ends.
    pub(crate) async fn reload_on_change(self) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let tls = self.clone();
            // The files may be on a file system that hangs.
            let check = move || {
                if tls.0.files.stamps()
                    != *tls.0.stamps.read().unwrap_or_else(PoisonError::into_inner)
                {
                    tls.reload();
                }
            };
            let _ = tokio::task::spawn_blocking(check).await;
        }
    }

    /// Loads the files again, for new connections. If they cannot be used, nothing changes.
    pub(crate) fn reload(&self) {
        let Inner { files, stamps, config, metrics } = &*self.0;
        *stamps.write().unwrap_or_else(PoisonError::into_inner) = files.stamps();
        let outcome = match files.load() {
            Ok(loaded) => {
                *config.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                tracing::info!(certificate = ?files.certificate, "TLS certificate loaded");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "TLS files not usable, the old certificate is kept");
                "failed"
            }
        };
        metrics.tls_reloads.inc([outcome]);
    }

    /// Begins the handshake with a client that has already sent `read_ahead`.
    pub(super) fn accept(&self, stream: TcpStream, mut read_ahead: &[u8]) -> Accept<TcpStream> {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept_with(stream, |session| {
            session.set_buffer_limit(Some(MAX_BUFFERED_BYTES));
            while !read_ahead.is_empty() {
                // The session remembers an error, and the handshake fails with it.
                if session.read_tls(&mut read_ahead).is_err()
                    || session.process_new_packets().is_err()
                {
                    break;
                }
            }
        })
    }

    /// Counts a handshake.
    pub(super) fn handshake(&self, outcome: &'static str) {
        self.0.metrics.tls_handshakes.inc([outcome]);
    }
}
