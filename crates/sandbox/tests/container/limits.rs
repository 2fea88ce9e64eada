//! Limits hold where they are reported to hold.

use protocol::sandbox::{Enforcement, LimitReport};
use sandbox::Backend as _;

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
