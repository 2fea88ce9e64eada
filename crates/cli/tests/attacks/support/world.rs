//! A world to attack: one backend, one gateway and one forge in this process, a sandbox to attack
//! from, a neighbour that must not notice, and a whole server where one is needed.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gateway::{Binding, Egress, Gateway, Observation};
use http_body_util::BodyExt as _;
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId, SessionId};
use sandbox::container::{Config, Container};
use sandbox::{Backend as _, Base, Spec};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use super::outside::Outside;
use super::sandbox::Sandbox;
use crate::server::{Server, git};

/// The static attack program, inside.
pub(crate) const ATTACK_INSIDE: &str = "/opt/hangar/bin/attack";
/// What is in every sandbox's toolkit, and what of it only the suite has.
const TOOLKIT: [&str; 2] = ["hangar-agentd", "hangar-agent"];
const EXAMPLES: [&str; 2] = ["attack", "hostile"];
/// Branches the attacking sandbox may push: this one and what begins with it.
pub(crate) const OWN_BRANCH: &str = "refs/heads/hangar/attack";

/// Everything an attempt may use. Fields drop in this order: sandboxes before what they need.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) level: Isolation,
    sandbox: RefCell<Rc<Sandbox>>,
    neighbour: Sandbox,
    server: OnceCell<Server>,
    pub(super) hostile_server: OnceCell<Server>,
    /// The gateway in this process, which all sandboxes of this world have.
    pub(crate) gateway: Gateway,
    pub(crate) backend: Container,
    told: Arc<Told>,
    /// What the gateway takes for the rest of the world.
    pub(crate) outside: Arc<Outside>,
    toolkit: PathBuf,
    runtime: Runtime,
    directory: TempDir,
}

impl World {
    /// A world at a level, or why there is none on this machine.
    pub(crate) fn open(level: Isolation) -> Result<Self, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().to_owned();
        let runtime = Runtime::new().expect("a runtime");
        let toolkit = toolkit(&place);
        let backend = Container::open(config(&place.join("data"), level)).expect("a backend");
        let told = Arc::new(Told::default());
        let outside = runtime.block_on(Outside::open());
        let gateway = runtime.block_on(gateway(&place, Arc::clone(&told), Arc::clone(&outside)));
        let start = |spec: &Spec| {
            start(&runtime, &backend, &gateway, &place.join("data"), spec)
                .map_err(|error| super::sandbox::chain(&error))
        };
        let first = start(&spec(level, &toolkit))?;
        if first.description.isolation != level {
            let given = first.description.isolation;
            return Err(format!("the backend gave {given} where {level} was asked for"));
        }
        let neighbour = start(&spec(level, &toolkit))?;
        let sandbox = RefCell::new(Rc::new(first));
        let world = Self {
            level,
            sandbox,
            neighbour,
            server: OnceCell::new(),
            hostile_server: OnceCell::new(),
            gateway,
            backend,
            told,
            outside,
            toolkit,
            runtime,
            directory,
        };
        Ok(world)
    }

    /// The sandbox to attack from. One that an attempt has broken is replaced before the next.
    pub(crate) fn sandbox(&self) -> Rc<Sandbox> {
        Rc::clone(&self.sandbox.borrow())
    }

    /// A sandbox that has done nothing wrong.
    pub(crate) const fn neighbour(&self) -> &Sandbox {
        &self.neighbour
    }

    /// One more sandbox, with changes to what is usual: limits, environment …
    pub(crate) fn another(&self, change: impl FnOnce(&mut Spec)) -> Sandbox {
        self.try_another(change).expect("another sandbox starts")
    }

    /// The same where it may fail.
    pub(crate) fn try_another(
        &self,
        change: impl FnOnce(&mut Spec),
    ) -> Result<Sandbox, sandbox::Error> {
        let mut spec = spec(self.level, &self.toolkit);
        change(&mut spec);
        start(&self.runtime, &self.backend, &self.gateway, &self.path().join("data"), &spec)
    }

    /// A whole server of its own, in its own process; started when first asked for.
    pub(crate) fn server(&self) -> &Server {
        self.server.get_or_init(Server::start)
    }

    /// What the gateway has told about a sandbox so far.
    pub(crate) fn told(&self, sandbox: SandboxId) -> Vec<Observation> {
        let told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|it| it.sandbox == sandbox).cloned().collect()
    }

    /// A directory of the host's that no sandbox may see; `data` in it is the backend's.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The forge's bare repository of this name; `own` is the sandbox's, `other` is not.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.path().join(format!("forge/local/{name}.git"))
    }

    /// Waits for something.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// That everybody else goes on: the neighbour, its gateway, the server if there is one.
    pub(crate) fn others_go_on(&self) -> Result<(), String> {
        self.neighbour.answers().map_err(|said| format!("the neighbour: {said}"))?;
        self.gateway_goes_on()?;
        for server in [&self.server, &self.hostile_server].into_iter().filter_map(OnceCell::get) {
            self.block_on(server_answers(&server.address))
                .map_err(|error| format!("the server: {error}"))?;
        }
        Ok(())
    }

    /// That the neighbour's gateway answers.
    pub(crate) fn gateway_goes_on(&self) -> Result<(), String> {
        self.block_on(gateway_answers(&self.neighbour.gateway_socket()))
            .map_err(|error| format!("the neighbour's gateway: {error}"))
    }

    /// What a sandbox of this world is started with.
    pub(super) fn spec(&self) -> Spec {
        spec(self.level, &self.toolkit)
    }

    pub(super) fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// Replaces the sandbox if it is broken, so that no attempt helps another.
    pub(super) fn renew(&self) {
        if self.sandbox().answers().is_err() {
            *self.sandbox.borrow_mut() = Rc::new(self.another(|_| {}));
        }
    }
}

