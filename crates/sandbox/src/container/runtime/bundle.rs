//! One bundle, shared out: what the launcher mounts, and what the OCI runtime within it is told.

use std::path::Path;

use oci_spec::runtime;
use protocol::layout;
use serde_json::{Value, json};

use super::{Flavour, Oci};
use crate::Error;
use crate::container::files::{failed, make_directory, remove_tree, write};
use crate::container::handover::{self, World};
use crate::container::owner::Owner;

/// The runtime's own directory beside the bundle.
pub(in crate::container) const DIRECTORY: &str = "runtime";
/// In it, where agentd listens when it can inherit nothing.
pub(in crate::container) const AGENTD: &str = "agentd";

/// The mark that agentd let go, in the sandbox's directory.
pub(in crate::container) const ASLEEP: &str = "runtime/agentd/asleep";
/// Where gVisor writes a sandbox down, in the sandbox's directory.
pub(in crate::container) const CHECKPOINT: &str = "runtime/checkpoint";

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A bundle for the launcher, and where the runtime's own lies.
#[derive(Debug)]
pub(in crate::container) struct Split<'a> {
    pub(in crate::container) oci: &'a Oci,
    /// The sandbox's directory.
    pub(in crate::container) directory: &'a Path,
    pub(in crate::container) owner: Owner,
}

/// Takes from the launcher's bundle what the runtime does, writes the runtime's bundle, and makes the
/// launcher end in the runtime.
pub(in crate::container) fn split(outer: &mut Value, to: &Split<'_>) -> Result<(), Error> {
    let own = to.directory.join(DIRECTORY);
    remove_tree(&own)?;
    for (name, given) in [("bundle", false), ("state", true), (AGENTD, true), ("checkpoint", true)]
    {
        let path = own.join(name);
        make_directory(&path, 0o755)?;
        if given {
            to.owner.give(&path).map_err(failed("give away", &path))?;
        }
    }
    let inner = take_inner(outer, to.oci);
    let path = own.join("bundle").join(handover::CONFIG);
    let understood: runtime::Spec =
        serde_json::from_value(inner).map_err(|error| failed("describe", &path)(error.into()))?;
    let text =
        serde_json::to_vec(&understood).map_err(|error| failed("describe", &path)(error.into()))?;
    write(&path, &text)?;
    let world = world(to).map_err(|error| failed("describe", &own)(error.into()))?;
    outer["annotations"][handover::RUNTIME] = json!(world.to_string());
    Ok(())
}

/// The runtime's part of the bundle. The rest stays in `outer`.
fn take_inner(outer: &mut Value, oci: &Oci) -> Value {
    let own_kernel = oci.flavour.has_own_kernel();
    let mut inner = outer.clone();
    // What is used of it is in its first version, which older runtimes know.
    inner["ociVersion"] = json!("1.0.2");
    inner["root"] = json!({"path": World::ROOT});
    inner["annotations"] = json!({});
    let mounts = outer["mounts"].as_array().cloned().unwrap_or_default();
    let is_taken = |mount: &Value| is_runtimes(mount["destination"].as_str(), own_kernel);
    let (taken, left): (Vec<_>, Vec<_>) = mounts.into_iter().partition(is_taken);
    outer["mounts"] = json!(left);
    let mut taken: Vec<Value> = taken.into_iter().filter(is_wanted).collect();
    let linux = &mut inner["linux"];
    *linux = json!({
        "namespaces": namespaces(own_kernel),
        "maskedPaths": linux["maskedPaths"], "readonlyPaths": linux["readonlyPaths"],
    });
    if own_kernel {
        taken.push(bind("/gateway", layout::RUN, "ro"));
        taken.push(bind("/agentd", layout::AGENTD_DIRECTORY, "rw"));
        let arguments = inner["process"]["args"].as_array_mut();
        if let Some(arguments) = arguments {
            arguments.extend([json!("--listen"), json!(layout::AGENTD_SOCKET)]);
        }
        inner["process"]["rlimits"] = json!([]);
        // The host cannot open a gate inside another kernel: agentd closes and opens its own there.
        if let Some(annotations) = outer["annotations"].as_object_mut() {
            annotations.remove(handover::GATED);
        }
    } else {
        // The launcher has set it, in the namespaces that stay.
        if let Some(inner) = inner.as_object_mut() {
            inner.remove("hostname");
        }
        // As it is: a bound one is not filled with devices.
        taken.push(bind("/rootfs/dev", "/dev", "rw"));
    }
    inner["mounts"] = json!(taken);
    inner
}

