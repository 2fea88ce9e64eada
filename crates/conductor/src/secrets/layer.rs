//! Looks through what a build wrote, before it becomes a layer that every session can read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use protocol::secret::SecretName;
use secrecy::SecretString;

use super::named;
use crate::Error;
use crate::redaction::{Redactor, Scanner};

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// Refuses a directory in which a file, a name or a link's target holds one of these values.
pub(crate) async fn refuse_known(
    directory: PathBuf,
    values: &[(SecretName, SecretString)],
) -> Result<(), Error> {
    let values: Vec<_> = values.iter().map(|(name, value)| named(name, value)).collect();
    let looking = tokio::task::spawn_blocking(move || look(&directory, &Redactor::new(&values)));
    let doing = "looking for secrets in what the build wrote";
    let found = looking.await.map_err(|error| Error::failed(doing, error))?;
    match found.map_err(|error| Error::failed(doing, error))? {
        None => Ok(()),
        Some((path, secret)) => Err(Error::Unavailable {
            what: format!(
                "the build wrote the secret {secret} to /{}, where every session could read it",
                path.display()
            ),
            hint: "have the build remove it, or deliver the secret as a placeholder".to_owned(),
        }),
    }
}

/// The first path with a value in it, below `root`, and which. The sandbox has ended, so that
/// nothing is exchanged while this looks; no link is followed.
fn look(root: &Path, values: &Redactor) -> io::Result<Option<(PathBuf, String)>> {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            let kind = entry?;
            let inside = path.strip_prefix(root).unwrap_or(&path).to_owned();
            let mut found = values.find(path.file_name().unwrap_or_default().as_bytes());
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path)?;
                found = found.or_else(|| values.find(target.as_os_str().as_bytes()));
            } else if kind.is_file() && found.is_none() {
                found = in_file(&path, values)?;
            }
            if let Some(secret) = found {
                return Ok(Some((inside, secret.to_owned())));
            }
        }
    }
    Ok(None)
}

fn in_file<'a>(path: &Path, values: &'a Redactor) -> io::Result<Option<&'a str>> {
    let mut file = File::open(path)?;
    let mut scanner = Scanner::new(values);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(None),
            count => {
                if let Some(secret) = scanner.feed(&piece[..count]) {
                    return Ok(Some(secret));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plant = fn(&Path) -> io::Result<()>;

    #[tokio::test]
    async fn a_value_is_found_in_files_names_and_links() {
        let values = [("TOKEN".parse().expect("a name"), SecretString::from("the-value-itself"))];
        let plant: [(&str, Plant); 4] = [
            ("a file", |path| {
                let text = "x".repeat(PIECE - 5) + "the-value-itself";
                std::fs::write(path.join("deep/file"), text)
            }),
            ("base64", |path| std::fs::write(path.join("deep/file"), "eDp0aGUtdmFsdWUtaXRzZWxm")),
            ("a name", |path| std::fs::write(path.join("deep/the-value-itself"), "")),
            ("a link", |path| std::os::unix::fs::symlink("/the-value-itself", path.join("deep/l"))),
        ];
        for (what, plant) in plant {
            let directory = tempfile::tempdir().expect("a directory");
            std::fs::create_dir(directory.path().join("deep")).expect("made");
            std::os::unix::fs::symlink("/", directory.path().join("root")).expect("a link");
            let clean = refuse_known(directory.path().to_owned(), &values).await;
            clean.expect("nothing is there yet, and the link is not followed");
            plant(directory.path()).expect("planted");
            let error = refuse_known(directory.path().to_owned(), &values).await.expect_err(what);
            let text = error.to_string();
            assert!(text.contains("TOKEN") && text.contains("/deep/"), "{what}: {text}");
        }
    }
}
