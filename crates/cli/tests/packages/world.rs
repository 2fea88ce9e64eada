//! One real sandbox with agentd in it, and a gateway in this process.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gateway::{Binding, Body, Egress, Gateway, GitUpstream, Observation, Observed, Observer};
use http::{Request, Response};
use protocol::agentd::ExecRequest;
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId, SessionId, layout};
use sandbox::agentd::Client;
use sandbox::container::{Config, Container};
use sandbox::{Backend as _, Base, Spec};
use tempfile::TempDir;

use crate::company::Company;

/// Longer than any installation here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(4);

#[derive(Debug)]
pub(crate) struct World {
    client: Client,
    gateway: Gateway,
    backend: Container,
    sandbox: SandboxId,
    told: Arc<Told>,
    directory: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) succeeded: bool,
}

impl World {
    /// A sandbox that may reach these hosts.
    pub(crate) async fn start(egress: Egress) -> Self {
        Self::start_in(egress, None).await
    }

    /// The same where a company's host is part of the internet.
    pub(crate) async fn start_in(egress: Egress, company: Option<&Company>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        let toolkit = place.join("toolkit");
        std::fs::create_dir_all(toolkit.join("bin")).expect("made");
        let agentd = cli::programs::require("hangar-agentd").expect("cargo build -p agentd");
        std::fs::copy(agentd, toolkit.join("bin/hangar-agentd")).expect("copied");
        let launcher = cli::programs::require("hangar-launch").expect("cargo build -p sandbox");
        let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
        let home = variable("HOME").expect("a home");
        let config = Config::new(place.join("data"), launcher).with_rust_toolchains(
            &home,
            variable("RUSTUP_HOME").as_deref(),
            variable("CARGO_HOME").as_deref(),
        );
        let backend = Container::open(config).expect("a backend");
        let told = Arc::new(Told::default());
        let mut config = gateway::Config::new(place);
        if let Some(company) = company {
            config.trust = Some(company.trust.clone());
            config.names = company.internet();
            config.connector = company.internet();
        }
        let gateway = Gateway::new(config, Arc::new(NoForge), told.clone()).expect("a gateway");
        let spec = spec(&toolkit);
        backend.prepare(&spec).await.expect("prepared");
        let socket = backend.gateway_directory(spec.id).join("gateway.sock");
        gateway.open(spec.id, &socket).expect("the gateway listens");
        let binding = Binding {
            session: SessionId::new(),
            repository: RepositoryName::new("local", "own").expect("a name"),
            push_prefix: "refs/heads/none".to_owned(),
            egress,
        };
        gateway.bind(spec.id, binding).expect("bound");
        let client = Client::new(Arc::new(backend.clone()), spec.id);
        let world = Self { client, gateway, backend, sandbox: spec.id, told, directory };
        world.backend.create(&spec).await.expect("started");
        world.client.health().await.expect("agentd answers");
        world
    }

    /// Changes what the sandbox may reach.
    pub(crate) fn allow(&self, egress: Egress) {
        self.gateway.set_egress(self.sandbox, egress).expect("set");
    }

    /// Writes a file beneath the agent's home.
    pub(crate) async fn write(&self, path: &str, text: &str) {
        let line = "mkdir -p \"$(dirname \"$1\")\" && cat > \"$1\"";
        let said = self.run(&["bash", "-c", line, "write", path], text, &[]).await;
        assert!(said.succeeded, "{path}: {}", said.text);
    }

    /// Runs a script in the agent's home, as the agent would.
    pub(crate) async fn shell(&self, script: &str, environment: &[(&str, &str)]) -> Said {
        self.run(&["bash", "-c", script], "", environment).await
    }

    async fn run(&self, argv: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Said {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let request = ExecRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            directory: Some(layout::HOME.to_owned()),
            environment: environment.iter().map(pair).collect(),
            stdin: stdin.to_owned(),
            timeout_milliseconds: u64::try_from(PATIENCE.as_millis()).ok(),
        };
        let output = self.client.exec(&request, 1 << 20).await.expect("agentd answers");
        let printed = [output.stdout.as_slice(), &output.stderr].concat();
        let text = String::from_utf8_lossy(&printed).into_owned();
        Said { text, succeeded: output.is_success() }
    }

    /// Every denial that people were told of.
    pub(crate) fn denials(&self) -> Vec<String> {
        self.told.0.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn audit(&self) -> String {
        let path = self.directory.path().join("audit/gateway.jsonl");
        std::fs::read_to_string(path).expect("an audit file")
    }
}

impl Drop for World {
    /// Nothing runs on, however the test ended.
    fn drop(&mut self) {
        let discard = self.backend.discard(self.sandbox);
        let handle = tokio::runtime::Handle::current();
        let discarded = tokio::task::block_in_place(|| handle.block_on(discard));
        if let Err(error) = discarded {
            eprintln!("a sandbox stays behind: {error}");
        }
    }
}

fn spec(toolkit: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation: Isolation::Namespaces,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit: toolkit.to_owned(),
        path: StartPath::Image,
    }
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn observed(&self, observation: Observation) {
        if let Observed::Denied { denial, .. } = observation.what {
            self.0.lock().expect("unpoisoned").push(denial.to_string());
        }
    }
}

#[derive(Debug)]
struct NoForge;

#[async_trait]
impl GitUpstream for NoForge {
    async fn serve(
        &self,
        _: &RepositoryName,
        _: gateway::Service,
        _: Request<Body>,
    ) -> Response<Body> {
        Response::new(gateway::full_body("no forge in this test"))
    }
}
