//! The data directory: where it is, and what in it tells clients how to reach the server.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};

/// The directory in which Hangar keeps everything.
#[derive(Debug, Clone)]
pub struct Data {
    root: PathBuf,
}

/// Contents of `server.json`: who serves this directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Base address of its API, `http://127.0.0.1:7171`.
    pub address: String,
    /// Its process.
    pub pid: u32,
}

impl Data {
    /// The directory named on the command line, else the usual place.
    pub fn locate(named: Option<&Path>) -> anyhow::Result<Self> {
        let given =
            |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = || {
            let home = || given("HOME").map(|home| home.join(".local/share"));
            given("XDG_DATA_HOME").or_else(home).map(|base| base.join("hangar"))
        };
        let root = named.map(Path::to_owned).or_else(usual).ok_or_else(|| {
            Failure::new(Exit::Usage, "no data directory: neither HOME nor XDG_DATA_HOME is set")
                .hint("hangar --data /some/directory …")
        })?;
        let root = std::path::absolute(&root)
            .with_context(|| format!("finding the data directory {}", root.display()))?;
        Ok(Self { root })
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes it, readable by its owner only, and finds out whether it can be written.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let attempt = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            let probe = self.root.join(format!(".writable-{}", std::process::id()));
            fs::write(&probe, b"x")?;
            fs::remove_file(&probe)
        };
        attempt().map_err(|error| {
            let text =
                format!("the data directory {} cannot be written: {error}", self.root.display());
            let failure = Failure::new(Exit::Machine, text);
            anyhow::Error::new(failure.hint("choose another with --data, or see hangar doctor"))
        })
    }

    /// The server that runs on it, if one does.
    ///
    /// A file left behind by a killed server names a process that is gone, and does not count.
    pub fn running(&self) -> Option<Running> {
        let text = fs::read_to_string(self.root.join("server.json")).ok()?;
        let running: Running = serde_json::from_str(&text).ok()?;
        Path::new("/proc").join(running.pid.to_string()).exists().then_some(running)
    }

    /// Tells clients where the server is.
    pub fn announce(&self, running: &Running) -> anyhow::Result<()> {
        let text = serde_json::to_vec(running)?;
        self.write_private("server.json", &text)
    }

    /// Takes that back.
    pub fn withdraw(&self) -> io::Result<()> {
        fs::remove_file(self.root.join("server.json"))
    }

    /// The local user's token, if there is one.
    pub fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let path = self.root.join("token");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(SecretString::from(text.trim().to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes a file whole or not at all, readable by its owner only.
    pub fn write_private(&self, name: &str, contents: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join(name);
        let draft = self.root.join(format!(".{name}-{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(contents)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_server_is_found_while_its_process_lives() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = Data::locate(Some(directory.path())).expect("a place");
        assert_eq!(data.running(), None);
        let running = Running { address: "http://127.0.0.1:1".to_owned(), pid: std::process::id() };
        data.announce(&running).expect("written");
        assert_eq!(data.running(), Some(running.clone()));
        // The greatest process id Linux hands out is 4,194,304.
        data.announce(&Running { pid: 4_194_305, ..running }).expect("written");
        assert_eq!(data.running(), None);
    }

    #[test]
    fn what_is_written_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = Data::locate(Some(&directory.path().join("a/b"))).expect("a place");
        data.prepare().expect("made");
        data.write_private("token", b"secret\n").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&data.root().join("token")), 0o600);
        assert_eq!(mode(data.root()), 0o700);
        assert!(data.token().expect("readable").is_some());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, b"").expect("written");
        let data = Data::locate(Some(&file)).expect("a place");
        let error = data.prepare().expect_err("a file is no directory");
        let (lines, exit) = crate::failure::explain(&error);
        assert!(lines[0].contains("cannot be written"), "{lines:?}");
        assert_eq!(exit, Exit::Machine);
    }
}
