//! What a sandbox backend promises, in plain data.
//!
//! ```text
//!             prepare            create             PID 1 ends, or stop
//!   (nothing) ───────▶ prepared ───────▶ running ────────────────────────▶ ended
//!                          │                                                  │
//!                          └──────────────────── discard ─────────────────────┴──▶ (nothing)
//! ```
//!
//! An ended sandbox keeps its files until `discard`, so that another can continue from them
//! ([`Spec::upper_from`]) and an image can be frozen from them ([`Layers::freeze`]).
//! Sandboxes outlive the process that started them; [`Backend::observe`] finds them again.
//!
//! A caller that died in the middle of a start says `create` again with the same specification and
//! gets what it would have got. So it must not say that of a sandbox it has worked in: one of those
//! that ended is continued by another ([`Spec::upper_from`]).

use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;
use protocol::sandbox::{
    Consequence, Isolation, LevelReport, LimitName, LimitReport, Limits, SandboxDescription,
    StartPath,
};
use protocol::{ImageId, SandboxId};
use tokio::io::{AsyncRead, AsyncWrite};

/// A sandbox to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its id; of one start, repeated or not.
    pub id: SandboxId,
    /// The image it starts from, for the description.
    pub image: ImageId,
    /// The image's frozen layers, the topmost first; none for the bare base.
    pub layers: Vec<PathBuf>,
    /// What lies beneath the layers.
    pub base: Base,
    /// The wall around it. A backend that cannot give this one refuses; it never gives a weaker one.
    pub isolation: Isolation,
    /// Variables of PID 1's environment besides the backend's own: never a secret's value.
    pub environment: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// An ended sandbox whose files are taken over: it keeps none and can only be discarded. Where
    /// one that took them over before has ended too, they are taken from that one, which is gone
    /// then. They continue on their own layers only.
    pub upper_from: Option<SandboxId>,
    /// A directory with Git objects, seen read-only at [`protocol::layout::MIRROR`].
    pub mirror: Option<PathBuf>,
    /// The directory seen read-only at [`protocol::layout::TOOLKIT`].
    pub toolkit: PathBuf,
    /// How it comes to be, for the description.
    pub path: StartPath,
}

/// What lies beneath a sandbox's layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Base {
    /// The host's own `/usr`, read-only, with a generated `/etc` that holds nothing private.
    #[default]
    Host,
    /// The unpacked layers of an OCI image, the topmost first; nothing of the host beneath them.
    Layers(Vec<PathBuf>),
}

/// One sandbox as a backend sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which one.
    pub id: SandboxId,
    /// What state it is in.
    pub state: ObservedState,
}

/// What state a known sandbox is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedState {
    /// Its directories exist, PID 1 was never started.
    Prepared,
    /// PID 1 runs.
    Running,
    /// PID 1 is gone; the files are there.
    Ended {
        /// Why, for people.
        reason: String,
    },
}

/// What a backend can do on this machine, found by doing it; shown by `hangar doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The wall its sandboxes have.
    pub isolation: Isolation,
    /// Whether a sandbox was really started and worked.
    pub works: bool,
    /// What takes the bundle, with its version; none where it was not found.
    pub runtime: Option<String>,
    /// From the request to agentd's socket accepting, in milliseconds, of the sandbox that was started.
    pub start_milliseconds: Option<u64>,
    /// What was looked at, in the order of dependence.
    pub checks: Vec<Check>,
    /// Which limits hold here.
    pub limits: Vec<LimitReport>,
}

impl Probe {
    /// The same for whoever only wants to know which levels there are.
    pub fn report(&self) -> LevelReport {
        let why_not = self.why_not();
        LevelReport {
            isolation: self.isolation,
            works: self.works,
            runtime: self.runtime.clone(),
            start_milliseconds: self.start_milliseconds,
            reason: why_not.map(|(reason, _)| reason.to_owned()),
            hint: why_not.map(|(_, hint)| hint.to_owned()),
            limits: self.limits.clone(),
        }
    }

