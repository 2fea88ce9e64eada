//! A real registry on this machine, filled by skopeo: pulling, credentials, breaking off.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::base::{Error, Registries};

use crate::archives::{Layer, Packing, layout};
use crate::real_part;
use crate::support::{House, busybox};

/// `ada:open sesame` as the registry keeps it and as clients write it.
const PASSWORDS: &str = "ada:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";
const CREDENTIAL: &str = "YWRhOm9wZW4gc2VzYW1l";

/// Debian's `docker-registry`, on a free port of the loopback interface.
struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start(directory: &Path, with_password: bool) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
        let passwords = directory.join("passwords");
        std::fs::write(&passwords, PASSWORDS).expect("written");
        let auth = if with_password {
            format!("auth:\n  htpasswd:\n    realm: hangar\n    path: {}\n", passwords.display())
        } else {
            String::new()
        };
        let storage = directory.join("storage");
        let settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n{auth}",
            storage.display()
        );
        let file = directory.join("registry.yml");
        std::fs::write(&file, settings).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("apt-get install docker-registry");
        let mut started = Self { process, port };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = started.process.try_wait().expect("a child");
            if ended.is_some() || begun.elapsed() > Duration::from_mins(1) {
                let errors = started.process.stderr.take().map(BufReader::new);
                let text: Vec<String> =
                    errors.into_iter().flat_map(|it| it.lines().take(20).flatten()).collect();
                panic!("the registry did not start: {ended:?}\n{}", text.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        started
    }

    fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}

fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(arguments)
        .output()
        .expect("apt-get install skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn image(directory: &Path, packing: Packing) -> PathBuf {
    let path = directory.join("layout");
    let more = Layer::new().file("proof", "from afar").file("bin/.wh.env", "").build();
    layout(&path, &[(Packing::Gzip, busybox()), (packing, more)]);
    path
}

#[tokio::test]
async fn an_image_is_pushed_by_skopeo_and_pulled_by_us() {
    let house = House::new();
    let registry = Registry::start(house.path(), false);
    let from = format!("oci:{}:latest", image(house.path(), Packing::Zstandard).display());
    let to = format!("docker://{}", registry.name("team/tools:1"));
    skopeo(&["--dest-tls-verify=false", &from, &to]);

    let pulled = house.pull(&registry.name("team/tools:1")).await.expect("pulled");
    let (code, said) = house.run(&pulled, &["sh", "-c", "cat /proof; test ! -e /bin/env"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "from afar"));
    let pinned = format!("{}@{}", registry.name("team/tools"), pulled.digest);
    assert_eq!(house.pull(&pinned).await.expect("pulled").digest, pulled.digest);

    let error = house.pull(&registry.name("team/tools:2")).await.expect_err("no such tag");
    assert!(error.to_string().contains("see the name and the tag"), "{error}");
    real_part::worked("registry", "docker-registry and skopeo");
}

#[tokio::test]
async fn a_private_registry_wants_the_credential_of_the_docker_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(directory.path(), true);
    let from = format!("oci:{}:latest", image(directory.path(), Packing::Gzip).display());
    let to = format!("docker://{}", registry.name("private"));
    skopeo(&["--dest-tls-verify=false", "--dest-creds=ada:open sesame", &from, &to]);

    let stranger = House::new();
    let error = stranger.pull(&registry.name("private")).await.expect_err("no credential");
    assert!(error.to_string().contains("docker login"), "{error}");

    let file = directory.path().join("config.json");
    let server = format!("127.0.0.1:{}", registry.port);
    let text = serde_json::json!({"auths": {server: {"auth": CREDENTIAL}}}).to_string();
    std::fs::write(&file, text).expect("written");
    let known = Registries { docker_configuration: Some(file), ..Registries::default() };
    let house = House::with(known);
    let pulled = house.pull(&registry.name("private")).await.expect("pulled");
    assert_eq!(pulled.layers.len(), 2);
}

/// The second attempt goes on where the first was broken off.
#[tokio::test]
async fn a_download_goes_on() {
    let house = House::new();
    let registry = Registry::start(house.path(), false);
    let path = image(house.path(), Packing::Zstandard);
    let to = format!("docker://{}", registry.name("big"));
    skopeo(&["--dest-tls-verify=false", &format!("oci:{}:latest", path.display()), &to]);
    let blob = Packing::Gzip.pack(&busybox());
    let digest = crate::archives::digest(&blob);
    let partial = house.path().join("data/base/blobs").join(format!("partial-{}", &digest[7..]));
    std::fs::write(&partial, &blob[..blob.len() / 2]).expect("written");
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&seen);
    let progress: sandbox::base::Progress = std::sync::Arc::new(move |step| {
        if let sandbox::base::Step::Fetching { digest, done, .. } = step {
            told.lock().expect("whole").push((digest, done));
        }
    });
    let reference = registry.name("big").parse().expect("a reference");
    house.store.pull(&reference, &progress).await.expect("pulled");
    let seen = seen.lock().expect("whole");
    let first = seen.iter().find(|(of, _)| *of == digest).expect("fetched");
    assert!(first.1 > blob.len() as u64 / 2, "it began again: {first:?}");
}

#[tokio::test]
async fn what_skopeo_saves_is_taken() {
    let house = House::new();
    let from = format!("oci:{}:latest", image(house.path(), Packing::Gzip).display());
    let saved = house.path().join("saved.tar");
    let docker = format!("docker-archive:{}:team/tools:1", saved.display());
    skopeo(&[&from, &docker]);
    let pulled = house.pull(&format!("archive:{}", saved.display())).await.expect("pulled");
    let (_, said) = house.run(&pulled, &["cat", "/proof"]).await;
    assert_eq!(said, "from afar");
    let tagged = house.pull(&format!("archive:{}:1", saved.display())).await.expect("pulled");
    assert_eq!(tagged.digest, pulled.digest);
    let error = house.pull(&format!("archive:{}:2", saved.display())).await.expect_err("no tag");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");

    let whole = house.path().join("layout.tar");
    skopeo(&[&from, &format!("oci-archive:{}:latest", whole.display())]);
    let pulled = house.pull(&format!("archive:{}", whole.display())).await.expect("pulled");
    let (_, said) = house.run(&pulled, &["cat", "/proof"]).await;
    assert_eq!(said, "from afar");
}
