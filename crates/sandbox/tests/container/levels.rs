//! Every level of isolation that works here: the same contract, the same truth, nothing left behind.

use protocol::sandbox::Isolation;
use sandbox::container::Container;
use sandbox::{Backend as _, Error, ObservedState, conformance};

use crate::support::{House, Run as _, config};

#[tokio::test]
async fn namespaces_keep_the_contract() {
    keeps_the_contract(Isolation::Namespaces).await;
}

#[tokio::test]
async fn gvisor_keeps_the_contract() {
    keeps_the_contract(Isolation::Gvisor).await;
}

async fn keeps_the_contract(isolation: Isolation) {
    let house = House::at(isolation);
    conformance::all(&house.subject()).await;
    house.is_clean().await;
}

#[tokio::test]
async fn the_probe_of_a_level_starts_a_sandbox_and_leaves_nothing() {
    let house = House::new();
    for isolation in [Isolation::Namespaces, Isolation::Gvisor] {
        let probe = house.backend.probe(isolation).await;
        assert!(probe.works, "{probe:#?}");
        assert!(probe.start_milliseconds.is_some() && probe.runtime.is_some(), "{probe:#?}");
        assert_eq!(probe.limits.len(), protocol::sandbox::LimitName::ALL.len());
        house.is_clean().await;
    }
}

#[tokio::test]
async fn a_level_that_does_not_work_is_refused_and_never_replaced() {
    let house = House::new();
    let mut config = config(house.path());
    config.runtimes.insert(Isolation::Gvisor, "/no/such/runsc".into());
    config.runtimes.insert(Isolation::Microvm, "/no/such/krun".into());
    let backend = Container::open(config).expect("a backend");
    for isolation in [Isolation::Gvisor, Isolation::Microvm, Isolation::Simulated] {
        let spec = sandbox::Spec { isolation, ..house.spec() };
        let error = backend.create(&spec).await.expect_err("there is no such runtime");
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(isolation.as_str()), "{error}");
        let probe = backend.probe(isolation).await;
        assert!(!probe.works && probe.why_not().is_some(), "{probe:#?}");
    }
    house.is_clean().await;
}

#[tokio::test]
async fn a_runtime_that_starts_nothing_is_no_level() {
    let house = House::new();
    for program in ["/usr/bin/true", "/usr/bin/false"] {
        let mut config = config(house.path());
        config.runtimes.insert(Isolation::Gvisor, program.into());
        let backend = Container::open(config).expect("a backend");
        let probe = backend.probe(Isolation::Gvisor).await;
        assert!(!probe.works, "{probe:#?}");
        house.is_clean().await;
    }
}

#[tokio::test]
async fn in_gvisor_the_host_is_another_kernel_and_limits_hold() {
    let house = House::at(Isolation::Gvisor);
    let id = house.started().await.id;
    let kernel = house.shell(id, "dmesg").await;
    assert!(kernel.contains("gVisor"), "{kernel}");
    let interfaces = house.shell(id, "tail -n +3 /proc/net/dev | cut -d: -f1").await;
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["lo"], "{interfaces}");
    let processes = house.shell(id, "ls -d /proc/[0-9]*").await;
    assert_eq!(processes.split_whitespace().count(), 2, "{processes}");
    let seen =
        house.shell(id, "ls /root /mnt /srv; cat /etc/hostname; wc -c < /etc/machine-id").await;
    assert!(
        seen.starts_with("/mnt:\n\n/root:\n\n/srv:\nhangar-") && seen.ends_with("33\n"),
        "{seen}"
    );
    for path in ["/usr/bin/x", "/opt/hangar/bin/x", "/run/hangar/x", "/etc/machine-id"] {
        let written = house.run(id, &["sh", "-c", &format!("echo x > {path}")]).await;
        assert_ne!(written.exit.code, Some(0), "{path} can be written");
    }
    house.backend.discard(id).await.expect("it goes");
    house.is_clean().await;
}

#[tokio::test]
async fn paused_processes_go_on_where_they_were() {
    let house = House::at(Isolation::Gvisor);
    let id = house.started().await.id;
    let pause = house.backend.pause().expect("gVisor can");
    house.shell(id, COUNTER).await;
    let mut last = count(&house, id).await;
    for _ in 0..3 {
        let process =
            house.shell(id, "cat /home/agent/pid; ls -d /proc/$(cat /home/agent/pid)").await;
        pause.pause(id).await.expect("it is written down");
        assert_eq!(crate::support::processes_of(house.path()), Vec::<u32>::new());
        assert_eq!(crate::support::groups_of(house.path()), Vec::<std::path::PathBuf>::new());
        let observed = house.backend.observe().await.expect("observed");
        assert!(
            matches!(&observed[0].state, ObservedState::Ended { reason } if reason.contains("paused"))
        );
        let again = pause.pause(id).await.expect_err("it is paused already");
        assert!(matches!(again, Error::State { .. }), "{again}");
        // What it counts while it sleeps it would have to count anew from nothing.
        let description = pause.resume(id).await.expect("it wakes");
        assert_eq!(description.isolation, Isolation::Gvisor);
        let woken = count(&house, id).await;
        assert!(woken >= last, "{woken} after {last}");
        let same = house.shell(id, "cat /home/agent/pid; ls -d /proc/$(cat /home/agent/pid)").await;
        assert_eq!(same, process);
        last = woken;
    }
    let resumed = pause.resume(id).await.expect_err("it runs");
    assert!(matches!(resumed, Error::State { .. }), "{resumed}");
    house.backend.discard(id).await.expect("it goes");
    house.is_clean().await;
}

/// Counts in memory, and shows the number to whoever asks by a signal.
const COUNTER: &str = "cat > /tmp/count-here.py <<'END'
import signal, time
n = 0
def show(*_):
    open('/home/agent/count.new', 'w').write(str(n))
    import os; os.rename('/home/agent/count.new', '/home/agent/count')
signal.signal(signal.SIGUSR1, show)
open('/home/agent/ready', 'w')
while True:
    n += 1
    time.sleep(0.005)
END
setsid python3 /tmp/count-here.py >/dev/null 2>&1 &
echo $! > /home/agent/pid
until [ -e /home/agent/ready ]; do sleep 0.05; done";

async fn count(house: &House, id: protocol::SandboxId) -> u64 {
    let line = "rm -f /home/agent/count; kill -USR1 $(cat /home/agent/pid); \
                until [ -e /home/agent/count ]; do sleep 0.01; done; cat /home/agent/count";
    let shown = house.shell(id, line).await;
    shown.trim().parse().unwrap_or_else(|_| panic!("no number: {shown}"))
}

#[tokio::test]
async fn a_level_that_cannot_pause_says_so_and_goes_on() {
    let house = House::new();
    let id = house.started().await.id;
    let pause = house.backend.pause().expect("some level can");
    let error = pause.pause(id).await.expect_err("namespaces cannot");
    assert!(error.to_string().contains("gvisor"), "{error}");
    assert_eq!(house.shell(id, "echo on").await, "on\n");
    house.backend.discard(id).await.expect("it goes");
}
