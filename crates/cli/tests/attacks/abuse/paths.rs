//! Paths in the file API that lead elsewhere: the agent lays links, the host follows or does not.

use std::time::Duration;

use bytes::Bytes;
use protocol::sandbox::Isolation;

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::sandbox::{Sandbox, chain};
use crate::support::world::World;

const SECRET: &str = "a file of the host's";
const SOON: Duration = Duration::from_secs(20);

pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt(
        "links-to-the-host",
        "lays links to files of the host, by every way round, and has the host read them",
        "what is read lies inside: the host's file is never seen",
        links,
    ),
    attempt(
        "links-to-agentd",
        "lays links to agentd's memory, environment and descriptors and has the host read them",
        "the agent's rights do not reach them; a kernel of the sandbox's own may show the environment, which holds no secret",
        agentd,
    ),
    attempt(
        "write-through-links",
        "lays links to read-only places and has the host write through them",
        "the write is refused, and nothing there changes",
        write_through,
    ),
    attempt(
        "pipe-as-file",
        "puts a pipe and an endless device where the host reads a file",
        "the pipe holds nobody up but who asked, and the device is cut at the limit",
        pipe,
    ),
];

const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Abuse, tries, expected, levels: EVERY_LEVEL, run }
}

fn read(sandbox: &Sandbox, path: &str) -> Result<Bytes, String> {
    let read = async { tokio::time::timeout(SOON, sandbox.client.read_file(path, 1 << 20)).await };
    match sandbox.block_on(read) {
        Ok(read) => read.map_err(|error| chain(&error)),
        Err(_) => Err(format!("nothing within {SOON:?}")),
    }
}

fn links(world: &World) -> Outcome {
    let bait = world.path().join("bait");
    std::fs::write(&bait, SECRET).expect("written");
    let bait = bait.to_str().expect("a path");
    let sandbox = world.sandbox();
    let line = format!(
        "ln -sfn {bait} /tmp/straight; ln -sfn ../../../../..{bait} /tmp/up; \
         ln -sfn /proc/self/root{bait} /tmp/root; ln -sfn /proc/1/root{bait} /tmp/first; \
         ln -sfn /proc/self/cwd/../../../..{bait} /tmp/here; ln -sfn / /tmp/top"
    );
    sandbox.shell(&line);
    let mut paths: Vec<String> = ["straight", "up", "root", "first", "here"]
        .iter()
        .map(|name| format!("/tmp/{name}"))
        .collect();
    paths.push(format!("/tmp/top{bait}"));
    paths.push(format!("/workspace/../../../..{bait}"));
    paths.push(format!("/workspace/%2e%2e/%2e%2e{bait}"));
    let seen: Vec<String> =
        paths.iter().map(|path| format!("{path}: {:?}", read(&sandbox, path))).collect();
    Outcome::check(!seen.iter().any(|line| line.contains(SECRET)), seen.join("; "))
}

fn agentd(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    sandbox
        .shell("for name in mem environ maps fd/3; do ln -sfn /proc/1/$name /tmp/${name%/*}; done");
    let names = ["mem", "environ", "maps", "fd"];
    let seen = names.map(|name| format!("{name}: {:?}", read(&sandbox, &format!("/tmp/{name}"))));
    let private = |line: &&String| {
        world.level == Isolation::Namespaces || line.starts_with("mem") || line.starts_with("fd")
    };
    let kept = seen.iter().filter(private).all(|line| line.contains(": Err("));
    Outcome::check(kept, seen.map(|line| line.chars().take(90).collect::<String>()).join("; "))
}

fn write_through(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let places = [
        "/opt/hangar/bin/hangar-agentd",
        "/usr/bin/hangar-was-here",
        "/run/hangar/mine",
        "/proc/sys/kernel/core_pattern",
        "/etc/machine-id",
    ];
    let mut seen = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let link = format!("/tmp/place-{number}");
        sandbox.shell(&format!("ln -sfn {place} {link}"));
        let write = sandbox.client.write_file(&link, Bytes::from_static(b"mine"));
        let written = sandbox.block_on(async { tokio::time::timeout(SOON, write).await });
        seen.push(match written {
            // A link may be replaced by a file, which harms nobody.
            Ok(Ok(())) => sandbox.shell(&format!("head -c 40 {place}")).text(),
            Ok(Err(error)) => chain(&error),
            Err(_) => "mine: it hangs".to_owned(),
        });
    }
    let changed = seen.iter().any(|said| said.trim_end() == "mine" || said.starts_with("mine:"));
    let here = std::path::Path::new("/usr/bin/hangar-was-here").exists();
    Outcome::check(!changed && !here, seen.join("; "))
}

fn pipe(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    sandbox.shell("mkfifo /tmp/pipe; ln -sfn /dev/zero /tmp/zeros");
    let waiting = async {
        tokio::time::timeout(Duration::from_secs(2), sandbox.client.read_file("/tmp/pipe", 10))
            .await
    };
    let pipe = sandbox.block_on(waiting).map(|read| read.map_err(|error| chain(&error)));
    let zeros = read(&sandbox, "/tmp/zeros");
    let cut = zeros.as_ref().is_err_and(|said| !said.starts_with("nothing within"));
    let empty = !matches!(&pipe, Ok(Ok(bytes)) if !bytes.is_empty());
    let answers = sandbox.answers();
    Outcome::check(cut && empty && answers.is_ok(), format!("{pipe:?}; {zeros:?}; {answers:?}"))
}
