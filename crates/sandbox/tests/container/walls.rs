//! What code inside a sandbox can see and do: nothing of the host, nothing of its neighbours.

use sandbox::Backend as _;

use crate::support::{self, House, Run as _};

#[tokio::test]
async fn there_is_no_network_but_loopback() {
    let house = House::new();
    let id = house.started().await.id;
    let interfaces = house.shell(id, "tail -n +3 /proc/net/dev | cut -d: -f1").await;
    let names: Vec<&str> = interfaces.split_whitespace().collect();
    assert_eq!(names, ["lo"], "{interfaces}");
    let routes = house.shell(id, "cat /proc/net/route").await;
    assert_eq!(routes.lines().count(), 1, "only the heading: {routes}");
    let routes = house.shell(id, "cat /proc/net/ipv6_route").await;
    assert!(routes.lines().all(|line| line.trim_end().ends_with(" lo")), "{routes}");
    // Loopback itself works, for the relay to the gateway and for the agent's own servers.
    let state = house
        .shell(id, "perl -e 'use IO::Socket; $s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die; IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => $s->sockport) or die; print 1'")
        .await;
    assert_eq!(state, "1");
    let resolved = house.run(id, &["getent", "hosts", "example.org"]).await;
    assert_ne!(resolved.exit.code, Some(0), "{resolved:?}");
    house.backend.discard(id).await.expect("it goes");
}

#[tokio::test]
async fn no_other_process_is_visible() {
    let house = House::new();
    let (one, other) = (house.started().await.id, house.started().await.id);
    let processes = house.shell(one, "ls -d /proc/[0-9]*").await;
    // PID 1 and the shell, which looked before it became ls.
    assert_eq!(processes.split_whitespace().count(), 2, "{processes}");
    let groups = house.shell(one, "cut -d: -f3 /proc/self/cgroup | sort -u").await;
    assert!(!groups.contains("hangar"), "{groups}");
    for id in [one, other] {
        house.backend.discard(id).await.expect("it goes");
    }
}

#[tokio::test]
async fn no_host_file_outside_the_allowed_paths_is_visible() {
    let house = House::new();
    std::fs::write(house.path().join("private"), "host secret").expect("a host file");
    let (one, other) = (house.started().await.id, house.started().await.id);
    let ours = house.path().to_str().expect("a path").to_owned();
    for path in [&*ours, "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/root/.ssh", "/boot"] {
        let seen = house.run(one, &["ls", path]).await;
        assert_ne!(seen.exit.code, Some(0), "{path} is visible: {seen:?}");
    }
    for path in
        ["/root", "/home/agent", "/mnt", "/tmp", "/var/tmp", "/run/hangar", "/srv", "/media"]
    {
        let seen = house.shell(one, &format!("ls -A {path}")).await;
        assert_eq!(seen, "", "{path}");
    }
    let roots = house.shell(one, "ls /").await;
    let expected = "bin dev etc home lib media mirror mnt opt proc root run sbin srv sys tmp usr var workspace";
    for name in roots.split_whitespace() {
        assert!(expected.split(' ').any(|it| name.starts_with(it)), "/{name} is new: {roots}");
    }
    house.client(one).write_file("/tmp/mine", "x".into()).await.expect("written");
    house.client(one).write_file("/home/agent/mine", "x".into()).await.expect("written");
    let seen = house.shell(other, "ls -A /tmp /home/agent").await;
    assert!(!seen.contains("mine"), "{seen}");
    assert!(!std::path::Path::new("/tmp/mine").exists());
    for id in [one, other] {
        house.backend.discard(id).await.expect("it goes");
    }
}

#[tokio::test]
async fn what_is_read_only_stays_read_only() {
    let house = House::new();
    let id = house.started().await.id;
    let places = [
        "/usr/bin/x",
        "/opt/hangar/bin/x",
        "/run/hangar/x",
        "/mirror-is-a-directory-of-root/x",
        "/etc/machine-id",
        "/etc/hosts",
        "/dev/x",
        "/sys/x",
        "/sys/devices/system/cpu/x",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/workspace/x",
    ];
    for path in places {
        let written = house.run(id, &["sh", "-c", &format!("echo x > {path}")]).await;
        assert_ne!(written.exit.code, Some(0), "{path} can be written");
    }
    for path in ["/home/agent/x", "/etc/x", "/tmp/x", "/dev/null", "/dev/shm/x", "/var/tmp/x"] {
        let written = house.run(id, &["sh", "-c", &format!("echo x > {path}")]).await;
        assert_eq!(written.exit.code, Some(0), "{path} cannot be written: {written:?}");
    }
    // A process with other rights starts programs by this path.
    let moved = house.shell(id, "mv -T /opt /moved 2>&1; ls /opt/hangar/bin").await;
    assert!(moved.ends_with("hangar-agentd\n"), "{moved}");
    let fake = house.run(id, &["sh", "-c", "mkdir /opt/hangar/bin/fake"]).await;
    assert_ne!(fake.exit.code, Some(0), "{fake:?}");
    // What PID 1 still may: open the write gate. The other mounts come from the host's namespace
    // or are sealed; only remounting shows which.
    let opened = house
        .shell(
            id,
            "mount -o remount,bind,rw /workspace && echo x > /workspace/x && cat /workspace/x",
        )
        .await;
    assert_eq!(opened, "x\n");
    let usr = house.run(id, &["mount", "-o", "remount,bind,rw", "/proc/1/root/usr"]).await;
    let wrote = house.run(id, &["touch", "/usr/bin/hangar-was-here"]).await;
    assert!(usr.exit.code != Some(0) || wrote.exit.code != Some(0), "{usr:?} {wrote:?}");
    assert!(!std::path::Path::new("/usr/bin/hangar-was-here").exists());
    house.backend.discard(id).await.expect("it goes");
}

