//! Reading, listing and writing the sandbox's files, with the agent's rights.
//!
//! The agent may replace any path by a link at any moment, and agentd holds capabilities. So agentd
//! itself opens no file for the host: a confined process does, which can reach through a link only
//! what the agent can reach anyway.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::agentd::{Listing, ListingEntry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::body::{Body, streamed};
use crate::children::{Children, Program, Running, What};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not a path from the root.
    #[error("`{0}` is no absolute path; give the path from the root, like /workspace/README.md")]
    Relative(String),
    /// The confined process could not be started.
    #[error(transparent)]
    Start(#[from] crate::children::Error),
    /// The confined process says why.
    #[error("{0}")]
    Refused(String),
    /// The pipe to the confined process broke.
    #[error("passing bytes to or from the process that opens the file")]
    Pipe(#[source] io::Error),
    /// The client sent no complete body.
    #[error("receiving the file's new bytes: {0}")]
    Upload(String),
}

/// What a path held.
pub(crate) enum Found {
    /// A file's bytes.
    File(Body),
    /// A directory's [`Listing`], as JSON.
    Directory(Body),
}

const BYTES: u8 = b'f';
const LISTING: u8 = b'd';

/// Bytes of one chunk on its way.
const CHUNK: usize = 64 * 1024;

fn start(children: &Arc<Children>, verb: &'static str, path: &str) -> Result<Running, Error> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::Relative(path.to_owned()));
    }
    let what = What::Files { verb, path: PathBuf::from(path) };
    let program = Program { what, directory: Some("/".into()), ..Program::default() };
    let mut prepared = children.prepare(&program)?;
    prepared.command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(children.start(prepared)?)
}

/// The bytes of a file, or the entries of a directory.
pub(crate) async fn get(children: &Arc<Children>, path: &str) -> Result<Found, Error> {
    let mut running = start(children, "get", path)?;
    let Some(mut stdout) = running.child.stdout.take() else {
        return Err(Error::Pipe(io::ErrorKind::BrokenPipe.into()));
    };
    let mut kind = [0];
    if stdout.read_exact(&mut kind).await.is_err() {
        return Err(refusal(running).await);
    }
    let (writer, body) = streamed();
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
            if writer.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                return;
            }
        }
        let _ = running.wait().await;
    });
    Ok(if kind == [LISTING] { Found::Directory(body) } else { Found::File(body) })
}

/// Replaces a file's bytes; directories above it are made.
pub(crate) async fn put(
    children: &Arc<Children>,
    path: &str,
    mut bytes: Incoming,
) -> Result<(), Error> {
    // Declared first, so that it closes last: a process that is killed because the client went away
    // must not take the closing for the end of the bytes.
    let mut stdin;
    let mut running = start(children, "put", path)?;
    stdin = running.child.stdin.take();
    while let Some(frame) = bytes.frame().await {
        let frame = frame.map_err(|error| Error::Upload(error.to_string()))?;
        let (Ok(chunk), Some(stdin)) = (frame.into_data(), stdin.as_mut()) else { continue };
        if stdin.write_all(&chunk).await.is_err() {
            return Err(refusal(running).await);
        }
    }
    drop(stdin.take());
    let status = running.started().await;
    status.map_err(|error| Error::Refused(error.to_string()))?;
    running.wait().await.map_err(Error::Pipe)?;
    Ok(())
}

async fn refusal(mut running: Running) -> Error {
    match running.started().await {
        Err(error) => Error::Refused(crate::text::chain(&error)),
        Ok(()) => Error::Pipe(io::ErrorKind::BrokenPipe.into()),
    }
}

/// The shim's side: carries out a verb in the confined process.
pub(crate) fn perform(verb: &OsStr, path: &Path) -> Result<(), String> {
    let (doing, result) = match verb.to_str() {
        Some("get") => ("reading", write_out(path)),
        Some("put") => ("writing", take_in(path)),
        Some("copy-index") => ("copying git's index to", copy_index(path)),
        Some("unlock") => ("unlocking", missing_is_fine(fs::remove_file(with_lock(path)))),
        Some("take-index") => ("putting git's index in place from", take_index(path)),
        _ => return Err(format!("files know no verb `{}`", verb.to_string_lossy())),
    };
    result.map_err(|error| format!("{doing} {}: {error}", path.display()))
}

fn write_out(path: &Path) -> io::Result<()> {
    let mut output = io::stdout().lock();
    // A pipe or device would be waited for without end.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        let listing = serde_json::to_vec(&list(path)?)?;
        output.write_all(&[LISTING])?;
        output.write_all(&listing)?;
    } else if kind.is_file() {
        let mut file = File::open(path)?;
        output.write_all(&[BYTES])?;
        io::copy(&mut file, &mut output)?;
    } else {
        return Err(io::Error::other("it is neither a file nor a directory"));
    }
    output.flush()
}

fn list(path: &Path) -> io::Result<Listing> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        // Of the entry itself, so that a link out of the tree is a link. It may be gone already.
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_file() => "file",
            kind if kind.is_dir() => "directory",
            kind if kind.is_symlink() => "symlink",
            _ => "other",
        };
        entries.push(ListingEntry {
            name: crate::text::escaped(name.as_bytes()),
            kind: kind.to_owned(),
            size: metadata.len(),
        });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Listing { entries })
}

fn take_in(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::other("it names no file"))?);
    name.push(format!(".hangar-{}", std::process::id()));
    let beside = parent.join(name);
    let mut file = File::create_new(&beside)?;
    let written = io::copy(&mut io::stdin().lock(), &mut file).and_then(|_| {
        if let Ok(old) = fs::metadata(path) {
            fs::set_permissions(&beside, old.permissions())?;
        }
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Copies the index beside `path` to it; without one, there is none afterwards.
fn copy_index(path: &Path) -> io::Result<()> {
    // Of a git command that was killed: nobody else uses this name.
    missing_is_fine(fs::remove_file(with_lock(path)))?;
    missing_is_fine(fs::remove_file(path))?;
    missing_is_fine(fs::copy(path.with_file_name("index"), path).map(drop))
}

/// Makes `path` the index, also where a killed git command left its lock.
fn take_index(path: &Path) -> io::Result<()> {
    let index = path.with_file_name("index");
    fs::rename(path, &index)?;
    missing_is_fine(fs::remove_file(with_lock(&index)))
}

fn with_lock(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