/// Whether a mount is the runtime's to make.
fn is_runtimes(destination: Option<&str>, own_kernel: bool) -> bool {
    let Some(path) = destination else { return false };
    let beneath = |top: &str| path == top || path.starts_with(&format!("{top}/"));
    beneath("/proc")
        || (own_kernel && ["/dev", "/sys", "/tmp", layout::RUN].into_iter().any(beneath))
}

/// Of these, a runtime is told what it would not make by itself.
fn is_wanted(mount: &Value) -> bool {
    let destination = mount["destination"].as_str();
    matches!(destination, Some("/proc" | "/tmp" | "/dev/shm"))
}

fn namespaces(own_kernel: bool) -> Value {
    let kinds: &[&str] =
        if own_kernel { &["pid", "mount", "network", "ipc", "uts"] } else { &["pid", "mount"] };
    kinds.iter().map(|kind| json!({"type": kind})).collect()
}

fn bind(source: &str, destination: &str, access: &str) -> Value {
    json!({
        "destination": destination, "type": "none", "source": source,
        "options": ["rbind", access],
    })
}

/// The runtime's root and command line.
fn world(to: &Split<'_>) -> Result<Value, serde_json::Error> {
    let Split { oci, directory, .. } = to;
    let own = directory.join(DIRECTORY);
    let from = |path: &Path, destination: &str, access: &str| {
        bind(&path.to_string_lossy(), destination, access)
    };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": []}),
        // Runtimes make their small roots in it.
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []}),
        from(&oci.program, "/runtime", "ro"),
        from(&own.join("bundle"), "/bundle", "ro"),
        from(&own.join("state"), "/state", "rw"),
    ];
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        if Path::new(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
            mounts.push(bind(path, path, "ro"));
        }
    }
    let devices = DEVICES.iter().map(|name| format!("/dev/{name}"));
    mounts.extend(devices.map(|path| bind(&path, &path, "rw")));
    if oci.flavour.has_own_kernel() {
        mounts.push(from(&directory.join("gateway"), "/gateway", "ro"));
        mounts.push(from(&own.join(AGENTD), "/agentd", "rw"));
        mounts.push(from(&directory.join(CHECKPOINT), "/checkpoint", "rw"));
    }
    // Both want to see groups, also where they are to leave them alone; and crun refuses a machine
    // with some of each version, which an empty directory is not.
    match oci.flavour {
        Flavour::Runc => mounts.push(bind("/sys", "/sys", "ro")),
        Flavour::Crun | Flavour::Krun => mounts.push(json!({
            "destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "tmpfs", "options": ["ro"],
        })),
        Flavour::Runsc | Flavour::Kata => {}
    }
    if Path::new("/dev/kvm").exists() && oci.flavour.needs_machine() {
        mounts.push(bind("/dev/kvm", "/dev/kvm", "rw"));
    }
    let mut arguments = vec!["/runtime".to_owned()];
    arguments.extend(oci.flavour.options().iter().map(ToString::to_string));
    arguments.extend(["run", "--bundle=/bundle"].map(str::to_owned));
    if !oci.flavour.has_own_kernel() {
        arguments.push("--preserve-fds=1".to_owned());
    }
    arguments.push("sandbox".to_owned());
    let mounts = serde_json::from_value(json!(mounts))?;
    let passes_listener = !oci.flavour.has_own_kernel();
    serde_json::to_value(World { mounts, arguments, passes_listener })
}
