//! Every level of isolation that works here: the same contract, the same truth, nothing left behind.

use protocol::sandbox::Isolation;
use sandbox::container::Container;
use sandbox::{Backend as _, Error, conformance};

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
        assert_eq!(probe.limits.len(), 5);
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
