//! The file with the local user's token, which command-line clients on the same machine read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::access::new_secret;

/// The token could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Others could have read or written the token.
    #[error(
        "the token file `{}` is open to other users (mode {mode:03o}): remove it, and a new one is made at the next start",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the token file `{}` does not hold 64 hexadecimal digits: remove it, and a new one is made at the next start",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read or written.
    #[error("reading or making the token file `{}` failed: check that its directory exists and may be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no random numbers.
    #[error("making a token failed")]
    Random(#[source] getrandom::Error),
}

/// The token in the file; a new one, readable by its owner alone, if there is no file.
pub fn read_or_create(path: &Path) -> Result<SecretString, Error> {
    match create(path) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists => read(path),
        result => result,
    }
}

/// The token in the file.
pub fn read(path: &Path) -> Result<SecretString, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text).map_err(failed)?;
    let token = text.trim();
    if token.len() != 64 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Damaged { path: path.to_owned() });
    }
    Ok(token.to_owned().into())
}

/// Writes the whole file under another name first: a crash leaves no half of a token.
fn create(path: &Path) -> Result<SecretString, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    if path.try_exists().map_err(failed)? {
        return Err(failed(ErrorKind::AlreadyExists.into()));
    }
    let token = new_secret().map_err(Error::Random)?;
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    writeln!(file, "{}", token.expose_secret()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_for_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let token = read_or_create(&path).expect("made");
        assert_eq!(token.expose_secret().len(), 64);
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        let again = read_or_create(&path).expect("read");
        assert_eq!(again.expose_secret(), token.expose_secret());
        assert_eq!(directory.path().read_dir().expect("a list").count(), 1);
    }

    #[test]
    fn a_token_others_could_read_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        read_or_create(&path).expect("made");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("opened");
        let error = read_or_create(&path).expect_err("refused");
        assert!(error.to_string().contains("mode 644"), "{error}");
    }

    #[test]
    fn a_damaged_token_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        for text in ["", "short", &"x".repeat(64)] {
            let _ = std::fs::remove_file(&path);
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).mode(0o600).open(&path).expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            assert!(matches!(read_or_create(&path), Err(Error::Damaged { .. })), "{text}");
        }
        assert!(matches!(read(&directory.path().join("no")), Err(Error::File { .. })));
    }
}
