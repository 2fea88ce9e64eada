//! Git on the workspace, for the host: with the agent's rights, and deaf to the agent's settings.
//!
//! The repository's own configuration belongs to the agent. Whatever in it names a program is
//! overridden on git's command line, which wins over every file; what it could still spoil is only
//! the agent's own work.

mod commit;
mod diff;
mod push;
mod sync;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use protocol::session::Author;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::children::{Children, Program, Running, What};
use crate::text;

/// How long one git command may take: a large fetch on a slow disk.
const PATIENCE: Duration = Duration::from_mins(10);
/// Bytes of one command's answer at most: the list of files of a very large commit.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of what a command complains at most.
const COMPLAINT_BYTES: usize = 8 * 1024;

/// Git could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request is not well formed.
    #[error("{what} `{value}` {problem}")]
    Invalid { what: &'static str, value: String, problem: &'static str },
    /// The repository has no commit at all.
    #[error("the repository at {remote} is empty; commit something to it, then start again")]
    Empty { remote: String },
    /// The commit is not there.
    #[error("the repository at {remote} has no commit {commit}; its history may be shallow")]
    Missing { remote: String, commit: String },
    /// Files, but no repository.
    #[error("{} holds files but no git repository; it is neither empty nor ours", path.display())]
    NotOurs { path: PathBuf },
    /// No repository yet.
    #[error("{} holds no git repository yet; it must be synced first", path.display())]
    NotSynced { path: PathBuf },
    /// The remote did not take the branch.
    #[error("the remote refused {branch}: {reason}")]
    Refused { branch: String, reason: String },
    /// Git could not be started.
    #[error("starting git for {doing}; the sandbox's image must hold it")]
    Start {
        doing: String,
        #[source]
        source: crate::children::Error,
    },
    /// Git said no.
    #[error("git failed at {doing}: {complaint}")]
    Failed { doing: String, complaint: String },
    /// Git did not end.
    #[error("git was killed at {doing} after {} s", PATIENCE.as_secs())]
    TimedOut { doing: String },
    /// Talking to git's process failed.
    #[error("passing bytes to or from git at {doing}")]
    Pipe {
        doing: String,
        #[source]
        source: io::Error,
    },
    /// The gate stays closed.
    #[error(transparent)]
    Gate(#[from] crate::gate::Error),
}