/// A backend's configuration, with the runtime that a level needs.
pub(super) fn config(data: &Path, level: Isolation) -> Config {
    let launcher = cli::programs::require("hangar-launch").expect("a launcher");
    let mut config = Config::new(data, launcher);
    if level == Isolation::Gvisor {
        config.runtimes.insert(level, runsc().to_string_lossy().into_owned());
    }
    config
}

/// gVisor: `RUNSC`, the one in PATH, or one fetched for these tests. An attack on a wall that is not
/// there proves nothing, so none is skipped for want of it.
pub(super) fn runsc() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let installed = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|it| it.join("runsc")).find(|it| it.is_file())
    };
    let named = || std::env::var_os(RUNSC).map(PathBuf::from);
    FOUND.get_or_init(|| named().or_else(installed).unwrap_or_else(fetched)).clone()
}

/// Names gVisor's program.
pub(super) const RUNSC: &str = "RUNSC";

fn fetched() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_hangar")).parent().expect("a directory");
    let place = programs.with_file_name("runtimes");
    let runtime = Runtime::new().expect("a runtime");
    let installed = runtime.block_on(sandbox::container::gvisor::install(&place));
    installed.expect("runsc is fetched; or set RUNSC")
}

/// As a session's sandbox is started, smaller.
fn spec(level: Isolation, toolkit: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation: level,
        environment: Vec::new(),
        limits: Limits {
            memory_bytes: 512 << 20,
            pids: 256,
            disk_bytes: 256 << 20,
            ..Limits::default()
        },
        upper_from: None,
        mirror: None,
        toolkit: toolkit.to_owned(),
        path: StartPath::Image,
    }
}

fn start(
    runtime: &Runtime,
    backend: &Container,
    gateway: &Gateway,
    data: &Path,
    spec: &Spec,
) -> Result<Sandbox, sandbox::Error> {
    runtime.block_on(async {
        backend.prepare(spec).await?;
        let socket = backend.gateway_directory(spec.id).join("gateway.sock");
        gateway.open(spec.id, &socket).expect("the gateway listens");
        let binding = Binding {
            session: SessionId::new(),
            repository: RepositoryName::new("local", "own").expect("a name"),
            push_prefix: OWN_BRANCH.to_owned(),
            egress: Egress::default(),
        };
        gateway.bind(spec.id, binding).expect("bound");
        let description = match backend.create(spec).await {
            Ok(description) => description,
            Err(error) => {
                backend.discard(spec.id).await?;
                return Err(error);
            }
        };
        Ok(Sandbox::new(backend.clone(), runtime.handle().clone(), data, description))
    })
}

