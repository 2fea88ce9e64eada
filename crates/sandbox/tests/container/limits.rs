//! Limits hold where they are reported to hold.

use std::time::Duration;

use protocol::SandboxId;
use protocol::sandbox::{Consequence, Enforcement, LimitName, LimitReport, StartPath};
use sandbox::{Backend as _, Exceeded};

use crate::support::{House, Run as _};

fn holds(reports: &[LimitReport], limit: &str) -> bool {
    let report = reports.iter().find(|report| report.limit == limit).expect(limit);
    eprintln!("{limit}: {:?}", report.enforcement);
    matches!(report.enforcement, Enforcement::Enforced { .. })
}

#[tokio::test]
async fn a_flood_of_processes_is_bounded() {
    let house = House::new();
    let spec = house.spec();
    let description = house.backend.create(&spec).await.expect("it starts");
    assert!(holds(&description.enforcement, "pids"), "everywhere: by group or by user");
    let line =
        "i=0; while [ $i -lt 600 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all";
    let output = house.run(spec.id, &["bash", "-c", line]).await;
    assert!(!String::from_utf8_lossy(&output.stdout).contains("all"), "{output:?}");
    assert!(crate::support::processes_of(house.path()).len() <= 100);
    house.backend.discard(spec.id).await.expect("it goes");
    house.is_clean().await;
}

#[tokio::test]
async fn memory_beyond_the_limit_kills_only_inside() {
    let house = House::new();
    let spec = house.spec();
    let description = house.backend.create(&spec).await.expect("it starts");
    if holds(&description.enforcement, "memory") {
        let line = "import sys; held = bytearray(512 << 20); print(len(held))";
        let output = house.run(spec.id, &["python3", "-c", line]).await;
        assert_eq!(output.exit.signal, Some(9), "{output:?}");
        house.run(spec.id, &["true"]).await;
    } else {
        assert!(!rustix::process::geteuid().is_root(), "root can hold memory here");
    }
    house.backend.discard(spec.id).await.expect("it goes");
    house.is_clean().await;
}

#[tokio::test]
async fn processor_time_is_bounded() {
    let house = House::new();
    let mut spec = house.spec();
    spec.limits.cpu_millicores = 200;
    let description = house.backend.create(&spec).await.expect("it starts");
    if holds(&description.enforcement, "cpu") {
        let line = "import time; end = time.monotonic() + 2\n\
                    while time.monotonic() < end: pass\n\
                    print(time.process_time())";
        let output = house.run(spec.id, &["python3", "-c", line]).await;
        let used: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds");
        assert!(used < 1.2, "a fifth of two seconds, and no more than half: {used}");
    }
    house.backend.discard(spec.id).await.expect("it goes");
    house.is_clean().await;
}

