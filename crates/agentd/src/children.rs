//! Everything agentd starts: confined, known by process id, and killed with all it started.
//!
//! agentd is the sandbox's first process, so orphans become its children and it must collect them;
//! but whoever waits for a child of ours must get that child's exit status. So the collector takes
//! only children that are not in the registry here. Starting and registering happen without
//! yielding on the one thread there is, hence no child of ours is ever seen unregistered.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::agentd::SetEnvironment;
use protocol::layout;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::nursery::Nursery;
use crate::processes::{self, Process};
use crate::settings::Settings;
use crate::shim;

/// The variable by which a process is known to belong to a tree after its parents are gone.
pub(crate) const TREE_VARIABLE: &str = "HANGAR_TREE";

/// The very program that runs, whatever lies at its path by now: the shim still holds agentd's
/// rights when it starts, so the file system the agent writes to must not say what it is.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The shim itself did not start.
    #[error("starting agentd's own shim, which confines {program}")]
    Shim {
        program: String,
        #[source]
        source: io::Error,
    },
    /// The shim says what it could not do.
    #[error("{0}")]
    Told(String),
}

/// A program to start with the agent's rights.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// The program, looked up in PATH, and its arguments; or a verb of [`crate::files`].
    pub(crate) what: What,
    /// Where; the workspace when missing.
    pub(crate) directory: Option<PathBuf>,
    /// Added to the usual environment.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Whether it may write to the workspace while the gate is closed: agentd's own git only.
    pub(crate) before_gate: bool,
    /// Whether it is the agent's or a person's and gets what the host set for those: agentd's own
    /// helpers need no secrets.
    pub(crate) for_agent: bool,
    /// Whether a terminal makes its session, so that the shim must not.
    pub(crate) on_terminal: bool,
}

/// What a [`Program`] runs.
#[derive(Debug)]
pub(crate) enum What {
    /// Another program.
    Argv(Vec<OsString>),
    /// A file operation of the shim's own.
    Files { verb: &'static str, path: PathBuf },
}

impl Default for What {
    fn default() -> Self {
        Self::Argv(Vec::new())
    }
}

impl Program {
    /// A program with arguments.
    pub(crate) fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { what: What::Argv(argv), ..Self::default() }
    }

    fn name(&self) -> String {
        match &self.what {
            What::Argv(argv) => {
                argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            What::Files { verb, .. } => (*verb).to_owned(),
        }
    }
}

/// Which tree of processes: all that one program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tree(u64);

/// The registry of what agentd started.
#[derive(Debug)]
pub(crate) struct Children {
    settings: Arc<Settings>,
    /// Where they are started when they are confined.
    nursery: Option<Nursery>,
    /// Tells this agentd's trees from those of another in the same place, as a test may start.
    mark: String,
    registry: Mutex<Registry>,
    /// What the host set for all that is started, secrets among it; in no file, and never shown.
    given: Mutex<SetEnvironment>,
}

#[derive(Debug, Default)]
struct Registry {
    last: u64,
    /// Leaders whose exit status somebody here waits for.
    waited: HashMap<i32, Tree>,
    /// Trees in use, with their leaders, which may have ended already.
    trees: HashMap<Tree, i32>,
}

/// A command ready to be started, and where its shim says what went wrong.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// To be configured further (standard streams) and started.
    pub(crate) command: Command,
    tree: Tree,
    name: String,
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A started program. Dropped before its end it is killed, with all it started.
#[derive(Debug)]
pub(crate) struct Running {
    children: Arc<Children>,
    /// The process, for its standard streams.
    pub(crate) child: Child,
    leader: i32,
    tree: Tree,
    rest: Rest,
    status: Option<pipe::Receiver>,
}

/// What happens to a program's processes when nobody holds it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Killed,
    LivesOn,
    None,
}

