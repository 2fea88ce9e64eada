//! Files: the host's are out of reach, and what is read-only stays so.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use protocol::sandbox::Isolation;
use sandbox::Backend as _;

use super::{attempt, refused};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::host::mounts_below;
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "overwrite-agentd",
            "overwrites agentd and its shim by every path and by /proc/*/exe",
            "it may not, and the program on the host is the same",
            overwrite,
        ),
        attempt(
            "write-toolkit",
            "writes into the toolkit, /usr, the gateway's directory and its own identity",
            "each is read-only",
            write_protected,
        ),
        attempt(
            "core-pattern",
            "sets the program that the host runs after a crash",
            "it may not",
            |world| refused(world, &["write-back", "/proc/sys/kernel/core_pattern"]),
        ),
        attempt(
            "uevent-helper",
            "sets the programs that the kernel runs by itself",
            "it may not",
            |world| {
                let paths = [
                    "/sys/kernel/uevent_helper",
                    "/proc/sys/kernel/hotplug",
                    "/proc/sys/kernel/modprobe",
                    "/proc/sys/kernel/poweroff_cmd",
                    "/proc/sys/fs/binfmt_misc/register",
                ];
                refused(world, &[&["write-back"], &paths[..]].concat())
            },
        ),
        attempt("sysrq", "asks for a magic key of the machine", "it may not", |world| {
            // The one that only prints a help text.
            let said = world.sandbox().shell("echo h > /proc/sysrq-trigger");
            Outcome::refused(&said, &["Read-only file system", "Permission denied", "No such file"])
        }),
        attempt(
            "block-device",
            "makes a device node of the host's disk and reads it",
            "it may not",
            |world| {
                let number = disk();
                let major = rustix::fs::major(number).to_string();
                let minor = rustix::fs::minor(number).to_string();
                refused(world, &["device", "b", &major, &minor])
            },
        ),
        attempt(
            "memory-device",
            "makes device nodes of memory and the kernel's log and reads them",
            "it may not",
            |world| {
                let nodes = [["1", "1"], ["1", "2"], ["1", "4"], ["1", "11"]];
                let tried =
                    nodes.map(|[major, minor]| refused(world, &["device", "c", major, minor]));
                tried
                    .into_iter()
                    .find(|it| matches!(it, Outcome::Breach { .. }))
                    .unwrap_or_else(|| Outcome::held("mem, kmem, port and kmsg are refused"))
            },
        ),
        attempt(
            "devices",
            "looks for devices beyond the standard ones",
            "there are none",
            |world| {
                let line = "find / -xdev \\( -type b -o -type c \\) 2>/dev/null; \
                        ls -lR /dev | awk '/^[bc]/ { print $NF }' | sort -u | tr '\\n' ' '";
                let said = world.sandbox().shell(line);
                let usual = "full null ptmx random tty urandom zero ";
                Outcome::check(said.stdout == usual, said.to_string())
            },
        ),
        attempt(
            "open-by-handle",
            "opens the host's files by their numbers on the disk",
            "it may not",
            |world| refused(world, &["handle", "/etc/hostname"]),
        ),
        attempt(
            "planted-links",
            "leaves links where the next start writes and mounts: /etc/hostname, /etc/hosts, /workspace, /proc …",
            "the start follows none out of the root, and the host's files stay as they are",
            planted_links,
        ),
        Attempt {
            levels: &[Isolation::Namespaces],
            ..attempt(
                "second-line",
                "writes where mounts and permissions let it, and only Landlock does not",
                "it may not, where the kernel has Landlock",
                second_line,
            )
        },
        attempt(
            "set-user-id",
            "runs a program of the host that sets its user id",
            "the id stays",
            set_user_id,
        ),
    ]
}

fn overwrite(world: &World) -> Outcome {
    let paths = ["hangar-agentd", "hangar-agent", "attack"];
    let paths = paths.map(|name| world.path().join("toolkit/bin").join(name));
    let read = || paths.iter().map(|path| std::fs::read(path).ok()).collect::<Vec<_>>();
    let before = read();
    let inside = ["/opt/hangar/bin/hangar-agentd", "/opt/hangar/bin/hangar-agent"];
    // Shims live for a moment; some are born meanwhile, and their links are tried as well.
    let line = "for i in $(seq 30); do (exec /opt/hangar/bin/attack overwrite \"$@\") & done; wait";
    let arguments = [&["bash", "-c", line, "sh"], &inside[..]].concat();
    let said = world.sandbox().run(&arguments);
    let refusals = said.stdout.matches("REFUSED: ").count();
    let same = read() == before && before.iter().all(Option::is_some);
    Outcome::check(
        refusals == 30 && same,
        format!("{refusals} of 30 refused, unchanged: {same}; {}", last(&said.stdout)),
    )
}

fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

fn write_protected(world: &World) -> Outcome {
    let places = [
        "/opt/hangar",
        "/opt/hangar/bin",
        "/usr",
        "/usr/bin",
        "/run/hangar",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/machine-id",
        "/proc",
        "/proc/1/oom_score_adj",
        "/proc/self/comm",
        "/sys",
        "/sys/devices/system/cpu",
        "/dev",
    ];
    for place in places {
        let outcome = refused(world, &["create", place]);
        if let Outcome::Breach { seen } = outcome {
            return Outcome::breach(format!("{place}: {seen}"));
        }
    }
    let control = world.sandbox().attack(&["create", "/home/agent"]);
    Outcome::check(control.succeeded(), format!("{} places; in its home: {control}", places.len()))
}

/// The device that the host's temporary files are on.
fn disk() -> u64 {
    let here = std::env::temp_dir().metadata().expect("a directory").dev();
    let root = std::path::Path::new("/").metadata().expect("a root").dev();
    if rustix::fs::major(root) == 0 { here } else { root }
}

/// Links where the host writes or mounts at a start, planted together: to a place that is there
/// inside as well, to a file and a directory of the host's, and to what is not there yet.
const PLANTED: [&[(&str, &str)]; 9] = [
    &[("workspace", "/../../../../srv"), ("mirror", "/../../../../tmp")],
    &[("etc/hostname", "file"), ("etc/hosts", "file"), ("etc/machine-id", "file")],
    &[("etc/hostname", "new"), ("workspace", "new"), ("mirror", "new")],
    &[("etc", ".")],
    &[("proc", "."), ("sys", "new")],
    &[("dev", ".")],
    &[("tmp", "new")],
    &[("opt", ".")],
    &[("run", "."), ("home", "new")],
];

fn planted_links(world: &World) -> Outcome {
    let victim = world.path().join("victim");
    std::fs::create_dir_all(&victim).expect("made");
    std::fs::write(victim.join("file"), "of the host").expect("written");
    let before = mounts_below(&victim);
    let mut started = 0;
    for links in PLANTED {
        let first = world.another(|_| {});
        world.block_on(world.backend.stop(first.id)).expect("it stops");
        // From the host's side, as if everything that holds the sandbox back had failed.
        for (name, to) in links {
            let path = first.directory().join("files/upper").join(name);
            let _it_may_not_be_there = std::fs::remove_file(&path);
            let _it_may_not_be_there = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            symlink(victim.join(to), &path).expect("planted");
        }
        // A link that leads nowhere inside may keep it from starting; that harms nobody else.
        let second = world.try_another(|spec| spec.upper_from = Some(first.id));
        started += usize::from(second.is_ok_and(|second| second.answers().is_ok()));
        let names: Vec<_> =
            victim.read_dir().expect("there").flatten().map(|it| it.file_name()).collect();
        let text = std::fs::read_to_string(victim.join("file")).unwrap_or_default();
        if text != "of the host" || names != ["file"] || mounts_below(&victim) != before {
            return Outcome::breach(format!("{links:?}: {names:?} {text:?}"));
        }
    }
    let count = PLANTED.len();
    Outcome::check(started > 0, format!("the host's files stay; {started} of {count} starts work"))
}

fn set_user_id(world: &World) -> Outcome {
    let path = world.path().join("toolkit/bin/attack-set-user-id");
    std::fs::copy(world.path().join("toolkit/bin/attack"), &path).expect("copied");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6755)).expect("a mode");
    let said = world.sandbox().run(&["/opt/hangar/bin/attack-set-user-id", "who"]);
    Outcome::check(said.stdout.starts_with("REFUSED: user"), said.to_string())
}

fn second_line(world: &World) -> Outcome {
    let version = world.sandbox().attack(&["landlock"]);
    if !version.succeeded() {
        return Outcome::not_tried(format!("the kernel has no Landlock: {version}"));
    }
    // Beside the toolkit, and beside all there is: neither is a place to work in.
    ["/", "/opt"]
        .map(|place| refused(world, &["create", place]))
        .into_iter()
        .find(|outcome| matches!(outcome, Outcome::Breach { .. }))
        .unwrap_or_else(|| Outcome::held(format!("neither / nor /opt; {version}")))
}
