//! Nothing is left behind: after many lives that end in every way, the machine is as it was before.
//!
//! The ways come from a printed seed: `HANGAR_SEED=… cargo test -p sandbox --test cycles` repeats
//! them. It is a test program of its own, because it counts its own descriptors.

#![expect(clippy::print_stderr, reason = "the seed repeats a failure")]

#[path = "container/support.rs"]
#[allow(dead_code, reason = "this test needs a part of it")]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::SandboxId;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::container::Container;
use sandbox::{Backend as _, ObservedState, Spec};

use support::{House, Run as _, groups_of, open, processes_of};

const CYCLES: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the directory on which the process that is killed works.
const PLACE: &str = "HANGAR_CYCLES_PLACE";

/// Numbers that look random and are the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("HANGAR_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::from(now.subsec_nanos()) | 1
    })
}

/// What could be left of a house's sandboxes on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    processes: Vec<u32>,
    mounts: Vec<String>,
    groups: Vec<PathBuf>,
    files: Vec<PathBuf>,
    loops: Vec<String>,
}

fn left(house: &House) -> Left {
    let ours = house.path().to_str().expect("a path");
    let lines = |path: &str| {
        let text = std::fs::read_to_string(path).expect("readable");
        text.lines().filter(|line| line.contains(ours)).map(str::to_owned).collect::<Vec<_>>()
    };
    // Loop devices tell their file only by their own.
    let loops = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let loops = loops.filter_map(|it| {
        let file = std::fs::read_to_string(it.path().join("loop/backing_file")).ok()?;
        file.contains(ours).then_some(file)
    });
    let data = house.path().join("data");
    let mut files = Vec::new();
    for name in ["sandboxes", "images", "base"] {
        files.extend(entries(&data.join(name)));
    }
    files.sort();
    Left {
        processes: processes_of(house.path()),
        mounts: lines("/proc/self/mountinfo"),
        groups: groups_of(house.path()),
        files,
        loops: loops.collect(),
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn descriptors() -> BTreeMap<u32, PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let open = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(entry.path()).ok()?))
    });
    open.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_lives_leave_nothing() {
    let seed = seed();
    eprintln!("HANGAR_SEED={seed}");
    let mut random = Random(seed);
    let house = House::new();
    let strangers = Strangers::beside(&house).await;
    // The first of everything is made once and stays: a runtime's descriptors, the lowest layer.
    for way in 0..WAYS {
        live(&house, way, &mut random).await;
    }
    let (before, open_before) = (left(&house), descriptors());
    let mut counts = BTreeMap::new();
    for _ in 0..CYCLES {
        let way = random.below(WAYS);
        *counts.entry(way).or_insert(0) += 1;
        live(&house, way, &mut random).await;
    }
    eprintln!("ways of {CYCLES} lives: {counts:?}");
    let (after, open_after) = (left(&house), descriptors());
    assert_eq!(before, after, "HANGAR_SEED={seed}");
    assert_eq!(open_before.len(), open_after.len(), "{open_before:#?}\n{open_after:#?}");
    strangers.are_still_there();
    drop(strangers);
    house.is_clean().await;
}

/// How many ways there are.
const WAYS: u64 = 8;

/// One sandbox, or a few, from nothing to nothing.
async fn live(house: &House, way: u64, random: &mut Random) {
    let backend = &house.backend;
    match way {
        0 => {
            let id = house.started().await.id;
            backend.stop(id).await.expect("it stops");
            backend.discard(id).await.expect("it goes");
        }
        1 => {
            let id = house.started().await.id;
            backend.discard(id).await.expect("it goes while it runs");
        }
        2 => crash(house).await,
        3 => {
            let from = house.started().await.id;
            backend.stop(from).await.expect("it stops");
            let next = Spec { upper_from: Some(from), ..house.spec() };
            backend.create(&next).await.expect("it continues");
            backend.discard(next.id).await.expect("it goes");
            // A server that died before it discarded the first finds an empty shell.
            backend.reap(&[]).await.expect("reaped");
        }
        4 => {
            let spec = house.spec();
            let waited = Duration::from_micros(random.below(12_000));
            let _given_up = tokio::time::timeout(waited, backend.create(&spec)).await;
            backend.discard(spec.id).await.expect("it goes");
        }
        5 => launcher_killed(house, random).await,
        6 => {
            let broken = Spec { toolkit: house.path().join("no-toolkit"), ..house.spec() };
            backend.create(&broken).await.expect_err("there is no toolkit");
            backend.reap(&[]).await.expect("reaped");
        }
        _ => server_killed(house, random).await,
    }
}

async fn crash(house: &House) {
    let id = house.started().await.id;
    house.run(id, &["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"]).await;
    kill(house.pid(id));
    let ended = tokio::time::timeout(PATIENCE, house.backend.ended(id)).await;
    ended.expect("noticed").expect("a reason");
    house.backend.discard(id).await.expect("it goes");
}

async fn state(house: &House, id: SandboxId) -> Option<ObservedState> {
    let observed = house.backend.observe().await.expect("observed");
    observed.into_iter().find(|one| one.id == id).map(|one| one.state)
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a pid");
    let _it_is_gone = kill_process(pid, Signal::KILL);
}

/// The launcher is killed in the middle of its work, if it is still at it.
async fn launcher_killed(house: &House, random: &mut Random) {
    let spec = house.spec();
    let (backend, wanted) = (house.backend.clone(), spec.clone());
    let starting = tokio::spawn(async move { backend.create(&wanted).await });
    tokio::time::sleep(Duration::from_micros(random.below(12_000))).await;
    for pid in launchers(spec.id) {
        kill(pid);
    }
    let started = starting.await.expect("no panic");
    if started.is_err() {
        assert_ne!(state(house, spec.id).await, Some(ObservedState::Running), "{started:?}");
    }
    house.backend.discard(spec.id).await.expect("it goes");
}

