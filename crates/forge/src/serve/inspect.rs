//! Looks at what a push brings before any reference moves.
//!
//! ```text
//!   receive-pack ──► objects in quarantine ──► pre-receive ──► asked (a named pipe)
//!                                                  ▲               │ rev-list, cat-file
//!                             refs move, or        │               ▼
//!                             quarantine goes      └── answer ◄── inspection
//! ```
//!
//! Git itself keeps new objects apart until its hook has agreed and throws them away otherwise, so
//! the hook is the one sound place: no reference ever leads to what was refused. The hook is a few
//! lines of shell of ours that only pass the question on; hooks of repositories stay off.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, Mode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::git::{Git, Group};

/// Bytes of objects that are looked at for one push; a push that brings more is refused.
const MOST: u64 = 8 << 30;
/// How long looking may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// Bytes of objects read at once.
const PIECE: usize = 64 * 1024;
/// Bytes of a question: the updates of some thousand references.
const QUESTION: u64 = 1024 * 1024;

/// Asks the one who knows. Written anew at every start.
const HOOK: &str = r#"#!/bin/sh
# Written by Hangar at every start; changes are lost.
{
    printf '%s\n' "$GIT_OBJECT_DIRECTORY" "$GIT_ALTERNATE_OBJECT_DIRECTORIES"
    cat
    echo end
} > "$HANGAR_PUSH/asked" || exit 1
IFS= read -r verdict < "$HANGAR_PUSH/answer" || exit 1
[ "$verdict" = "pass" ] && exit 0
printf '%s\n' "$verdict" >&2
exit 1
"#;

/// Whoever wants to look at what is pushed.
pub trait Inspector: Send + Sync + std::fmt::Debug {
    /// For one push; none if there is nothing to look for now.
    fn begin(&self) -> Option<Box<dyn Inspection>>;
}

/// Looks at the objects of one push, one after the other.
pub trait Inspection: Send {
    /// Another object begins.
    fn start(&mut self);
    /// The next bytes of it. What must not be there, if it is: `the secret NAME`.
    fn feed(&mut self, piece: &[u8]) -> Option<String>;
}

/// Writes the hook and gives its directory.
pub(crate) fn install(own: &Path) -> Result<PathBuf, Error> {
    let directory = own.join("hooks");
    crate::local::make(&directory)?;
    let hook = directory.join("pre-receive");
    let write = || {
        std::fs::write(&hook, HOOK)?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|source| Error::Files { doing: "write", path: hook.clone(), source })?;
    Ok(directory)
}

/// One push that is being looked at: its pipes, in a directory that goes with it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) hooks: PathBuf,
    pub(super) pipes: PathBuf,
}

impl Watch {
    /// Makes the pipes. A hook that cannot be run would be passed over by git: that is an error here.
    pub(super) fn prepare(own: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let hooks = own.join("hooks");
        rustix::fs::access(hooks.join("pre-receive"), rustix::fs::Access::EXEC_OK)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pipes = own.join("incoming").join(format!("push-{}-{number}", std::process::id()));
        std::fs::create_dir(&pipes)?;
        let watch = Self { hooks, pipes };
        for name in ["asked", "answer"] {
            let path = watch.pipes.join(name);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                FileType::Fifo,
                Mode::RUSR | Mode::WUSR,
                0,
            )?;
        }
        Ok(watch)
    }

    /// Answers the hook, if it asks, and ends with the push.
    pub(super) async fn answer(
        self,
        git: Git,
        repository: PathBuf,
        mut inspection: Box<dyn Inspection>,
        over: CancellationToken,
    ) {
        let work = async {
            // Opened both ways, so that neither end has to wait for the other.
            let mut both = pipe::OpenOptions::new();
            let asked = both.read_write(true).open_receiver(self.pipes.join("asked"))?;
            let mut answer = both.read_write(true).open_sender(self.pipes.join("answer"))?;
            let question = Question::read(asked).await?;
            let looking = question.look(&git, &repository, inspection.as_mut());
            let verdict = match tokio::time::timeout(PATIENCE, looking).await {
                Ok(Ok(None)) => "pass".to_owned(),
                Ok(Ok(Some(found))) => found,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a push could not be looked at and was refused");
                    "refused: the server could not look at what is pushed; its log says why".into()
                }
                Err(_) => {
                    "refused: looking at what is pushed took too long; push less at once".into()
                }
            };
            answer.write_all(format!("{verdict}\n").as_bytes()).await?;
            // The pipe forgets what it holds when its last end closes.
            over.cancelled().await;
            io::Result::Ok(())
        };
        tokio::select! {
            done = work => if let Err(error) = done {
                tracing::error!(%error, "a push could not be looked at");
                over.cancel();
            },
            () = over.cancelled() => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.pipes) {
            tracing::warn!(pipes = %self.pipes.display(), %error, "pipes of a push stay behind");
        }
    }
}

/// Where the new objects are, and which the references would lead to.
#[derive(Debug, Default)]
struct Question {
    objects: String,
    alternates: String,
    wanted: Vec<String>,
}