/// Looks, as a server does, until a limit of a sandbox was hit.
async fn told(house: &House, id: SandboxId, limit: LimitName) -> Exceeded {
    let looking = async {
        loop {
            let all = house.backend.exceeded().await.expect("it looks");
            if let Some(found) = all.into_iter().find(|it| it.sandbox == id && it.limit == limit) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let patience = Duration::from_mins(2);
    tokio::time::timeout(patience, looking).await.expect("a limit that is hit is told")
}

#[tokio::test]
async fn a_disk_that_is_filled_is_told_also_after_a_restart() {
    let house = House::new();
    let mut spec = house.spec();
    spec.limits.disk_bytes = 32 << 20;
    house.backend.create(&spec).await.expect("it starts");
    let small = house.shell(spec.id, "head -c 8M /dev/zero > /home/agent/small; echo done").await;
    assert_eq!(small, "done\n");
    let quiet = house.backend.exceeded().await.expect("it looks");
    assert_eq!(quiet, [], "8 of 32 MiB");
    // A server that begins finds it again.
    let again = house.again();
    let filled = house.shell(spec.id, "head -c 64M /dev/zero > /var/tmp/large; echo done").await;
    assert_eq!(filled, "done\n");
    let all = again.exceeded().await.expect("it looks");
    let [found] = &all[..] else { panic!("{all:?}") };
    assert_eq!((found.sandbox, found.limit), (spec.id, LimitName::Disk));
    assert_eq!((found.consequence, found.maximum), (Consequence::Ended, 32 << 20));
    assert!(found.usage >= 72 << 20, "{found:?}");
    assert_eq!(again.exceeded().await.expect("it looks"), [], "it is told once");
    house.backend.stop(spec.id).await.expect("it stops");
    // Whoever continues has a tenth more, to clean up, and no more than that.
    let mut next = house.spec();
    (next.upper_from, next.path) = (Some(spec.id), StartPath::Restore);
    next.limits.disk_bytes = 32 << 20;
    house.backend.create(&next).await.expect("it continues");
    assert_eq!(house.backend.exceeded().await.expect("it looks"), []);
    let more = house.shell(next.id, "head -c 16M /dev/zero > /var/tmp/more; echo done").await;
    assert_eq!(more, "done\n");
    let exceeded = told(&house, next.id, LimitName::Disk).await;
    assert_eq!(exceeded.consequence, Consequence::Ended, "{exceeded:?}");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn many_small_files_count_as_what_they_take() {
    let house = House::new();
    let mut spec = house.spec();
    spec.limits.disk_bytes = 16 << 20;
    house.backend.create(&spec).await.expect("it starts");
    let line = "mkdir '/var/tmp/many'; for (1..6000) { open(F, '>', \"/var/tmp/many/$_\"); close F } print 1";
    assert_eq!(house.run(spec.id, &["perl", "-e", line]).await.stdout, b"1");
    let exceeded = told(&house, spec.id, LimitName::Disk).await;
    assert!(exceeded.usage > 16 << 20, "6000 empty files: {exceeded:?}");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn memory_and_processes_that_were_refused_are_told() {
    let house = House::new();
    let mut spec = house.spec();
    spec.limits.pids = 40;
    let description = house.backend.create(&spec).await.expect("it starts");
    let by_group = |limit: &str| {
        description.enforcement.iter().any(|report| {
            report.limit == limit
                && matches!(&report.enforcement, Enforcement::Enforced { by } if by.contains("cgroup"))
        })
    };
    assert_eq!(house.backend.exceeded().await.expect("it looks"), []);
    if by_group("memory") {
        let line = "import sys; held = bytearray(512 << 20); print(len(held))";
        let output = house.run(spec.id, &["python3", "-c", line]).await;
        assert_eq!(output.exit.signal, Some(9), "{output:?}");
        let exceeded = told(&house, spec.id, LimitName::Memory).await;
        assert_eq!(exceeded.consequence, Consequence::Throttled, "PID 1 goes on: {exceeded:?}");
        assert_eq!(exceeded.maximum, 256 << 20);
    }
    if by_group("pids") {
        let line = "for (1..100) { my $pid = fork(); last unless defined $pid; if (!$pid) { sleep 9; exit } }";
        house.run(spec.id, &["perl", "-e", line]).await;
        let exceeded = told(&house, spec.id, LimitName::Pids).await;
        assert_eq!((exceeded.usage, exceeded.maximum), (40, 40));
    }
    assert!(by_group("pids") || !rustix::process::geteuid().is_root(), "root can count here");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn watching_idle_sandboxes_costs_next_to_nothing() {
    let house = House::new();
    for _ in 0..20 {
        house.started().await;
    }
    house.backend.exceeded().await.expect("it looks");
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(house.backend.exceeded().await.expect("it looks"), []);
    }
    let each = begun.elapsed() / 100;
    eprintln!("one look at 20 idle sandboxes: {each:?}");
    // A look walks no files here: with a walk it would be hundreds of times this.
    assert!(each < Duration::from_millis(50), "{each:?}");
    house.discard_all().await;
    house.is_clean().await;
}
