//! Ends of every kind: nothing is left behind, and nothing that matters is lost.

use std::time::Duration;

use protocol::SandboxId;
use sandbox::container::{Config, Container};
use sandbox::{Backend as _, Error, ObservedState, Spec};

use crate::support::{House, Run as _, groups_of, launcher, processes_of};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn stop_kills_everything_and_leaves_no_mount_and_no_group() {
    let house = House::new();
    let id = house.started().await.id;
    house.shell(id, "for i in 1 2 3 4 5; do setsid sleep 1000 >/dev/null 2>&1 & done").await;
    assert!(processes_of(house.path()).len() >= 6, "they run in the sandbox");
    house.backend.stop(id).await.expect("it stops");
    assert_eq!(processes_of(house.path()), Vec::<u32>::new());
    assert_eq!(groups_of(house.path()), Vec::<std::path::PathBuf>::new());
    house.backend.discard(id).await.expect("it goes");
    house.is_clean().await;
}

#[tokio::test]
async fn a_restarted_server_finds_its_sandboxes() {
    let house = House::new();
    let (kept, stray) = (house.started().await, house.started().await);
    house.client(kept.id).write_file("/home/agent/note", "here".into()).await.expect("written");
    let again = house.again();
    let waiting = {
        let again = again.clone();
        tokio::spawn(async move { again.ended(kept.id).await })
    };
    let mut running: Vec<SandboxId> = again
        .observe()
        .await
        .expect("observed")
        .into_iter()
        .filter(|one| one.state == ObservedState::Running)
        .map(|one| one.id)
        .collect();
    running.sort();
    assert_eq!(running, [kept.id, stray.id]);
    assert_eq!(again.reap(&[kept.id]).await.expect("reaped"), [stray.id]);
    let client = sandbox::agentd::Client::new(std::sync::Arc::new(again.clone()), kept.id);
    assert_eq!(client.read_file("/home/agent/note", 10).await.expect("it answers"), "here");
    again.stop(kept.id).await.expect("it stops");
    let reason = tokio::time::timeout(PATIENCE, waiting).await.expect("told").expect("no panic");
    assert_eq!(reason.expect("a reason"), "it was stopped");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_sandbox_that_dies_by_itself_is_noticed_and_its_files_are_kept() {
    let house = House::new();
    let first = house.started().await;
    house.client(first.id).write_file("/home/agent/work", "unsaved".into()).await.expect("written");
    let pid = house.pid(first.id);
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let ended = tokio::time::timeout(PATIENCE, house.backend.ended(first.id)).await;
    assert!(ended.expect("noticed").expect("a reason").contains("PID 1 ended"));
    assert_eq!(groups_of(house.path()), Vec::<std::path::PathBuf>::new());
    let second = Spec { upper_from: Some(first.id), ..house.spec() };
    house.backend.create(&second).await.expect("it continues");
    let work = house.client(second.id).read_file("/home/agent/work", 10).await;
    assert_eq!(work.expect("it is there"), "unsaved");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_failed_start_leaves_nothing_and_gives_files_back() {
    let house = House::new();
    let first = house.started().await;
    house.client(first.id).write_file("/home/agent/work", "unsaved".into()).await.expect("written");
    house.backend.stop(first.id).await.expect("it stops");
    let broken = Spec {
        upper_from: Some(first.id),
        toolkit: house.path().join("no-toolkit"),
        ..house.spec()
    };
    let error = house.backend.create(&broken).await.expect_err("there is no toolkit");
    assert!(error.to_string().contains("no-toolkit"), "{error}");
    let empty = house.path().join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    let broken = Spec { toolkit: empty, ..broken };
    let error = house.backend.create(&broken).await.expect_err("there is no agentd");
    assert!(error.to_string().contains("toolkit lacks"), "{error}");
    assert_eq!(processes_of(house.path()), Vec::<u32>::new());
    assert_eq!(groups_of(house.path()), Vec::<std::path::PathBuf>::new());
    let second = Spec { upper_from: Some(first.id), ..house.spec() };
    house.backend.create(&second).await.expect("the files were given back");
    let work = house.client(second.id).read_file("/home/agent/work", 10).await;
    assert_eq!(work.expect("it is there"), "unsaved");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_no_sandbox() {
    let house = House::new();
    let mut config = Config::new(house.path().join("data"), launcher());
    config.init = vec!["/no/such/program".into()];
    let backend = Container::open(config).expect("a backend");
    let error = backend.create(&house.spec()).await.expect_err("there is no such program");
    assert!(matches!(error, Error::Start { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    house.discard_all().await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_start_nobody_waits_for_is_finished_or_undone() {
    let house = House::new();
    for delay in [0, 1, 2, 4, 8] {
        let spec = house.spec();
        let waited = Duration::from_millis(delay);
        let _given_up = tokio::time::timeout(waited, house.backend.create(&spec)).await;
        house.backend.discard(spec.id).await.expect("it goes");
    }
    house.is_clean().await;
}

#[tokio::test]
async fn directories_nobody_may_enter_are_removed_too() {
    let house = House::new();
    let id = house.started().await.id;
    house.shell(id, "mkdir -p /home/agent/a/b && touch /home/agent/a/b/c && chmod 0 /home/agent/a/b /home/agent/a").await;
    house.backend.discard(id).await.expect("it goes");
    house.is_clean().await;
}

#[tokio::test]
async fn a_tall_stack_of_layers_is_seen_in_order() {
    let house = House::new();
    let layers = house.backend.layers().expect("it freezes");
    let mut stack = Vec::new();
    let mut images = Vec::new();
    for number in 0..40 {
        let spec = Spec { layers: stack.clone(), ..house.spec() };
        house.backend.create(&spec).await.expect("it starts");
        let line = format!(
            "echo {number} > /home/agent/last; echo x > /home/agent/{number}; rm -f /home/agent/3"
        );
        assert_eq!(house.shell(spec.id, &line).await, "");
        house.backend.stop(spec.id).await.expect("it stops");
        let image = protocol::ImageId::new();
        stack.insert(0, layers.freeze(spec.id, image).await.expect("frozen"));
        images.push(image);
        house.backend.discard(spec.id).await.expect("it goes");
    }
    let spec = Spec { layers: stack, ..house.spec() };
    house.backend.create(&spec).await.expect("it starts");
    assert_eq!(house.shell(spec.id, "cat /home/agent/last").await, "39\n");
    let files = house.shell(spec.id, "ls /home/agent | wc -l").await;
    assert_eq!(files.trim(), "40", "forty files, one deleted, and the last");
    house.backend.discard(spec.id).await.expect("it goes");
    for image in images {
        layers.remove(image).await.expect("removed");
    }
    house.is_clean().await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let house = House::new();
    let file = house.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let error =
        Container::open(Config::new(file.join("data"), launcher())).expect_err("no directory");
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[tokio::test]
async fn a_machine_without_user_namespaces_is_told_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    let script = house.path().join("launch");
    let real = launcher();
    let text = format!(
        "#!/bin/sh\nexec /usr/bin/unshare -Ur /bin/sh -c 'echo 0 > \
         /proc/sys/user/max_user_namespaces && exec {} \"$@\"' launch \"$@\"\n",
        real.display()
    );
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let config = Config::new(house.path().join("data"), script);
    let backend = Container::open(config).expect("a backend");
    let error = backend.create(&house.spec()).await.expect_err("none may be made");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("max_user_namespaces"), "{error}");
    house.discard_all().await;
    house.is_clean().await;
}
