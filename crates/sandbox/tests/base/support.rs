//! A store, and sandboxes on what it holds, in a directory of one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::agentd::ExecRequest;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId};
use sandbox::agentd::Client;
use sandbox::base::{Error, Progress, Reference, Registries, Resolved, Settings, Store};
use sandbox::container::{Config, Container};
use sandbox::{Backend as _, Base, Spec};

use crate::archives::{Packing, layout};

#[derive(Debug)]
pub(crate) struct House {
    directory: tempfile::TempDir,
    pub(crate) store: Store,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(Registries::default())
    }

    pub(crate) fn with(registries: Registries) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path(), registries);
        Self { directory, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<Resolved, Error> {
        let reference: Reference = reference.parse()?;
        self.store.pull(&reference, &quiet()).await
    }

    /// Pulls an image of these layers, the lowest first.
    pub(crate) async fn image(&self, layers: &[Vec<u8>]) -> Result<Resolved, Error> {
        let packed: Vec<_> = layers.iter().map(|it| (Packing::Gzip, it.clone())).collect();
        let directory = self.path().join(format!("layout-{}", ImageId::new()));
        layout(&directory, &packed);
        self.pull(&format!("oci:{}", directory.display())).await
    }

    /// Directories of layers in the store, unfinished ones included.
    pub(crate) fn unpacked(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("data/base/unpacked")).expect("there");
        entries.flatten().map(|it| it.path()).filter(|path| path.is_dir()).collect()
    }

    /// Runs a program in a new sandbox on an image, and gives its exit code and what it printed.
    pub(crate) async fn run(&self, image: &Resolved, argv: &[&str]) -> (Option<i32>, String) {
        let programs = self.path().join("toolkit/bin");
        std::fs::create_dir_all(&programs).expect("a toolkit");
        let stand_in = launcher().with_file_name("examples").join("stand-in");
        std::fs::copy(&stand_in, programs.join("hangar-agentd")).expect("the stand-in was built");
        let config = Config::new(self.path().join("data"), launcher());
        let backend = Arc::new(Container::open(config).expect("a backend"));
        let spec = Spec {
            id: SandboxId::new(),
            image: ImageId::new(),
            layers: Vec::new(),
            base: Base::Layers(image.layers.clone()),
            isolation: Isolation::Namespaces,
            environment: image.environment.clone(),
            limits: Limits { memory_bytes: 512 << 20, pids: 100, ..Limits::default() },
            upper_from: None,
            mirror: None,
            toolkit: self.path().join("toolkit"),
            path: StartPath::Image,
        };
        backend.create(&spec).await.expect("the sandbox starts");
        let request = ExecRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            directory: Some("/".into()),
            environment: [].into(),
            stdin: String::new(),
            timeout_milliseconds: None,
        };
        let output = Client::new(backend.clone(), spec.id).exec(&request, 1 << 20).await;
        backend.discard(spec.id).await.expect("it goes");
        let output = output.expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        (output.exit.code, String::from_utf8_lossy(&text).into_owned())
    }
}

pub(crate) fn open(directory: &Path, registries: Registries) -> Store {
    let (data, launcher) = (directory.join("data"), launcher());
    Store::open(Settings { data, launcher, registries }).expect("a store")
}

pub(crate) fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_hangar-launch").into()
}

pub(crate) fn quiet() -> Progress {
    Arc::new(|_| ())
}

/// The static shell with everything in it, as a layer: an image without libraries.
pub(crate) fn busybox() -> Vec<u8> {
    use crate::archives::Layer;
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|it| std::fs::read(it).ok());
    let program = program.expect("apt-get install busybox-static");
    let names = ["sh", "ls", "cat", "stat", "id", "env", "find", "test", "mkdir", "touch", "chown"];
    let layer = Layer::new().directory("bin/").directory("etc/").owned(
        tar::EntryType::Regular,
        "bin/busybox",
        (0o755, 0, 0),
        &program,
    );
    names.iter().fold(layer, |it, name| it.link(&format!("bin/{name}"), "busybox")).build()
}
