//! The keys that secrets are encrypted with: where they come from, which is current, how one joins.
//!
//! A ring is written as `id:base64`, one key a line or between commas; the first is the current one.
//! New values are encrypted with it, older keys only open what they closed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::Error;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// What the file says to whoever opens it.
const PREFACE: &str = "\
# The keys that Hangar's secrets are encrypted with; the first is the current one. Whoever has this
# file and the data directory has the secrets, and without it they are lost: keep a copy elsewhere.
";

/// Where the keys are kept.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A file of Hangar's own, made with a new key if it is missing.
    File(PathBuf),
    /// Given by the operator, as in `HANGAR_SECRET_KEYS`; nothing is written anywhere.
    Given(SecretString),
}

/// One key; its bytes are shown by no formatter.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Key({})", self.id)
    }
}

impl Key {
    fn new() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let mut number = [0; 4];
        let filled = getrandom::fill(&mut *bytes).and_then(|()| getrandom::fill(&mut number));
        filled.map_err(|error| Error::failed("making a key for secrets", error.to_string()))?;
        Ok(Self { id: format!("k{:08x}", u32::from_be_bytes(number)), bytes })
    }
}

/// Every key there is, the current one first.
#[derive(Debug)]
pub(super) struct KeyRing {
    source: KeySource,
    keys: Vec<Key>,
}

impl KeyRing {
    pub(super) fn open(source: KeySource) -> Result<Self, Error> {
        let keys = match &source {
            KeySource::Given(text) => parse(text.expose_secret(), "HANGAR_SECRET_KEYS")?,
            KeySource::File(path) => {
                if let Some(text) = read_private(path)? {
                    parse(&text, &path.display().to_string())?
                } else {
                    let keys = vec![Key::new()?];
                    write(path, &keys)?;
                    keys
                }
            }
        };
        Ok(Self { source, keys })
    }

    pub(super) fn current(&self) -> &Key {
        // A ring without keys is refused when it is read.
        &self.keys[0]
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The keys as text, so that they too are recognised where they must not be.
    pub(super) fn texts(&self) -> impl Iterator<Item = SecretString> {
        self.keys.iter().map(|key| SecretString::from(STANDARD.encode(key.bytes.as_slice())))
    }

    /// Where the keys can be put back, for people.
    pub(super) fn place(&self) -> String {
        match &self.source {
            KeySource::File(path) => path.display().to_string(),
            KeySource::Given(_) => "HANGAR_SECRET_KEYS".to_owned(),
        }
    }

    /// Makes a new key the current one and keeps the others; false where the operator gives the keys.
    pub(super) fn add(&mut self) -> Result<bool, Error> {
        let KeySource::File(path) = &self.source else { return Ok(false) };
        let mut keys = vec![Key::new()?];
        keys.extend(self.keys.iter().cloned());
        write(path, &keys)?;
        self.keys = keys;
        Ok(true)
    }

    /// Forgets keys that nothing needs any more; the current one always stays.
    pub(super) fn keep_only(&mut self, needed: impl Fn(&str) -> bool) -> Result<(), Error> {
        let KeySource::File(path) = &self.source else { return Ok(()) };
        let current = self.current().id.clone();
        let mut keys = self.keys.clone();
        keys.retain(|key| key.id == current || needed(&key.id));
        if keys.len() < self.keys.len() {
            write(path, &keys)?;
            self.keys = keys;
        }
        Ok(())
    }
}

/// Keys from their written form; `place` is where it stands, for people.
fn parse(text: &str, place: &str) -> Result<Vec<Key>, Error> {
    let refused = |what: String| Error::Unavailable {
        what: format!("the keys for secrets in {place} cannot be used: {what}"),
        hint: "write `id:key`, one a line or between commas, each key 32 bytes in base64 \
               (`head -c 32 /dev/urandom | base64`)"
            .to_owned(),
    };
    let mut keys: Vec<Key> = Vec::new();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let written = lines.flat_map(|line| line.split(',')).map(str::trim);
    for (number, one) in written.filter(|one| !one.is_empty()).enumerate() {
        let number = number + 1;
        let no_key = || refused(format!("number {number} is no key"));
        let (id, encoded) = one.split_once(':').ok_or_else(no_key)?;
        let id_is_fine = (1..=32).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !id_is_fine || keys.iter().any(|key| key.id == id) {
            return Err(refused(format!("the id of number {number} is no id or there twice")));
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| no_key())?);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if decoded.len() != KEY_BYTES {
            return Err(refused(format!("number {number} has {} bytes", decoded.len())));
        }
        bytes.copy_from_slice(&decoded);
        keys.push(Key { id: id.to_owned(), bytes });
    }
    if keys.is_empty() {
        return Err(refused("there is none".to_owned()));
    }
    Ok(keys)
}

