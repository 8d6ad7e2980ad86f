//! An ID that is kept in a file: others can name the peer in their settings.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::id::PeerId;

/// Why the ID in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdFileError {
    /// The file is there and cannot be read.
    #[error("cannot read the peer's ID in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold a peer's ID (40 hexadecimal digits)")]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// The file is not there and cannot be written.
    #[error("cannot write the peer's ID to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl PeerId {
    /// Reads the ID in a file, or writes a random one if there is no such file. Only the file's owner
    /// can read it: who has a peer's ID can take its place while it is away.
    ///
    /// # Errors
    /// See [`IdFileError`].
    pub fn in_file(path: &Path) -> Result<Self, IdFileError> {
        if let Some(id) = read(path)? {
            return Ok(id);
        }
        let id = Self::random(&mut rand::rng());
        match create(path, &id) {
            Ok(()) => Ok(id),
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read(path)?.ok_or_else(|| write_error(path, error))
            }
            Err(error) => Err(write_error(path, error)),
        }
    }
}

fn write_error(path: &Path, source: io::Error) -> IdFileError {
    IdFileError::Write { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<PeerId>, IdFileError> {
    match fs::read(path) {
        Ok(bytes) => {
            let id = str::from_utf8(&bytes).ok().and_then(|text| PeerId::parse(text.trim()).ok());
            id.map(Some).ok_or_else(|| IdFileError::Invalid { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdFileError::Read { path: path.to_owned(), source }),
    }
}

/// Creates the file with all of its content, or not at all.
fn create(path: &Path, id: &PeerId) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{:016x}", rand::random::<u64>()));
    let temporary = path.with_file_name(temporary_name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|file| write(file, id)).and_then(|()| {
        // Unlike a rename, this replaces no file that another process has made.
        fs::hard_link(&temporary, path)
    });
    let _ = fs::remove_file(&temporary);
    written
}

fn write(mut file: File, id: &PeerId) -> io::Result<()> {
    writeln!(file, "{id}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_created_once_and_then_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        let id = PeerId::in_file(&path).unwrap();
        assert_eq!(PeerId::in_file(&path).unwrap(), id);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{id}\n"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn of_many_that_begin_together_all_have_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        let ids: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> =
                (0..8).map(|_| scope.spawn(|| PeerId::in_file(&path).unwrap())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn what_cannot_be_used_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        for content in ["", "x", "ab\n", &"g".repeat(40)] {
            fs::write(&path, content).unwrap();
            assert!(matches!(PeerId::in_file(&path), Err(IdFileError::Invalid { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let directory = directory.path();
        assert!(matches!(PeerId::in_file(directory), Err(IdFileError::Read { .. })));
        let missing = directory.join("missing").join("id");
        assert!(matches!(PeerId::in_file(&missing), Err(IdFileError::Write { .. })));
    }
}
