//! Reading the bundle: of an OCI configuration, the parts that this launcher carries out.

use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxIdMapping, Spec};
use sandbox::container::handover::{self, Area};
use seccompiler::BpfProgram;

use crate::failure::{Doing, Outcome, invalid};
use crate::filter;

/// A sandbox to start.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) gated: Option<String>,
    pub(crate) groups: Vec<PathBuf>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
    pub(crate) hostname: String,
    /// Whether ids other than root's exist inside, which takes the host's root to arrange.
    pub(crate) has_range: bool,
    pub(crate) uid_map: String,
    pub(crate) gid_map: String,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) processes: Option<u64>,
    /// Compiled before there is anything to wait for.
    pub(crate) filter: Option<BpfProgram>,
    /// The OCI runtime that takes the finished root, where that is not this program.
    pub(crate) world: Option<World>,
}

/// The small root an OCI runtime runs in.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) arguments: Vec<CString>,
    /// Whether the runtime hands agentd's socket on.
    pub(crate) passes_listener: bool,
}

/// One mount beneath the root, in order.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Absolute, inside.
    pub(crate) destination: String,
    pub(crate) kind: Kind,
    /// `ro`, `nosuid`, … and `key=value` for the file system.
    pub(crate) options: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Bind { source: PathBuf },
    FileSystem { name: String },
}

impl Bundle {
    pub(crate) fn parse(text: &[u8]) -> Outcome<Self> {
        let spec: Spec = serde_json::from_slice(text)
            .map_err(|error| invalid(format!("read {}: {error}", handover::CONFIG)))?;
        let annotations = spec.annotations().clone().unwrap_or_default();
        let annotation = |name: &str| annotations.get(name);
        let paths = |name: &str| -> Outcome<Vec<PathBuf>> {
            let text = annotation(name).ok_or_else(|| invalid(format!("find {name}")))?;
            serde_json::from_str(text).map_err(|error| invalid(format!("read {name}: {error}")))
        };
        let linux = spec.linux().as_ref().ok_or_else(|| invalid("find linux"))?;
        let process = spec.process().as_ref().ok_or_else(|| invalid("find process"))?;
        let upper = annotation(handover::UPPER).ok_or_else(|| invalid("find the upper"))?;
        let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
        let processes = process
            .rlimits()
            .iter()
            .flatten()
            .find(|limit| limit.typ() == oci_spec::runtime::PosixRlimitType::RlimitNproc);
        Ok(Self {
            lower: paths(handover::LOWER)?,
            upper: upper.into(),
            gated: annotation(handover::GATED).cloned(),
            groups: paths(handover::GROUPS)?,
            mounts: spec.mounts().iter().flatten().map(mount).collect::<Outcome<_>>()?,
            masked: linux.masked_paths().clone().unwrap_or_default(),
            read_only: linux.readonly_paths().clone().unwrap_or_default(),
            hostname: spec.hostname().clone().unwrap_or_default(),
            has_range: linux.uid_mappings().iter().flatten().any(|map| map.size() > 1),
            uid_map: id_map(linux.uid_mappings().as_deref()),
            gid_map: id_map(linux.gid_mappings().as_deref()),
            arguments: strings(process.args().as_deref())?,
            environment: strings(process.env().as_deref())?,
            capabilities: bounding.into_iter().flatten().collect(),
            processes: processes.map(oci_spec::runtime::PosixRlimit::hard),
            filter: linux.seccomp().as_ref().map(filter::compile).transpose()?,
            world: annotation(handover::RUNTIME).map(|text| World::parse(text)).transpose()?,
        })
    }
}

impl World {
    fn parse(text: &str) -> Outcome<Self> {
        let world: handover::World = serde_json::from_str(text)
            .map_err(|error| invalid(format!("read {}: {error}", handover::RUNTIME)))?;
        Ok(Self {
            mounts: world.mounts.iter().map(mount).collect::<Outcome<_>>()?,
            arguments: strings(Some(&world.arguments))?,
            passes_listener: world.passes_listener,
        })
    }
}

impl Bundle {
    /// Everything that is mounted, the sandbox's own first: the number of one names its source.
    pub(crate) fn all_mounts(&self) -> impl Iterator<Item = (usize, &Mount)> {
        let world = self.world.iter().flat_map(|world| &world.mounts);
        self.mounts.iter().chain(world).enumerate()
    }
}

fn mount(mount: &oci_spec::runtime::Mount) -> Outcome<Mount> {
    let options = mount.options().clone().unwrap_or_default();
    let destination = mount.destination().to_string_lossy().into_owned();
    let is_bind = options.iter().any(|option| option == "bind" || option == "rbind");
    let source = mount.source().clone();
    let kind = match (is_bind, source, mount.typ()) {
        (true, Some(source), _) => Kind::Bind { source },
        (false, _, Some(name)) => Kind::FileSystem { name: name.clone() },
        _ => return Err(invalid(format!("understand the mount at {destination}"))),
    };
    Ok(Mount { destination, kind, options })
}

fn id_map(mappings: Option<&[LinuxIdMapping]>) -> String {
    let line =
        |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    mappings.unwrap_or_default().iter().map(line).collect()
}

fn strings(texts: Option<&[String]>) -> Outcome<Vec<CString>> {
    let texts = texts.unwrap_or_default().iter();
    texts
        .map(|text| {
            CString::new(text.as_str())
                .map_err(std::io::Error::from)
                .doing(Area::Other, || format!("use the text {text:?}"))
        })
        .collect()
}