impl Children {
    /// An empty registry.
    pub(crate) fn new(settings: Arc<Settings>, nursery: Option<Nursery>) -> Arc<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = format!("{}.{}", std::process::id(), since.as_nanos());
        let (registry, given) = (Mutex::default(), Mutex::default());
        Arc::new(Self { settings, nursery, mark, registry, given })
    }

    /// The value of [`TREE_VARIABLE`] in a tree's processes.
    fn mark(&self, tree: Tree) -> String {
        format!("{}.{}", self.mark, tree.0)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where things are.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces what the host set before; what runs already keeps what it was started with.
    pub(crate) fn give(&self, environment: SetEnvironment) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = environment;
    }

    /// A command for a program; its standard streams are closed until set otherwise.
    pub(crate) fn prepare(&self, program: &Program) -> Result<Prepared, Error> {
        let name = program.name();
        let tree = {
            let mut registry = self.registry();
            registry.last += 1;
            Tree(registry.last)
        };
        let shim = |source| Error::Shim { program: name.clone(), source };
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| shim(error.into()))?;
        let mut command = Command::new(THIS_PROGRAM);
        command.arg(shim::VERB).args(["--status-fd", &writer.as_raw_fd().to_string()]);
        command
            .arg("--directory")
            .arg(program.directory.as_ref().unwrap_or(&self.settings.workspace));
        if !program.on_terminal {
            command.arg("--new-session");
        }
        if !self.settings.confined() {
            command.arg("--unconfined-for-tests");
        } else if program.before_gate {
            command.arg("--writable").arg(&self.settings.workspace);
        }
        match &program.what {
            What::Argv(argv) => command.arg("--").args(argv),
            What::Files { verb, path } => command.arg("--files").arg(verb).arg(path),
        };
        command.current_dir("/").envs(environment(&self.settings));
        if program.for_agent {
            let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            command.envs(given.variables.iter().map(|(name, value)| (name, value.expose())));
        }
        command.envs(&program.environment);
        command.env(TREE_VARIABLE, self.mark(tree));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Prepared { command, tree, name, reader, writer })
    }

    /// Starts a prepared command.
    pub(crate) fn start(self: &Arc<Self>, prepared: Prepared) -> Result<Running, Error> {
        self.start_by(prepared, |mut command| command.spawn())
    }

    /// Starts a prepared command in another way, on a terminal for example.
    pub(crate) fn start_by(
        self: &Arc<Self>,
        prepared: Prepared,
        spawn: impl FnOnce(Command) -> io::Result<Child> + Send + 'static,
    ) -> Result<Running, Error> {
        let Prepared { command, tree, name, reader, writer } = prepared;
        let shim = |source| Error::Shim { program: name.clone(), source };
        // Inheritable for the one start below only: nothing else starts meanwhile.
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty())
            .map_err(|error| shim(error.into()))?;
        let child = match &self.nursery {
            Some(nursery) => nursery.start(move || spawn(command)),
            None => spawn(command),
        };
        let child = child.map_err(shim)?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        let mut registry = self.registry();
        registry.waited.insert(leader, tree);
        registry.trees.insert(tree, leader);
        drop(registry);
        let status = pipe::Receiver::from_owned_fd(reader).map_err(shim)?;
        drop(writer);
        let children = Arc::clone(self);
        Ok(Running { children, child, leader, tree, rest: Rest::Killed, status: Some(status) })
    }

    /// Collects every ended child nobody here waits for.
    pub(crate) fn collect_orphans(&self) {
        let registry = self.registry();
        for pid in processes::children_of_mine() {
            if registry.waited.contains_key(&pid) {
                continue;
            }
            if let Some(pid) = Pid::from_raw(pid) {
                // An error means that it is gone already, which is what is wanted.
                let _ = rustix::process::waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
            }
        }
    }

    /// Kills until no process of a tree is left; false if some survive two seconds of it.
    async fn kill(&self, doomed: impl Fn(&Self) -> Vec<Process>) -> bool {
        for _ in 0..1000 {
            let left = doomed(self);
            if left.is_empty() {
                return true;
            }
            for process in left {
                process.kill();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    }

    fn members(&self, tree: Tree) -> Vec<Process> {
        let leader = self.registry().trees.get(&tree).copied();
        let all = processes::all();
        all.iter()
            .filter(|process| self.belongs(process, tree, leader, &all))
            .filter(|process| !process.ended)
            .cloned()
            .collect()
    }

    /// In a sandbox all that belongs to no other tree; the agent may have hidden its own.
    fn members_and_strays(&self, tree: Tree) -> Vec<Process> {
        if !processes::am_first() {
            return self.members(tree);
        }
        let others: Vec<_> = {
            let registry = self.registry();
            registry
                .trees
                .iter()
                .filter(|(other, _)| **other != tree)
                .map(|(t, l)| (*t, *l))
                .collect()
        };
        let all = processes::all();
        all.iter()
            .filter(|process| process.pid != 1 && !process.ended)
            .filter(|process| {
                !others.iter().any(|(t, l)| self.belongs(process, *t, Some(*l), &all))
            })
            .cloned()
            .collect()
    }

    fn belongs(&self, process: &Process, tree: Tree, leader: Option<i32>, all: &[Process]) -> bool {
        leader.is_some_and(|leader| {
            process.session == leader || processes::descends(process, leader, all)
        }) || process.has_variable(&format!("{TREE_VARIABLE}={}", self.mark(tree)))
    }
}

impl Running {
    /// Waits until the program has replaced the shim; the error is the shim's own words.
    pub(crate) async fn started(&mut self) -> Result<(), Error> {
        let Some(mut status) = self.status.take() else { return Ok(()) };
        let mut told = Vec::new();
        // The shim writes one short sentence; a failed read means that it is gone without one.
        let _ = (&mut status).take(4096).read_to_end(&mut told).await;
        if told.is_empty() {
            return Ok(());
        }
        self.wait().await.ok();
        Err(Error::Told(String::from_utf8_lossy(&told).into_owned()))
    }

    /// Waits for the program's end, not for what it left running.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.children.registry().waited.remove(&self.leader);
        status
    }

    /// Kills the program and all it started; in a sandbox also what it may have hidden.
    pub(crate) async fn kill_with_strays(&mut self) {
        let tree = self.tree;
        self.children.kill(|children| children.members_and_strays(tree)).await;
        let _ = self.wait().await;
    }

    /// Kills the program and all it started.
    pub(crate) async fn kill(&mut self) {
        let tree = self.tree;
        self.children.kill(|children| children.members(tree)).await;
        let _ = self.wait().await;
    }

    /// Every process of it that runs now.
    pub(crate) fn members(&self) -> Vec<Process> {
        self.children.members(self.tree)
    }

    /// Kills every process of it that was not there before, and returns when they are gone.
    pub(crate) async fn kill_newer_than(&self, before: &[Process]) {
        let tree = self.tree;
        self.children
            .kill(|children| {
                let mut members = children.members(tree);
                members.retain(|process| !before.iter().any(|old| old.is(process)));
                members
            })
            .await;
    }

    /// Lets what the program left running live on, still known as its own.
    pub(crate) fn leave_rest(mut self) {
        self.rest = if self.members().is_empty() { Rest::None } else { Rest::LivesOn };
    }

    /// For programs of agentd's own that leave nothing running: spares looking for it.
    pub(crate) fn finish(mut self) {
        self.rest = Rest::None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut registry = self.children.registry();
        let waited = registry.waited.remove(&self.leader).is_some();
        match self.rest {
            Rest::LivesOn => return,
            Rest::None => {
                registry.trees.remove(&self.tree);
                return;
            }
            Rest::Killed => drop(registry),
        }
        if waited {
            let _ = self.child.start_kill();
        }
        for process in self.children.members(self.tree) {
            process.kill();
        }
        let children = Arc::clone(&self.children);
        let tree = self.tree;
        // Once more until all are gone, since the first round can miss what is just being started.
        let end = async move {
            children.kill(|children| children.members(tree)).await;
            children.registry().trees.remove(&tree);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(end);
        }
    }
}

