//! Sandboxes and a server whose PID 1 is `crates/sandbox/examples/hostile.rs` instead of agentd.

use std::path::{Path, PathBuf};

use sandbox::Backend as _;
use sandbox::container::Container;

use super::sandbox::Sandbox;
use super::world::{World, example};
use crate::server::Server;

const HOSTILE_INSIDE: &str = "/opt/hangar/bin/hostile";

impl World {
    /// A sandbox whose PID 1 lies.
    pub(crate) fn hostile(&self) -> Sandbox {
        built();
        let data = self.path().join("hostile");
        let mut config = super::world::config(&data, self.level);
        config.init = vec![HOSTILE_INSIDE.to_owned()];
        let backend = Container::open(config).expect("a backend");
        let spec = self.spec();
        let created = self.block_on(backend.create(&spec));
        let description = created.expect("a sandbox whose PID 1 lies starts as any other");
        Sandbox::new(backend, self.runtime(), &data, description)
    }

    /// A server in whose sandboxes PID 1 lies; started when first asked for.
    pub(crate) fn hostile_server(&self) -> &Server {
        self.hostile_server.get_or_init(|| {
            let programs = self.path().join("hostile-programs");
            stage(&programs);
            Server::start_of(&programs)
        })
    }
}

fn built() -> PathBuf {
    example("hostile").expect("hostile is missing: cargo build -p sandbox --examples")
}

fn stage(programs: &Path) {
    std::fs::create_dir_all(programs).expect("made");
    let take = |from: &Path, name: &str| {
        let to = programs.join(name);
        if std::fs::hard_link(from, &to).is_err() {
            std::fs::copy(from, &to).expect("copied");
        }
    };
    take(&built(), "hangar-agentd");
    for name in ["hangar", "hangar-agent", "hangar-launch"] {
        take(&cli::programs::require(name).expect("all programs are built"), name);
    }
}
