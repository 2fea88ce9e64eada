//! Files: the host's are out of reach, and what is read-only stays so.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};

use protocol::sandbox::Isolation;
use sandbox::Backend as _;

use super::{attempt, refused};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::host::mounts_below;
use crate::support::sandbox::chain;
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
            "each is read-only; at gvisor /dev is memory of its own, which counts as the sandbox's",
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
            "there are none; at gvisor its own kernel has two more, which it may not use",
            devices,
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

fn devices(world: &World) -> Outcome {
    // Not in /usr, which is the host's as it is, by a mount on which devices do not count.
    let line = "find / -xdev -path /usr -prune -o -path /dev -prune -o \
                \\( -type b -o -type c \\) -print 2>/dev/null; \
                ls -lR /dev | awk '/^[bc]/ { print $NF }' | sort -u | tr '\\n' ' '";
    let said = world.sandbox().shell(line);
    if world.level != Isolation::Gvisor {
        let usual = "full null ptmx random tty urandom zero ";
        return Outcome::check(said.stdout == usual, said.to_string());
    }
    let usual = "full fuse null ptmx random tty tun urandom zero ";
    // TUNSETIFF for an interface of its own: what the tunnel device is for.
    let tunnel = world.sandbox().perl(
        "open(my $f, '+<', '/dev/net/tun') or do { print \"not opened: $!\"; exit 1 }; \
         my $r = pack('a16 s x22', 'stolen0', 0x1001); \
         ioctl($f, 0x400454ca, $r) or do { print \"not made: $!\"; exit 1 }; print 'made'",
        &[],
    );
    let refused = tunnel.code == Some(1) && tunnel.stdout.starts_with("not ");
    Outcome::check(said.stdout == usual && refused, format!("{said}; the tunnel: {tunnel}"))
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
    // gVisor makes its own /dev, and a read-only one would let nobody write to /dev/null either.
    let is_own = |place: &str| place == "/dev" && world.level == Isolation::Gvisor;
    for place in places.into_iter().filter(|place| !is_own(place)) {
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
    // Without a link it starts, so what keeps the others from it are the links.
    if let Err(why) = start_from(world, &victim, &[]) {
        return Outcome::breach(format!("nothing planted, and it does not start: {why}"));
    }
    let mut starts = Vec::new();
    for links in PLANTED {
        // A link that leads nowhere inside may keep it from starting; that harms nobody else.
        starts.push(start_from(world, &victim, links));
        let names: Vec<_> =
            victim.read_dir().expect("there").flatten().map(|it| it.file_name()).collect();
        let text = std::fs::read_to_string(victim.join("file")).unwrap_or_default();
        if text != "of the host" || names != ["file"] || mounts_below(&victim) != before {
            return Outcome::breach(format!("{links:?}: {names:?} {text:?}"));
        }
    }
    let refusals: Vec<_> = starts.iter().filter_map(|it| it.as_ref().err()).collect();
    let (all, refused) = (starts.len(), refusals.len());
    Outcome::held(format!("the host's files stay; {refused} of {all} do not start: {refusals:?}"))
}

/// Starts a sandbox from another's files, with these links put among them.
fn start_from(
    world: &World,
    victim: &std::path::Path,
    links: &[(&str, &str)],
) -> Result<(), String> {
    let first = world.another(|_| {});
    let written = first.shell("echo kept > ~/kept");
    assert!(written.succeeded(), "{written}");
    world.block_on(world.backend.stop(first.id)).expect("it stops");
    // From the host's side, as if everything that holds the sandbox back had failed.
    for (name, to) in links {
        let path = first.directory().join("files/upper").join(name);
        let _it_may_not_be_there = std::fs::remove_file(&path);
        let _it_may_not_be_there = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        symlink(victim.join(to), &path).expect("planted");
        // As if made inside, or the start would fail for the owner alone.
        let owner = first.directory().join("files/upper").metadata().expect("there");
        for made in [Some(path.as_path()), path.parent()].into_iter().flatten() {
            lchown(made, Some(owner.uid()), Some(owner.gid())).expect("given away");
        }
    }
    let second = world.try_another(|spec| spec.upper_from = Some(first.id));
    let second = second.map_err(|error| chain(&error))?;
    // What is at home may be gone with what a link replaced.
    let line = if links.is_empty() { "grep -q kept ~/kept" } else { "true" };
    let said = second.shell(line);
    if said.succeeded() { Ok(()) } else { Err(said.to_string()) }
}

fn set_user_id(world: &World) -> Outcome {
    let path = world.path().join("toolkit/bin/attack-set-user-id");
    std::fs::copy(world.path().join("toolkit/bin/attack"), &path).expect("copied");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6755)).expect("a mode");
    // One that starts with the program there: gVisor does not look at the host's directories twice.
    let said = world.another(|_| {}).run(&["/opt/hangar/bin/attack-set-user-id", "who"]);
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