/// agentd, the built-in agent and the attack programs, as far as they were built.
fn toolkit(place: &Path) -> PathBuf {
    let toolkit = place.join("toolkit");
    std::fs::create_dir_all(toolkit.join("bin")).expect("made");
    for name in TOOLKIT {
        let built = cli::programs::require(name).expect("cargo build -p agentd -p agent --bins");
        std::fs::copy(built, toolkit.join("bin").join(name)).expect("copied");
    }
    for name in EXAMPLES {
        if let Some(built) = example(name) {
            std::fs::copy(built, toolkit.join("bin").join(name)).expect("copied");
        }
    }
    toolkit
}

/// A program of `crates/sandbox/examples`, beside ours or where cargo puts it.
pub(crate) fn example(name: &str) -> Option<PathBuf> {
    cli::programs::beside_us(name).or_else(|| cli::programs::beside_us(&format!("examples/{name}")))
}

async fn gateway(place: &Path, told: Arc<Told>, outside: Arc<Outside>) -> Gateway {
    let forge = forge::Local::open(place.join("forge")).await.expect("a forge");
    for name in ["own", "other"] {
        let path = place.join("sources").join(name);
        std::fs::create_dir_all(&path).expect("made");
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        std::fs::write(path.join("README.md"), format!("# {name}\n")).expect("written");
        git(&path, &["add", "--all"]);
        git(&path, &["commit", "--quiet", "--message=First"]);
        let name = RepositoryName::new("local", name).expect("a name");
        forge.import(&path, &name).await.expect("imported");
    }
    let mut config = gateway::Config::new(place);
    config.names = Arc::clone(&outside) as _;
    config.connector = outside;
    // As in a server, but so that attempts which must wait for it do not take long.
    config.limits.greeting_time = Duration::from_secs(3);
    Gateway::new(config, Arc::new(Forge(forge)), told).expect("a gateway")
}

#[derive(Debug)]
struct Forge(forge::Local);

#[async_trait::async_trait]
impl gateway::GitUpstream for Forge {
    async fn serve(
        &self,
        repository: &RepositoryName,
        service: gateway::Service,
        request: http::Request<gateway::Body>,
    ) -> http::Response<gateway::Body> {
        let access = match service {
            gateway::Service::Fetch => forge::Access::Read,
            gateway::Service::Push => forge::Access::Write,
        };
        let answer = self.0.serve(repository, access, request).await;
        answer.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<Observation>>);

impl gateway::Observer for Told {
    fn observed(&self, observation: Observation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    }
}

/// Longer than an answer takes on a loaded machine, shorter than people wait.
const SOON: Duration = Duration::from_secs(20);

async fn gateway_answers(socket: &Path) -> Result<(), String> {
    let asked = async {
        let stream = tokio::net::UnixStream::connect(socket).await?;
        ask(stream, "/nothing").await
    };
    let answer = within(asked).await?;
    if answer.starts_with("HTTP/1.1 4") { Ok(()) } else { Err(format!("it said {answer:?}")) }
}

async fn server_answers(address: &str) -> Result<(), String> {
    let host = address.trim_start_matches("http://");
    let asked = async {
        let stream = tokio::net::TcpStream::connect(host).await?;
        ask(stream, "/healthz").await
    };
    let answer = within(asked).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("it said {answer:?}")) }
}

async fn within(asked: impl Future<Output = std::io::Result<String>>) -> Result<String, String> {
    match tokio::time::timeout(SOON, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing within {SOON:?}")),
    }
}

async fn ask(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    path: &str,
) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