    /// Why this level does not work here, and what would change it.
    pub fn why_not(&self) -> Option<(&str, &str)> {
        self.checks.iter().find_map(|check| match &check.state {
            CheckState::Missing { detail, hint } => Some((detail.as_str(), hint.as_str())),
            CheckState::Good { .. } | CheckState::Weak { .. } => None,
        })
    }
}

/// One thing a probe looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, in a few words: `user namespaces`.
    pub what: String,
    /// What was found.
    pub state: CheckState,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// As needed.
    Good {
        /// What exactly.
        detail: String,
    },
    /// Sandboxes start, but something is weaker than it could be.
    Weak {
        /// What is weaker.
        detail: String,
        /// What would change it.
        hint: String,
    },
    /// Sandboxes cannot start.
    Missing {
        /// What is missing.
        detail: String,
        /// What would change it.
        hint: String,
    },
}

/// A sandbox that wanted more than one of its limits gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which limit.
    pub limit: LimitName,
    /// What it used, in the limit's unit.
    pub usage: u64,
    /// What it may use, in the limit's unit.
    pub maximum: u64,
    /// Whether it goes on. One that does not is still to be stopped where it runs.
    pub consequence: Consequence,
    /// What was seen, for people.
    pub what: String,
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sandbox, or its files were discarded.
    #[error("there is no sandbox {id} on this machine")]
    Unknown {
        /// The id asked for.
        id: SandboxId,
    },
    /// It is known, but not in a state in which this can be done.
    #[error("cannot {doing} sandbox {id}: {why}")]
    State {
        /// `start`, `connect to`, `freeze` …
        doing: &'static str,
        /// Which one.
        id: SandboxId,
        /// What state it is in.
        why: String,
    },
    /// The machine lacks what this backend needs.
    #[error("cannot start sandboxes on this machine: {what}; {hint}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What would change it.
        hint: String,
    },
    /// Starting it failed; nothing of it is left but its prepared directories.
    #[error("cannot start sandbox {id}: {step} failed: {source}; {hint}")]
    Start {
        /// Which one.
        id: SandboxId,
        /// What was being done, to what.
        step: String,
        /// The system's answer.
        source: std::io::Error,
        /// What to try.
        hint: String,
    },
    /// A file or directory of the backend's own could not be used.
    #[error("cannot {doing} {}{}", path.display(), files_hint(source))]
    Files {
        /// `create`, `read`, `remove` …
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// agentd's socket does not accept.
    #[error("cannot connect to agentd in sandbox {id}")]
    Connect {
        /// Which one.
        id: SandboxId,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Processes of the sandbox did not go away although they were killed.
    #[error(
        "cannot stop sandbox {id}: {remaining} after {seconds} s; it is tried again at the next stop or start"
    )]
    Stop {
        /// Which one.
        id: SandboxId,
        /// What remains.
        remaining: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// A failure that was asked for ([`crate::simulated::Simulated`]).
    #[error("sandbox {id} failed as the test asked: {reason}")]
    Injected {
        /// Which one.
        id: SandboxId,
        /// What the test said.
        reason: String,
    },
}

fn files_hint(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; the disk is full: free some space and try again"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; choose a data directory (--data) that you may write to"
        }
        _ => "",
    }
}

/// A connection to agentd.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Something that runs sandboxes. Every method may be called from any task at any time.
#[async_trait]
pub trait Backend: Send + Sync + Debug {
    /// The wall sandboxes get where nobody asks for another.
    fn isolation(&self) -> Isolation;

    /// The walls that can be asked for, from weakest to strongest, whether they work here or not.
    fn levels(&self) -> Vec<Isolation> {
        vec![self.isolation()]
    }

    /// Really starts a sandbox behind this wall and runs a command in it, and says what works here,
    /// what does not and what would change it.
    async fn probe(&self, isolation: Isolation) -> Probe;