/// What every program of the agent finds in its environment, beside what the image brought.
fn environment(settings: &Settings) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> =
        vec![("HOME", settings.home.clone().into()), ("GIT_TERMINAL_PROMPT", "0".into())];
    let gateway = if settings.gateway_socket.is_some() {
        format!("http://{}", settings.relay_address)
    } else {
        settings.gateway_url.clone()
    };
    variables.extend(layout::PROXY_VARIABLES.map(|name| (name, gateway.clone().into())));
    variables.extend(layout::NO_PROXY_VARIABLES.map(|name| (name, NOT_PROXIED.into())));
    // Node.js has looked at these variables only since version 24, and only if asked to.
    variables.push(("NODE_USE_ENV_PROXY", "1".into()));
    variables.push(("JAVA_TOOL_OPTIONS", java(&gateway).into()));
    if let Some(trust) = &settings.trust {
        variables.extend(layout::TRUST_VARIABLES.map(|name| (name, trust.clone().into())));
    }
    variables.push(("HANGAR_GATEWAY", gateway.into()));
    let usual: [(&'static str, OsString); 5] = [
        ("PATH", format!("{USUAL_PATH}:{}/bin", layout::TOOLKIT).into()),
        ("LANG", "C.UTF-8".into()),
        ("TERM", "xterm-256color".into()),
        ("SHELL", "/bin/sh".into()),
        ("USER", "root".into()),
    ];
    variables.extend(usual.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
    variables
}

/// What programs reach without the gateway as a proxy: each other, and the gateway itself.
const NOT_PROXIED: &str = "127.0.0.1,localhost,::1";

/// Java looks at no variable for proxies, but at this one for its options. What the image says there
/// stays.
fn java(gateway: &str) -> String {
    let address = gateway.rsplit("//").next().unwrap_or(gateway);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "80"));
    let mut options = std::env::var("JAVA_TOOL_OPTIONS").unwrap_or_default();
    for scheme in ["http", "https"] {
        let _ = write!(options, " -D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}");
    }
    options.push_str(" -Dhttp.nonProxyHosts=localhost|127.*|[::1]");
    options.trim_start().to_owned()
}

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