#[tokio::test]
async fn pid_1_keeps_only_what_it_needs() {
    let house = House::new();
    let id = house.started().await.id;
    let status = house.shell(id, "cat /proc/1/status").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().to_owned()
    };
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).expect("a mask");
    for (number, name) in [
        (12, "NET_ADMIN"),
        (13, "NET_RAW"),
        (16, "SYS_MODULE"),
        (17, "SYS_RAWIO"),
        (25, "SYS_TIME"),
        (27, "MKNOD"),
        (39, "BPF"),
    ] {
        assert_eq!(capabilities >> number & 1, 0, "{name}: {status}");
    }
    assert_eq!(capabilities >> 21 & 1, 1, "SYS_ADMIN opens the write gate");
    assert_eq!(field("CapEff:"), field("CapBnd:"));
    assert_eq!(field("NoNewPrivs:"), "1");
    let descriptors = house.shell(id, "ls /proc/1/fd").await;
    let numbers: Vec<u32> =
        descriptors.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    assert!(numbers.iter().all(|number| *number < 32), "{descriptors}");
    let links = house.shell(id, "readlink /proc/1/fd/*").await;
    let ours = house.path().to_str().expect("a path");
    let files: Vec<&str> =
        links.lines().filter(|it| it.starts_with('/') && !it.starts_with("/dev/null")).collect();
    assert!(
        files.iter().all(|it| it.ends_with("pid1.log") || it.contains("/proc")),
        "{links} {ours}"
    );
    let environment =
        house.shell(id, "tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1 | sort").await;
    assert_eq!(environment, "HANGAR_SANDBOX\nHOME\nLANG\nPATH\nSHELL\nUSER\n");
    let host_name = house.shell(id, "hostname").await;
    assert_eq!(host_name, format!("hangar-{}\n", id.short()));
    house.backend.discard(id).await.expect("it goes");
}

#[tokio::test]
async fn links_left_by_an_earlier_sandbox_lead_nowhere() {
    let house = House::new();
    let first = house.started().await;
    let line = "rm -rf /mirror /srv /workspace 2>&1; umount /workspace; rm -rf /workspace; \
                ln -s /../../../../../../../etc /workspace; ln -s /../../../tmp /mirror; ls -l /";
    let listing = house.shell(first.id, line).await;
    assert!(listing.contains("workspace -> /../"), "{listing}");
    house.backend.stop(first.id).await.expect("it stops");
    let second = sandbox::Spec {
        upper_from: Some(first.id),
        mirror: Some(house.path().join("toolkit")),
        ..house.spec()
    };
    house.backend.create(&second).await.expect("it starts all the same");
    // The gate closed the sandbox's own /etc, and the mirror is on its own /tmp.
    let mounts = house.shell(second.id, "cut -d' ' -f5 /proc/self/mountinfo").await;
    assert!(mounts.lines().any(|line| line == "/etc"), "{mounts}");
    assert!(house.shell(second.id, "ls /etc").await.contains("nsswitch.conf"));
    for id in [first.id, second.id] {
        house.backend.discard(id).await.expect("it goes");
    }
    house.is_clean().await;
}

#[tokio::test]
async fn programs_of_the_host_work() {
    let house = House::new();
    let id = house.started().await.id;
    for argv in [
        &["git", "--version"][..],
        &["perl", "-e", "print 1"],
        &["python3", "-c", "import ssl, json"],
        &["sh", "-c", "test -e /etc/alternatives/awk && awk 'BEGIN {print 1}'"],
        &["sh", "-c", "test -e /dev/fd/0 && test -c /dev/null && test -c /dev/ptmx"],
        &["sh", "-c", "test $(id -u) = 0 && test $HOME = /home/agent && test -r /etc/ssl/certs"],
        &["sh", "-c", "test $(nproc) -ge 1"],
    ] {
        let output = house.run(id, argv).await;
        assert_eq!(output.exit.code, Some(0), "{argv:?}: {output:?}");
    }
    house.backend.discard(id).await.expect("it goes");
}

#[tokio::test]
async fn toolchains_of_a_home_are_seen_and_its_credentials_are_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    let home = house.path().join("home");
    std::fs::create_dir_all(home.join(".rustup/toolchains/stable/bin")).expect("a toolchain");
    std::fs::write(home.join(".rustup/toolchains/stable/bin/rustc"), "").expect("a compiler");
    let link = home.join(".rustup/toolchains/linked");
    std::os::unix::fs::symlink(home.join(".rustup/toolchains/stable"), link).expect("a link");
    std::fs::create_dir_all(home.join(".cargo/bin")).expect("programs");
    std::fs::write(home.join(".cargo/credentials.toml"), "token").expect("credentials");
    let rustup = home.join(".cargo/bin/rustup");
    std::fs::write(&rustup, "#!/bin/sh\nls $RUSTUP_HOME/toolchains/linked/bin\n")
        .expect("a program");
    for path in [&rustup, &home] {
        let mode = if path.is_dir() { 0o700 } else { 0o755 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let config = sandbox::container::Config::new(house.path().join("data"), support::launcher());
    let config = config.with_rust_toolchains(&home, None, None);
    let backend = sandbox::container::Container::open(config).expect("a backend");
    let spec = house.spec();
    backend.create(&spec).await.expect("it starts");
    // The stand-in's PATH is PID 1's, as agents get it.
    assert_eq!(house.shell(spec.id, "rustup").await, "rustc\n");
    let found = house.shell(spec.id, "find /opt /home /root -name credentials.toml").await;
    assert_eq!(found, "");
    backend.discard(spec.id).await.expect("it goes");
    house.is_clean().await;
}
