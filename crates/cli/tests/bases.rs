//! Sandboxes on an image: a whole job where there is no git, no library and no bash.

#[path = "../../../tests/real_part.rs"]
mod real_part;
mod support;

use std::path::Path;
use std::process::Command;

use protocol::Event;
use protocol::repository::ImageState;
use protocol::settings::RepositorySettings;

use support::Server;

fn umoci(arguments: &[&str]) {
    let output = Command::new("umoci").args(arguments).output().expect("apt-get install umoci");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci {arguments:?}: {said}");
}

/// An OCI layout of one static program under the names of a few.
fn busybox(directory: &Path) -> String {
    let root = directory.join("root");
    std::fs::create_dir_all(root.join("bin")).expect("made");
    let program =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|it| Path::new(it).exists());
    let program = program.expect("apt-get install busybox-static");
    std::fs::copy(program, root.join("bin/busybox")).expect("copied");
    for name in ["sh", "cat", "ls", "test", "mkdir", "rm", "printf", "head", "env", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    let layout = directory.join("layout").display().to_string();
    let image = format!("{layout}:latest");
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["config", "--image", &image, "--config.env", "FROM_IMAGE=yes"]);
    umoci(&["insert", "--rootless", "--image", &image, &root.display().to_string(), "/"]);
    format!("oci:{image}")
}

#[tokio::test]
async fn a_session_on_an_image_does_a_whole_job() {
    let server = Server::start();
    let client = server.client();
    let repository = server.repository("small").await;
    let before = client.build_image(&repository).await.expect("there");
    assert_eq!(before.base, "host");

    let base = busybox(server.directory.path());
    let settings = RepositorySettings { base: Some(base.clone()), ..RepositorySettings::default() };
    client.put_repository_settings(&repository, &settings).await.expect("changed");
    let image = client.build_image(&repository).await.expect("built");
    assert!(matches!(image.state, ImageState::Ready), "{image:?}");
    assert_ne!(image.id, before.id, "another base is another image");
    let listed = client.bases().await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!(image.base, format!("{base}@{}", listed[0].digest));
    assert_eq!(client.build_image(&repository).await.expect("there").id, image.id);

    let session = server.session(&repository, "Add a line to README.md").await;
    let opened = |event: &Event| matches!(event, Event::PullRequestOffered { .. });
    server.until(session.summary.id, 0, opened).await;

    // What stands on it stays when its name goes.
    client.remove_base(&base).await.expect("removed");
    assert!(client.bases().await.expect("listed").is_empty());
    assert_eq!(client.build_image(&repository).await.expect("there").id, image.id);
    real_part::worked("base image", "umoci and busybox");
}

#[tokio::test]
async fn a_base_that_is_not_there_is_said() {
    let server = Server::start();
    let client = server.client();
    let repository = server.repository("small").await;
    let base = Some("oci:/no/such/layout".to_owned());
    let settings = RepositorySettings { base, ..RepositorySettings::default() };
    client.put_repository_settings(&repository, &settings).await.expect("changed");
    let image = client.build_image(&repository).await.expect("an answer");
    let ImageState::Failed { reason } = &image.state else { panic!("{image:?}") };
    assert!(reason.contains("/no/such/layout"), "{reason}");
}