impl Error {
    /// Whose fault it is, as a status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Empty { .. }
            | Self::Missing { .. }
            | Self::NotOurs { .. }
            | Self::NotSynced { .. }
            | Self::Refused { .. } => StatusCode::CONFLICT,
            Self::Start { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Pipe { .. }
            | Self::Gate(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What a command answered.
#[derive(Debug)]
struct Output {
    success: bool,
    stdout: Vec<u8>,
    complaint: String,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// One git command.
#[derive(Debug, Default)]
struct Call {
    arguments: Vec<OsString>,
    stdin: Vec<u8>,
    environment: Vec<(&'static str, OsString)>,
    /// Whether it must write while the gate is closed.
    before_gate: bool,
    /// Whether it sets what the person's own git finds in HOME.
    global: bool,
}

impl Call {
    fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    fn doing(&self) -> String {
        let overrides = self.arguments.iter().rposition(|word| word == "-c").map_or(0, |at| at + 2);
        let words: Vec<_> = self.arguments.iter().skip(overrides).take(2).collect();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        format!("`git {}`", words.join(" "))
    }
}

/// Git on one workspace; one operation at a time.
#[derive(Debug)]
pub(crate) struct Git {
    children: Arc<Children>,
    reports: Arc<crate::reports::Reports>,
    turn: tokio::sync::Mutex<()>,
    /// Who the agent's own git commands commit as, as last written.
    identity: tokio::sync::Mutex<Option<(String, String)>>,
}

impl Git {
    /// Git on the workspace of these children.
    pub(crate) fn new(children: Arc<Children>, reports: Arc<crate::reports::Reports>) -> Self {
        Self {
            children,
            reports,
            turn: tokio::sync::Mutex::default(),
            identity: tokio::sync::Mutex::default(),
        }
    }

    fn workspace(&self) -> PathBuf {
        self.children.settings().workspace.clone()
    }

    fn directory(&self) -> PathBuf {
        self.workspace().join(".git")
    }

    fn url(&self, remote: &str) -> Result<String, Error> {
        let invalid =
            |problem| Error::Invalid { what: "the remote", value: remote.into(), problem };
        if !remote.starts_with('/') || remote.contains(['?', '#', '\n', ' ']) {
            return Err(invalid("is no path of the gateway, like /git/local/local/name.git"));
        }
        Ok(format!("{}{remote}", self.children.settings().gateway_url))
    }

    /// Writes who commits, for the agent's own git commands; nothing when it is so already.
    pub(crate) async fn set_identity(&self, author: &Author) -> Result<(), Error> {
        let mut known = self.identity.lock().await;
        let wanted = (clean(&author.name), clean(&author.email));
        if known.as_ref() == Some(&wanted) {
            return Ok(());
        }
        for (key, value) in [("user.name", &wanted.0), ("user.email", &wanted.1)] {
            let call = Call::new(["config", "--global", "--replace-all", key, value]);
            self.call(Call { global: true, ..call }).await?;
        }
        *known = Some(wanted);
        Ok(())
    }

    /// Runs a command and expects success.
    async fn call(&self, call: Call) -> Result<Output, Error> {
        let doing = call.doing();
        let output = self.attempt(call).await?;
        if output.success {
            return Ok(output);
        }
        Err(Error::Failed { doing, complaint: output.complaint })
    }

    /// Runs a command that may well say no.
    async fn attempt(&self, call: Call) -> Result<Output, Error> {
        let doing = call.doing();
        let mut running = self.start(&call).await?;
        let stdin = running.child.stdin.take();
        let stdout = running.child.stdout.take();
        let stderr = running.child.stderr.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // Git may end without reading it all; its exit code says what that means.
                let _ = stdin.write_all(&call.stdin).await;
            }
            Ok(())
        };
        let work = async {
            let ((), stdout, complaint) = tokio::try_join!(feed, bounded(stdout), tail(stderr))?;
            let status = running.wait().await?;
            Ok(Output { success: status.success(), stdout, complaint })
        };
        let result = tokio::time::timeout(PATIENCE, work).await;
        match result {
            Ok(Ok(output)) => {
                running.finish();
                Ok(output)
            }
            Ok(Err(source)) => Err(Error::Pipe { doing, source }),
            Err(_) => Err(Error::TimedOut { doing }),
        }
    }

    /// Starts a command with its standard streams piped.
    async fn start(&self, call: &Call) -> Result<Running, Error> {
        let start = |source| Error::Start { doing: call.doing(), source };
        let mut argv: Vec<OsString> = vec!["git".into()];
        let overrides = if call.global { &[] } else { OVERRIDES };
        for (key, value) in overrides {
            argv.push("-c".into());
            argv.push(format!("{key}={value}").into());
        }
        argv.extend(call.arguments.iter().cloned());
        let mut program = Program::new(argv);
        program.before_gate = call.before_gate;
        program.directory = Some(if call.global { "/".into() } else { self.workspace() });
        program.environment = self.environment(call);
        let mut prepared = self.children.prepare(&program).map_err(start)?;
        prepared.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // An agent's git directory must not be chosen by what agentd itself was started with.
        for name in ["GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"] {
            if !call.environment.iter().any(|(set, _)| *set == name) {
                prepared.command.env_remove(name);
            }
        }
        let mut running = self.children.start(prepared).map_err(start)?;
        running.started().await.map_err(start)?;
        Ok(running)
    }

    fn environment(&self, call: &Call) -> std::collections::BTreeMap<OsString, OsString> {
        let mut environment: std::collections::BTreeMap<OsString, OsString> = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("GIT_SSH_COMMAND", "false"),
            ("GIT_PAGER", "cat"),
            ("GIT_EDITOR", "true"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("LC_ALL", "C"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        let makes_it = call.arguments.first().is_some_and(|verb| verb == "init");
        if !call.global {
            environment.insert("GIT_CONFIG_GLOBAL".into(), "/dev/null".into());
            // Whatever the repository's configuration allows and rewrites: `ext::` is any program.
            let is_test = self.children.settings().gateway_url.starts_with("file:");
            let protocols = if is_test { "http:file" } else { "http" };
            environment.insert("GIT_ALLOW_PROTOCOL".into(), protocols.into());
        }
        // Named, so that the repository's `core.worktree` cannot point elsewhere; `init` would
        // write them down.
        if !call.global && !makes_it {
            environment.insert("GIT_DIR".into(), self.directory().into());
            environment.insert("GIT_WORK_TREE".into(), self.workspace().into());
        }
        for (name, value) in &call.environment {
            environment.insert((*name).into(), value.clone());
        }
        environment
    }

    /// Overrides that switch off every filter program the repository's configuration names.
    async fn without_filters(&self) -> Result<Vec<OsString>, Error> {
        let listed = self.attempt(Call::new(["config", "--list", "--name-only", "-z"])).await?;
        let keys = text::escaped(&listed.stdout);
        let filters: BTreeSet<&str> = keys
            .split('\0')
            .filter_map(|key| Some(key.strip_prefix("filter.")?.rsplit_once('.')?.0))
            .collect();
        if let Some(name) = filters.iter().find(|name| name.contains(['=', '\n'])) {
            // An override would end at the equals sign and leave the program in place.
            let problem = "cannot be switched off; remove it from the repository's configuration";
            return Err(Error::Invalid { what: "the filter", value: (*name).to_owned(), problem });
        }
        let mut arguments = Vec::new();
        for name in filters {
            for setting in ["clean=", "smudge=", "process=", "required=false"] {
                arguments.push("-c".into());
                arguments.push(format!("filter.{name}.{setting}").into());
            }
        }
        Ok(arguments)
    }

    /// Writes a file of the repository while the gate is closed.
    async fn write_before_gate(&self, path: PathBuf, bytes: &[u8]) -> Result<(), Error> {
        self.file("put", path, bytes, true).await
    }

    /// A copy of the index to work on, beside it: whatever lock a killed git of the agent's left
    /// behind, and whatever the agent does meanwhile, the work goes on.
    async fn index_copy(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory().join(format!("hangar-{name}-index"));
        self.file("copy-index", path.clone(), b"", false).await?;
        Ok(path)
    }

    /// A file operation of the shim's own, with the agent's rights.
    async fn file(
        &self,
        verb: &'static str,
        path: PathBuf,
        bytes: &[u8],
        before_gate: bool,
    ) -> Result<(), Error> {
        let doing = format!("`{verb}` of {}", path.display());
        let start = |source| Error::Start { doing: doing.clone(), source };
        let pipe = |source| Error::Pipe { doing: doing.clone(), source };
        let what = What::Files { verb, path };
        let program =
            Program { what, before_gate, directory: Some("/".into()), ..Program::default() };
        let mut prepared = self.children.prepare(&program).map_err(start)?;
        prepared.command.stdin(Stdio::piped());
        let mut running = self.children.start(prepared).map_err(start)?;
        if let Some(mut stdin) = running.child.stdin.take() {
            // What went wrong is told below.
            let _ = stdin.write_all(bytes).await;
        }
        running.started().await.map_err(start)?;
        running.wait().await.map_err(pipe)?;
        running.finish();
        Ok(())
    }

    async fn resolve(&self, name: &str) -> Result<Option<String>, Error> {
        let wanted = format!("{name}^{{commit}}");
        let output = self
            .attempt(Call::new(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]))
            .await?;
        Ok(output.success.then(|| output.text()))
    }
}

/// What the repository's configuration must not decide.
const OVERRIDES: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.bare", "false"),
    ("core.sshCommand", "false"),
    ("core.gitProxy", ""),
    ("core.askPass", "true"),
    ("core.alternateRefsCommand", "true"),
    ("core.quotePath", "false"),
    ("core.excludesFile", "/dev/null"),
    ("credential.helper", ""),
    ("commit.gpgSign", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.proxy", ""),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("push.gpgSign", "false"),
    ("diff.external", ""),
    ("diff.noprefix", "false"),
    ("diff.mnemonicPrefix", "false"),
    ("advice.addEmbeddedRepo", "false"),
    ("init.templateDir", ""),
    ("safe.directory", "*"),
    ("filter.lfs.clean", ""),
    ("filter.lfs.smudge", ""),
    ("filter.lfs.process", ""),
    ("filter.lfs.required", "false"),
];

async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut limited = stream.take(ANSWER_BYTES + 1);
        limited.read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > ANSWER_BYTES {
            return Err(io::Error::other("git answered more than 64 MiB"));
        }
    }
    Ok(bytes)
}

/// The end of what a command complains, however long it is.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    if let Some(mut stream) = stream {
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() > COMPLAINT_BYTES {
                bytes.drain(..bytes.len() - COMPLAINT_BYTES);
            }
        }
    }
    Ok(text::escaped(&bytes).trim().to_owned())
}

