//! The real git client against a real repository, through the gateway.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway::{Body, GitUpstream, Observed, Outcome, Service, full_body};
use http::{Request, Response, header};
use http_body_util::BodyExt;
use protocol::repository::RepositoryName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixStream};

use crate::support::World;

/// `git http-backend` over a directory of bare repositories.
#[derive(Debug)]
struct Backend(PathBuf);

#[async_trait]
impl GitUpstream for Backend {
    async fn serve(
        &self,
        repository: &RepositoryName,
        _: Service,
        request: Request<Body>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("the push arrives").to_bytes();
        let value = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut child = tokio::process::Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.0)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "session")
            .env("PATH_INFO", format!("/{repository}.git{}", head.uri.path()))
            .env("QUERY_STRING", head.uri.query().unwrap_or_default())
            .env("REQUEST_METHOD", head.method.as_str())
            .env("CONTENT_TYPE", value(header::CONTENT_TYPE).unwrap_or_default())
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", value(header::CONTENT_ENCODING).unwrap_or_default())
            .env(
                "GIT_PROTOCOL",
                head.headers
                    .get("git-protocol")
                    .map_or("", |value| value.to_str().unwrap_or_default()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git is installed");
        let mut stdin = child.stdin.take().expect("is piped");
        let writing = tokio::spawn(async move { stdin.write_all(&body).await });
        let output = child.wait_with_output().await.expect("ends").stdout;
        // The backend may answer without reading everything.
        let _ = writing.await;
        answer(&output)
    }
}

fn answer(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("has a head");
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).expect("is text").lines() {
        let (name, value) = line.split_once(": ").expect("is a header");
        response = if name == "Status" {
            response.status(&value[..3])
        } else {
            response.header(name, value)
        };
    }
    response.body(full_body(Bytes::copy_from_slice(&output[end + 4..]))).expect("an answer")
}

/// A bound sandbox whose gateway is reached over loopback, as agentd relays it, and a clone.
struct Scene {
    world: World,
    origin: PathBuf,
    base: String,
}

struct Ran {
    success: bool,
    text: String,
}