fn launchers(id: SandboxId) -> Vec<u32> {
    let id = id.to_string();
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("hangar-launch") && line.contains(&id)
    })
    .collect()
}

/// A process that starts and ends sandboxes, as a server does, is killed at some moment; another
/// takes up what it left.
async fn server_killed(house: &House, random: &mut Random) {
    let mut server = server(house.path());
    let some = wait_for_a_sandbox(house).await;
    tokio::time::sleep(Duration::from_micros(random.below(40_000))).await;
    server.kill().expect("killed");
    server.wait().expect("reaped");
    assert!(some, "the process that stands for a server did nothing");
    let again = house.again();
    again.reap(&[]).await.expect("reaped");
    for one in again.observe().await.expect("observed") {
        // Somebody may continue from these; a server deletes them when nobody wants to.
        assert!(matches!(one.state, ObservedState::Ended { .. }), "{one:?}");
        again.discard(one.id).await.expect("it goes");
    }
}

fn server(place: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_server_to_kill", "--ignored", "--nocapture"])
        .env(PLACE, place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

async fn wait_for_a_sandbox(house: &House) -> bool {
    let seen = async {
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.parse::<SandboxId>().is_ok())
        };
        while !entries(&house.path().join("data/sandboxes")).iter().any(ours) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is no test: the process that another test kills"]
async fn a_server_to_kill() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let backend = open(&place);
    loop {
        let work = (0..3).map(|_| one_life(&backend, &place));
        futures_util::future::join_all(work).await;
    }
}

async fn one_life(backend: &Container, place: &Path) {
    let spec = support::spec(place);
    backend.create(&spec).await.expect("it starts");
    backend.stop(spec.id).await.expect("it stops");
    let next = Spec { upper_from: Some(spec.id), ..support::spec(place) };
    backend.create(&next).await.expect("it continues");
    backend.stop(next.id).await.expect("it stops");
    let image = protocol::ImageId::new();
    let layers = backend.layers().expect("it freezes");
    layers.freeze(next.id, image).await.expect("frozen");
    layers.remove(image).await.expect("removed");
    for id in [spec.id, next.id] {
        backend.discard(id).await.expect("it goes");
    }
}

/// What looks like a sandbox's and is not: another's directories, group and process.
struct Strangers {
    directories: Vec<PathBuf>,
    group: Option<PathBuf>,
    process: Child,
}

impl Strangers {
    async fn beside(house: &House) -> Self {
        let sandboxes = house.path().join("data/sandboxes");
        let process = Command::new("sleep").arg("1000").spawn().expect("it starts");
        reuse_its_number(house, &process).await;
        let names = ["discarded-by-somebody", "sbx_almost", "notes"];
        let mut directories: Vec<PathBuf> = names.iter().map(|name| sandboxes.join(name)).collect();
        directories.push(house.path().join("data/images/img_almost"));
        for path in &directories {
            std::fs::create_dir(path).expect("made");
            // As if it were the recorded PID 1 of a sandbox.
            let recorded =
                serde_json::json!({"pid": process.id(), "start_time": 1, "boot": "other"});
            std::fs::write(path.join("state.json"), recorded.to_string()).expect("written");
        }
        // A group of the same make, of another data directory.
        let running = house.started().await.id;
        let ours = groups_of(house.path()).into_iter().next();
        house.backend.discard(running).await.expect("it goes");
        let group = ours.map(|ours| {
            let other = ours.with_file_name("hangar-00000000").join(SandboxId::new().to_string());
            std::fs::create_dir_all(&other).expect("made");
            std::fs::write(other.join("cgroup.procs"), process.id().to_string()).expect("joined");
            other
        });
        Self { directories, group, process }
    }

    fn are_still_there(&self) {
        for path in &self.directories {
            assert!(path.join("state.json").is_file(), "{} is gone", path.display());
        }
        if let Some(group) = &self.group {
            let inside = std::fs::read_to_string(group.join("cgroup.procs")).expect("a group");
            assert!(inside.contains(&self.process.id().to_string()), "{inside:?}");
        }
        let lives = Path::new("/proc").join(self.process.id().to_string()).join("exe").exists();
        assert!(lives, "a stranger was killed");
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        let _it_is_gone = self.process.kill();
        let _it_is_gone = self.process.wait();
        for path in &self.directories {
            let _it_is_gone = std::fs::remove_dir_all(path);
        }
        if let Some(group) = &self.group {
            let _tried = std::fs::remove_dir(group);
            let _tried = group.parent().map(std::fs::remove_dir);
        }
    }
}

/// A dead sandbox whose PID 1 had the number that another process has now.
async fn reuse_its_number(house: &House, process: &Child) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("readable");
    let recorded = serde_json::json!({"pid": process.id(), "start_time": 1, "boot": boot.trim()});
    let id = SandboxId::new();
    let directory = house.path().join("data/sandboxes").join(id.to_string());
    std::fs::create_dir(&directory).expect("made");
    std::fs::write(directory.join("state.json"), recorded.to_string()).expect("written");
    assert!(matches!(state(house, id).await, Some(ObservedState::Ended { .. })));
    house.backend.reap(&[]).await.expect("reaped");
    house.backend.discard(id).await.expect("it goes");
}