/// A file's text; none if there is no such file. One that others may read is no secret any more.
fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, Error> {
    let failed = |error| Error::failed(format!("reading {}", path.display()), error);
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(Error::Unavailable {
            what: format!("other users may read or write the keys in {path}"),
            hint: format!(
                "run `chmod 600 {path}`; if somebody may have read it, `hangar secret rotate` and \
                 then set the secrets to new values"
            ),
        });
    }
    fs::read_to_string(path).map(|text| Some(Zeroizing::new(text))).map_err(failed)
}

/// Replaces the file whole or not at all, durably: what is encrypted next must stay readable.
fn write(path: &Path, keys: &[Key]) -> Result<(), Error> {
    let mut text = Zeroizing::new(PREFACE.to_owned());
    for key in keys {
        text.push_str(&key.id);
        text.push(':');
        text.push_str(&Zeroizing::new(STANDARD.encode(key.bytes.as_slice())));
        text.push('\n');
    }
    let draft = path.with_extension("new");
    let directory = path.parent().unwrap_or(Path::new("/"));
    let attempt = || -> io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(directory)?.sync_all()
    };
    attempt().map_err(|error| Error::failed(format!("writing {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret-keys");
        (directory, path)
    }

    #[test]
    fn a_ring_is_made_once_and_grows_by_rotation() {
        let (_directory, path) = file();
        let mut ring = KeyRing::open(KeySource::File(path.clone())).expect("made");
        let first = ring.current().id.clone();
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(ring.add().expect("added"));
        let again = KeyRing::open(KeySource::File(path.clone())).expect("read");
        assert_eq!(again.current().id, ring.current().id);
        assert_eq!(again.get(&first).map(|key| *key.bytes), ring.get(&first).map(|key| *key.bytes));
        ring.keep_only(|_| false).expect("forgotten");
        let again = KeyRing::open(KeySource::File(path)).expect("read");
        assert!(again.get(&first).is_none() && again.current().id == ring.current().id);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_way_out() {
        let (_directory, path) = file();
        KeyRing::open(KeySource::File(path.clone())).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let error = KeyRing::open(KeySource::File(path)).expect_err("readable by others");
        assert!(matches!(error, Error::Unavailable { hint, .. } if hint.contains("chmod 600")));
    }

    #[test]
    fn what_is_given_is_read_strictly_and_never_repeated() {
        let key = STANDARD.encode([7; 32]);
        let given = |text: &str| KeyRing::open(KeySource::Given(text.to_owned().into()));
        let ring = given(&format!("new:{key},old:{key}")).expect("two keys");
        assert_eq!(ring.current().id, "new");
        assert!(!format!("{ring:?}").contains(&key));
        for bad in ["", "new", "new:AAAA", ":x", &format!("a:{key},a:{key}"), &format!("a b:{key}")]
        {
            let error = given(bad).expect_err(bad).to_string();
            assert!(!error.contains("AAAA") && !error.contains(&key), "{error}");
        }
    }
}