async fn git(directory: &Path, arguments: &[&str]) -> Ran {
    let output = tokio::process::Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
        .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@example.com")])
        .output()
        .await
        .expect("git is installed");
    let text = [output.stdout, output.stderr].concat();
    Ran { success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}

async fn done(directory: &Path, arguments: &[&str]) -> String {
    let ran = git(directory, arguments).await;
    assert!(ran.success, "git {arguments:?}: {}", ran.text);
    ran.text
}

impl Scene {
    async fn start() -> Self {
        let repositories = tempfile::tempdir().expect("a directory").keep();
        let origin = repositories.join("local/hangar.git");
        std::fs::create_dir_all(&origin).expect("a directory");
        done(&origin, &["init", "--bare", "-q", "-b", "main"]).await;
        let world = World::bound(|_| {}, Arc::new(Backend(repositories.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let socket = world.socket();
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut outside = UnixStream::connect(socket).await.expect("listens");
                    // Either side may leave at any moment.
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
        let scene = Self { world, origin, base: format!("http://127.0.0.1:{port}/git/local") };
        let seed = scene.world.directory.path().join("seed");
        std::fs::create_dir(&seed).expect("a directory");
        done(&seed, &["init", "-q", "-b", "main"]).await;
        std::fs::write(seed.join("README.md"), "# Hangar\n").expect("a file");
        done(&seed, &["add", "."]).await;
        done(&seed, &["commit", "-q", "-m", "first"]).await;
        let origin = scene.origin.to_str().expect("a plain path").to_owned();
        done(&seed, &["push", "-q", &origin, "main"]).await;
        scene
    }

    fn work(&self) -> PathBuf {
        self.world.directory.path().join("work")
    }

    async fn clone_and_commit(&self) -> PathBuf {
        let url = format!("{}/local/hangar.git", self.base);
        let here = self.world.directory.path();
        done(here, &["clone", "-q", &url, "work"]).await;
        let work = self.work();
        std::fs::write(work.join("new"), "new\n").expect("a file");
        done(&work, &["add", "."]).await;
        done(&work, &["commit", "-q", "-m", "second"]).await;
        work
    }

    async fn refs(&self) -> String {
        done(&self.origin, &["for-each-ref", "--format=%(refname)"]).await
    }
}

#[tokio::test]
async fn a_session_clones_and_pushes_its_branch() {
    let mut scene = Scene::start().await;
    let work = scene.clone_and_commit().await;
    let branch = "HEAD:refs/heads/hangar/1a2b3c4d-second";
    done(&work, &["push", "origin", branch]).await;
    assert_eq!(scene.refs().await, "refs/heads/hangar/1a2b3c4d-second\nrefs/heads/main\n");
    // Rewritten by a later step, as an amended commit is.
    done(&work, &["commit", "-q", "--amend", "-m", "better"]).await;
    done(&work, &["push", "--force-with-lease", "origin", branch]).await;
    done(&work, &["fetch", "-q", "origin"]).await;
    let (bytes_in, outcome) =
        scene
            .world
            .observed(|what| match what {
                Observed::Git {
                    service: Service::Push, status: 200, bytes_in, outcome, ..
                } if bytes_in > 0 => Some((bytes_in, outcome)),
                _ => None,
            })
            .await;
    assert!(bytes_in > 100, "{bytes_in}");
    assert_eq!(outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_large_push_streams_through() {
    let scene = Scene::start().await;
    let work = scene.clone_and_commit().await;
    // Beyond git's buffer of 1 MiB, so that it probes first and then sends without a length.
    let noise: Vec<u8> = (0_u32..700_000)
        .flat_map(|number| {
            number.wrapping_mul(2_654_435_761).rotate_left(number % 31).to_le_bytes()
        })
        .collect();
    std::fs::write(work.join("noise"), noise).expect("a file");
    done(&work, &["add", "."]).await;
    done(&work, &["commit", "-q", "-m", "noise"]).await;
    done(&work, &["push", "origin", "HEAD:refs/heads/hangar/1a2b3c4d"]).await;
    let refused = git(&work, &["push", "origin", "HEAD:refs/heads/main"]).await;
    assert!(refused.text.contains("this session pushes only to"), "{}", refused.text);
}

#[tokio::test]
async fn a_push_elsewhere_is_refused_where_git_shows_it() {
    let scene = Scene::start().await;
    let work = scene.clone_and_commit().await;
    for target in [
        "HEAD:refs/heads/main",
        "HEAD:refs/heads/hangar/1a2b3c4d5",
        "HEAD:refs/tags/v1",
        "+HEAD:refs/heads/other",
    ] {
        let ran = git(&work, &["push", "origin", target]).await;
        assert!(!ran.success, "{target}");
        assert!(ran.text.contains("remote: denied: "), "{}", ran.text);
        assert!(ran.text.contains("remote: hint: commit on the session's branch"), "{}", ran.text);
        assert!(ran.text.contains("[remote rejected]"), "{}", ran.text);
        assert!(
            ran.text.contains("this session pushes only to refs/heads/hangar/1a2b3c4d"),
            "{}",
            ran.text
        );
    }
    // One good ref beside a bad one does not pass either.
    let good = "HEAD:refs/heads/hangar/1a2b3c4d";
    let both = git(&work, &["push", "origin", good, "HEAD:refs/heads/main"]).await;
    assert!(!both.success, "{}", both.text);
    assert_eq!(scene.refs().await, "refs/heads/main\n", "nothing was written");
    let lines = scene.world.audit();
    assert!(lines.contains("\"verdict\":\"git_reference\""), "{lines}");
}

#[tokio::test]
async fn a_branch_is_not_deleted() {
    let scene = Scene::start().await;
    let work = scene.clone_and_commit().await;
    let branch = "refs/heads/hangar/1a2b3c4d";
    done(&work, &["push", "-q", "origin", &format!("HEAD:{branch}")]).await;
    let ran = git(&work, &["push", "origin", &format!(":{branch}")]).await;
    assert!(!ran.success && ran.text.contains("may not be deleted"), "{}", ran.text);
    assert!(scene.refs().await.contains(branch));
}

#[tokio::test]
async fn another_repository_is_refused_where_git_shows_it() {
    let scene = Scene::start().await;
    let here = scene.world.directory.path();
    for (url, reason) in [
        (
            format!("{}/local/secret.git", scene.base),
            "local/secret does not belong to this session",
        ),
        (scene.base.replace("/git/local", "/git/github.com/a/b.git"), "`github.com` is not served"),
    ] {
        let ran = git(here, &["clone", &url, "stolen"]).await;
        assert!(!ran.success, "{url}");
        assert!(ran.text.contains("remote: denied: ") && ran.text.contains(reason), "{}", ran.text);
    }
}

#[tokio::test]
async fn a_compressed_or_unreadable_push_is_refused() {
    let scene = Scene::start().await;
    for (name, value, body) in [
        ("content-encoding", "gzip", "\u{1f}"),
        ("content-type", "application/x-git-receive-pack-request", "PACK"),
        ("content-type", "application/x-git-receive-pack-request", "00"),
    ] {
        let target = "/git/local/local/hangar.git/git-receive-pack";
        let mut request = crate::support::request("POST", target, body);
        request.headers_mut().insert(name, value.parse().expect("a value"));
        let response = scene.world.send(request).await;
        assert_eq!(response.status(), 403);
        let text = crate::support::text(response).await;
        assert!(text.contains("cannot be judged"), "{text}");
    }
}