/// A name or address as git stores it: on one line, without the signs that end it.
fn clean(text: &str) -> String {
    let text: String =
        text.chars().filter(|sign| !sign.is_control() && !matches!(sign, '<' | '>')).collect();
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

fn check_commit(commit: &str) -> Result<(), Error> {
    if matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::Invalid {
        what: "the commit",
        value: text::beginning(commit, 100).to_owned(),
        problem: "is no full commit id",
    })
}

/// What no part of a branch's name may end in.
const LOCK: &str = ".lock";

/// A conservative form of git's own rule, so that no branch name is ever an option or a pattern.
fn check_branch(branch: &str) -> Result<(), Error> {
    let fine = !branch.is_empty()
        && branch.len() <= 250
        && !branch.starts_with(['-', '/', '.'])
        && !branch.ends_with(['/', '.'])
        && !branch.split('/').any(|part| part.ends_with(LOCK))
        && !["..", "//", "@{", "/."].iter().any(|part| branch.contains(part))
        && branch.chars().all(|sign| sign.is_alphanumeric() || "/-_.@".contains(sign));
    if fine {
        return Ok(());
    }
    Err(Error::Invalid {
        what: "the branch",
        value: text::beginning(branch, 100).to_owned(),
        problem: "is no branch name",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_could_be_options_or_patterns_are_refused() {
        for good in ["main", "hangar/1a2b-fix-it", "feature/ü_1.2"] {
            check_branch(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", "-d", "a..b", "a b", "a:b", "+a", "refs/*", "a.lock", "/a", "a\nb"] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_full_commit_ids_name_commits() {
        check_commit(&"a1".repeat(20)).expect("forty digits");
        for bad in ["HEAD", "", "--all", "abc123"] {
            assert!(check_commit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_end_gits_line_early() {
        assert_eq!(clean(" Ada <x>\nLovelace "), "Ada xLovelace");
        assert_eq!(clean("\n"), "unknown");
    }
}