impl Question {
    async fn read(asked: pipe::Receiver) -> io::Result<Self> {
        let mut lines = BufReader::new(asked.take(QUESTION)).lines();
        let mut question = Self::default();
        let short = || io::Error::other("the hook's question ends early");
        question.objects = lines.next_line().await?.ok_or_else(short)?;
        question.alternates = lines.next_line().await?.ok_or_else(short)?;
        loop {
            let line = lines.next_line().await?.ok_or_else(short)?;
            if line == "end" {
                return Ok(question);
            }
            let new = line.split(' ').nth(1).unwrap_or_default();
            if new.bytes().any(|digit| digit != b'0') {
                question.wanted.push(new.to_owned());
            }
        }
    }

    /// What is wrong with the new objects, if anything is.
    async fn look(
        &self,
        git: &Git,
        repository: &Path,
        inspection: &mut dyn Inspection,
    ) -> Result<Option<String>, Error> {
        if self.wanted.is_empty() {
            return Ok(None);
        }
        let listed = git
            .at(repository, "list what a push brings")
            .environment("GIT_OBJECT_DIRECTORY", &self.objects)
            .environment("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.alternates)
            .time_limit(PATIENCE)
            .args(["rev-list", "--objects"])
            .args(&self.wanted)
            .args(["--not", "--all"])
            .output()
            .await?;
        let failed = |source| Error::Run { doing: "read what a push brings".to_owned(), source };
        self.read_all(git, repository, &listed, inspection).await.map_err(failed)
    }

    async fn read_all(
        &self,
        git: &Git,
        repository: &Path,
        listed: &[u8],
        inspection: &mut dyn Inspection,
    ) -> io::Result<Option<String>> {
        let objects: Vec<(&[u8], &[u8])> = listed
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| match line.iter().position(|byte| *byte == b' ') {
                Some(space) => (&line[..space], &line[space + 1..]),
                None => (line, &line[..0]),
            })
            .collect();
        // A branch that starts where another one is brings nothing new.
        if objects.is_empty() {
            return Ok(None);
        }
        let mut ids = Vec::with_capacity(objects.len() * 41);
        for (id, _) in &objects {
            ids.extend_from_slice(id);
            ids.push(b'\n');
        }
        let mut command = git.command();
        command.arg("--git-dir").arg(repository).args(["cat-file", "--batch", "--buffer"]);
        command
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.alternates)
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let group = Group::of(&child);
        let no_pipe = || io::Error::other("no pipe to git");
        let mut stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let mut stdout = BufReader::with_capacity(PIECE, child.stdout.take().ok_or_else(no_pipe)?);
        let feeding = async move {
            stdin.write_all(&ids).await?;
            drop(stdin);
            io::Result::Ok(())
        };
        let looking = async {
            let mut left = MOST;
            for (_, path) in &objects {
                if let Some(found) = one(&mut stdout, path, inspection, &mut left).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        let mut feeding = std::pin::pin!(feeding);
        let mut looking = std::pin::pin!(looking);
        let found = tokio::select! {
            found = &mut looking => found,
            fed = &mut feeding => match fed {
                Ok(()) => looking.await,
                Err(error) => Err(error),
            },
        };
        if matches!(found, Ok(None)) {
            let status = child.wait().await?;
            group.disarm();
            if !status.success() {
                return Err(io::Error::other("git cat-file failed"));
            }
        }
        found
    }
}

/// Reads one object: its line, `<id> <kind> <size>`, its bytes, and a line's end.
async fn one(
    objects: &mut (impl AsyncBufReadExt + Unpin),
    path: &[u8],
    inspection: &mut dyn Inspection,
    left: &mut u64,
) -> io::Result<Option<String>> {
    let mut line = String::new();
    objects.read_line(&mut line).await?;
    let mut words = line.split_whitespace().skip(1);
    let kind = words.next().unwrap_or_default().to_owned();
    let size: Option<u64> = words.next().and_then(|size| size.parse().ok());
    let mut size = size.ok_or_else(|| io::Error::other(format!("git cat-file said `{line}`")))?;
    let Some(rest) = left.checked_sub(size) else {
        return Ok(Some(format!("refused: more than {MOST} bytes are pushed at once; push less")));
    };
    *left = rest;
    inspection.start();
    while size > 0 {
        let piece = objects.fill_buf().await?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = piece.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        if let Some(what) = inspection.feed(&piece[..length]) {
            return Ok(Some(refusal(&kind, path, &what)));
        }
        objects.consume(length);
        size -= length as u64;
    }
    let ended = objects.fill_buf().await?.is_empty();
    objects.consume(usize::from(!ended));
    Ok(None)
}

fn refusal(kind: &str, path: &[u8], what: &str) -> String {
    let path: String =
        String::from_utf8_lossy(path).chars().filter(|sign| !sign.is_control()).take(200).collect();
    let place = match kind {
        "blob" => format!("the file {path}"),
        "tree" => format!("a name in the directory /{path}"),
        _ => "the message of a commit or tag".to_owned(),
    };
    format!(
        "refused: {place} contains {what}; take it out of every new commit of the branch (git reset \
         --soft to the last one without it, remove it, commit again), then push again"
    )
}