    /// [`Backend::probe`] of every level, one after the other.
    async fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for level in self.levels() {
            probes.push(self.probe(level).await);
        }
        probes
    }

    /// Makes the sandbox's directories, so that the gateway can listen in
    /// [`Backend::gateway_directory`] before anything runs. Again: nothing happens.
    async fn prepare(&self, spec: &Spec) -> Result<(), Error>;

    /// Starts PID 1; agentd's socket accepts when this returns. Prepares first where that was not
    /// done. If it fails, no process, mount or limit group of the sandbox is left, and files taken
    /// over are back where they were.
    ///
    /// Again with the same specification: a sandbox that runs is described as it was started, one
    /// that ended is started on its own files, those it had taken over included.
    async fn create(&self, spec: &Spec) -> Result<SandboxDescription, Error>;

    /// Every sandbox there is, also those that an earlier process started.
    async fn observe(&self) -> Result<Vec<Observed>, Error>;

    /// A new connection to the sandbox's agentd.
    async fn connect(&self, id: SandboxId) -> Result<Box<dyn Stream>, Error>;

    /// Resolves with the reason when the sandbox has ended.
    async fn ended(&self, id: SandboxId) -> Result<String, Error>;

    /// Kills everything in the sandbox and returns when it is gone; its files stay.
    /// Stopping an ended or unknown sandbox does nothing.
    async fn stop(&self, id: SandboxId) -> Result<(), Error>;

    /// Stops the sandbox and deletes its files. Discarding an unknown sandbox does nothing.
    async fn discard(&self, id: SandboxId) -> Result<(), Error>;

    /// Looks at every running sandbox, also those that an earlier process started, and says which
    /// limits were hit since the last look. One whose [`Exceeded::consequence`] is its end is told
    /// of once, and stopped by whoever hears it.
    ///
    /// For a server, twice a second: where the kernel holds nothing, this is what holds. Costs next
    /// to nothing while sandboxes are idle.
    async fn exceeded(&self) -> Result<Vec<Exceeded>, Error>;

    /// Stops every running sandbox that is not in `known`, and removes what lies outside the data
    /// directory (limit groups) of sandboxes that are gone. Keeps every file that another sandbox
    /// could continue from, and removes what is left of the others: directories that were only
    /// prepared, or whose files were taken, layers half made. Returns which ones it stopped. For a
    /// server that starts, after it has read its journal and before it starts anything.
    async fn reap(&self, known: &[SandboxId]) -> Result<Vec<SandboxId>, Error>;

    /// Where the gateway puts `gateway.sock` of this sandbox; exists from `prepare` on.
    ///
    /// Root inside is an unprivileged stranger outside, so the socket file must be writable for
    /// everyone (mode 0666); the directories above keep every other user of the host away.
    fn gateway_directory(&self, id: SandboxId) -> PathBuf;

    /// Freezing of layers, where the backend can.
    fn layers(&self) -> Option<&dyn Layers>;

    /// Putting processes away, where the backend can at some level.
    fn pause(&self) -> Option<&dyn Pause> {
        None
    }
}

/// Putting the processes of a sandbox away, memory and all, and waking them.
#[async_trait]
pub trait Pause: Send + Sync + Debug {
    /// Writes down everything that runs in a sandbox and ends it; nothing of it runs then, and its
    /// files stay. Connections to agentd and to the gateway are closed. Where the level cannot do
    /// this, the sandbox goes on and [`Error::State`] says why.
    async fn pause(&self, id: SandboxId) -> Result<(), Error>;

    /// Wakes what [`Pause::pause`] wrote down, once: every process goes on where it was, and agentd's
    /// socket accepts when this returns. [`Backend::create`] instead starts anew on the files.
    async fn resume(&self, id: SandboxId) -> Result<SandboxDescription, Error>;
}

/// Making image layers out of ended sandboxes.
#[async_trait]
pub trait Layers: Send + Sync + Debug {
    /// Takes what an ended sandbox changed as an immutable layer of `image`: the sandbox keeps
    /// nothing and can only be discarded. The answer goes first into [`Spec::layers`].
    /// Again with the same sandbox and image: the same answer.
    async fn freeze(&self, sandbox: SandboxId, image: ImageId) -> Result<PathBuf, Error>;

    /// A directory with what an ended sandbox changed, to be looked through before it is frozen;
    /// none where no files lie on this machine. What is in it is hostile: no link is to be followed.
    fn changed(&self, sandbox: SandboxId) -> Result<Option<PathBuf>, Error>;

    /// Deletes an image's layer. No running sandbox may have been started from it.
    async fn remove(&self, image: ImageId) -> Result<(), Error>;
}
