//! The real git client against the forge, over HTTP.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/server.rs"]
mod server;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{commit, git, git_command, write};
use forge::{Access, Local};
use http_body_util::{BodyExt, Full};
use protocol::repository::RepositoryName;
use server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Bench {
    directory: tempfile::TempDir,
    local: Local,
}

impl Bench {
    async fn with(source: impl FnOnce(&Path) -> PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::open(directory.path().join("forge")).await.unwrap();
        local.import(&source(directory.path()), &name()).await.unwrap();
        Self { directory, local }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn serve(&self, access: Access) -> Server {
        Server::start(self.local.clone(), access).await
    }

    /// An answer with a whole pack that nobody has read yet.
    async fn want_everything(&self) -> http::Response<forge::Body> {
        let head = self.local.resolve(&name(), "HEAD").await.unwrap();
        let want = format!("want {head} no-progress\n");
        let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
        let request = http::Request::post("/git-upload-pack")
            .header("content-type", "application/x-git-upload-pack-request")
            .body(Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let response = self.local.serve(&name(), Access::Read, request).await;
        assert_eq!(response.status(), 200);
        response
    }

    /// Processes of git that serve this forge.
    fn processes(&self) -> Vec<String> {
        let forge = self.path().canonicalize().unwrap().join("forge");
        let needle = format!("GIT_PROJECT_ROOT={}", forge.display());
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let environment = |entry: &std::fs::DirEntry| std::fs::read(entry.path().join("environ"));
        entries
            .filter(|entry| {
                let found = environment(entry).unwrap_or_default();
                found.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
            })
            .map(|entry| std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default())
            .collect()
    }

    /// Children of this process that ended and were not waited for.
    fn zombies() -> usize {
        let own = std::process::id().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let stats =
            entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        stats
            .filter(|stat| {
                let facts = stat.rsplit_once(") ").map_or("", |(_, facts)| facts);
                let mut facts = facts.split(' ');
                stat.contains("(git") && facts.next() == Some("Z") && facts.next() == Some(&own)
            })
            .count()
    }
}

fn name() -> RepositoryName {
    "local/it".parse().unwrap()
}

/// Runs blocking git commands beside the server.
async fn client<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clone_push_and_fetch_with_the_real_client() {
    let bench = Bench::with(common::odd_names).await;
    let server = bench.serve(Access::Write).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    client(move || {
        git(&directory, &["clone", "--quiet", &url, "one"]);
        git(&directory, &["clone", "--quiet", &url, "two"]);
        let (one, two) = (directory.join("one"), directory.join("two"));
        for file in common::odd_file_names() {
            use std::os::unix::ffi::OsStrExt;
            let read = std::fs::read(one.join(Path::new(&file))).unwrap();
            assert_eq!(read, file.as_bytes());
        }
        git(&one, &["checkout", "--quiet", "-b", "hangar/12345678-x"]);
        write(&one, "new\nfile", "new\n");
        let pushed = commit(&one, "new");
        git(&one, &["push", "--quiet", "origin", "HEAD"]);
        git(&two, &["fetch", "--quiet"]);
        assert_eq!(git(&two, &["rev-parse", "origin/hangar/12345678-x"]), pushed);
        // The same push again is nothing to do, not an error.
        git(&one, &["push", "--quiet", "origin", "HEAD"]);
        let hidden = git(&two, &["ls-remote", &url]);
        assert!(!hidden.contains("refs/hangar"), "{hidden}");
    })
    .await;
    assert!(server.protocols.lock().unwrap().iter().any(|version| version == "version=2"));
    let refreshed = bench.local.refresh(&name()).await.unwrap();
    assert_eq!(refreshed.notices, []);
    assert!(bench.local.resolve(&name(), "hangar/12345678-x").await.is_ok());
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_the_protocol_is_spoken() {
    let bench = Bench::with(common::small).await;
    let server = bench.serve(Access::Read).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    client(move || {
        for version in ["0", "1", "2"] {
            let option = format!("protocol.version={version}");
            git(&directory, &["-c", &option, "clone", "--quiet", &url, version]);
        }
        // A second source of "have" lines long enough for git to compress its request.
        let two = directory.join("2");
        for number in 0..200 {
            // Newer than what is common, so that git offers all of them first.
            let mut newer = git_command(&two);
            newer.env("GIT_COMMITTER_DATE", format!("{} +0000", 1_700_001_000 + number));
            newer.args(["commit", "--quiet", "--allow-empty", "-m", "newer"]);
            assert!(newer.status().unwrap().success());
        }
        let other = directory.join("small");
        write(&other, "more.txt", "more\n");
        commit(&other, "more");
    })
    .await;
    bench.local.refresh(&name()).await.unwrap();
    let directory = bench.path().join("2");
    client(move || git(&directory, &["-c", "protocol.version=0", "fetch", "--quiet"])).await;
    let encodings = server.encodings.lock().unwrap().clone();
    assert!(encodings.contains(&"gzip".to_owned()), "{encodings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_cannot_push_and_hear_why() {
    let bench = Bench::with(common::small).await;
    let server = bench.serve(Access::Read).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    let said = client(move || {
        git(&directory, &["clone", "--quiet", &url, "one"]);
        let one = directory.join("one");
        commit(&one, "more");
        common::git_fails(&one, &["push", "origin", "HEAD:refs/heads/x"])
    })
    .await;
    assert!(said.contains("local/it may only be read here"), "{said}");
    for path in ["/x.git/git-receive-pack", "/x.git/info/refs?service=git-receive-pack"] {
        let method = if path.contains('?') { "GET" } else { "POST" };
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(Full::new(bytes::Bytes::new())).unwrap();
        let response = bench.local.serve(&name(), Access::Read, request).await;
        assert_eq!(response.status(), 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_on_the_forge_cannot_be_rewritten_or_deleted() {
    let bench = Bench::with(common::small).await;
    let server = bench.serve(Access::Write).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    client(move || {
        git(&directory, &["clone", "--quiet", &url, "one"]);
        let one = directory.join("one");
        git(&one, &["reset", "--quiet", "--hard", "HEAD~1"]);
        commit(&one, "instead");
        let said = common::git_fails(&one, &["push", "--force", "origin", "HEAD:main"]);
        assert!(said.contains("non-fast-forward"), "{said}");
        let said = common::git_fails(&one, &["push", "origin", ":main"]);
        assert!(said.contains("deletion prohibited"), "{said}");
        let said =
            common::git_fails(&one, &["push", "origin", "HEAD:refs/hangar/adopted/heads/main"]);
        assert!(said.contains("deny updating a hidden ref"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_smart_http_of_known_repositories_is_served() {
    let bench = Bench::with(common::small).await;
    let ask = async |method: &str, uri: &str, name: &str| {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(Full::new(bytes::Bytes::new())).unwrap();
        let name = name.parse().unwrap();
        let response = bench.local.serve(&name, Access::Write, request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let advertise = "/x.git/info/refs?service=git-upload-pack";
    let (status, text) = ask("GET", advertise, "local/nothing").await;
    assert_eq!(status, 404);
    assert!(text.contains("the forge has no repository local/nothing"), "{text}");
    for uri in ["/x.git/HEAD", "/x.git/config", "/x.git/info/refs", "/../../forge.db", "/"] {
        let (status, text) = ask("GET", uri, "local/it").await;
        assert_eq!((status, text.contains("smart HTTP")), (404, true), "{uri}: {text}");
    }
    let (status, text) = ask("GET", advertise, "local/it").await;
    assert_eq!(status, 200);
    assert!(text.starts_with("001e# service=git-upload-pack\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clones_at_once() {
    let bench = Bench::with(|parent| common::many_files(parent, 2_000)).await;
    let server = bench.serve(Access::Read).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    let clones = (0..20).map(|number| {
        let (url, directory) = (url.clone(), directory.clone());
        client(move || {
            let target = format!("clone-{number}");
            git(&directory, &["clone", "--quiet", &url, &target]);
            git(&directory.join(target), &["rev-parse", "HEAD^{tree}"])
        })
    });
    let trees = futures_util::future::join_all(clones).await;
    let expected = git(&bench.path().join("many"), &["rev-parse", "HEAD^{tree}"]);
    assert!(trees.iter().all(|tree| *tree == expected), "{trees:?}");
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_both_ways() {
    let bytes = 80 * 1024 * 1024;
    let bench = Bench::with(move |parent| common::large_file(parent, bytes)).await;
    let server = bench.serve(Access::Write).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    client(move || {
        git(&directory, &["clone", "--quiet", &url, "one"]);
        let one = directory.join("one");
        assert_eq!(std::fs::metadata(one.join("large.bin")).unwrap().len(), bytes);
        std::fs::rename(one.join("large.bin"), one.join("larger.bin")).unwrap();
        let mut file =
            std::fs::OpenOptions::new().append(true).open(one.join("larger.bin")).unwrap();
        std::io::Write::write_all(&mut file, b"more").unwrap();
        git(&one, &["config", "core.compression", "0"]);
        commit(&one, "larger");
        git(&one, &["push", "--quiet", "origin", "HEAD:refs/heads/hangar/1"]);
    })
    .await;
    assert!(bench.local.resolve(&name(), "hangar/1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_killed_leaves_no_process() {
    let bench = Bench::with(|parent| common::large_file(parent, 40 * 1024 * 1024)).await;
    let server = bench.serve(Access::Write).await;
    // A client that asks for everything and reads nothing: git blocks on a full pipe.
    let head = bench.local.resolve(&name(), "HEAD").await.unwrap();
    let want = format!("want {head} no-progress\n");
    let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
    let request = format!(
        "POST /git/local/local/it.git/git-upload-pack HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");
    until("git never worked", || !bench.processes().is_empty()).await;
    drop(stream);
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;

    // A push that breaks off: half a body, then silence for ever.
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let request = "POST /git/local/local/it.git/git-receive-pack HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 100000\r\n\r\n00";
    stream.write_all(request.as_bytes()).await.unwrap();
    until("git never worked", || !bench.processes().is_empty()).await;
    drop(stream);
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;

    // The real client, killed while it receives.
    let url = server.url(&name());
    let mut clone = git_command(bench.path())
        .args(["clone", "--bare", "--quiet", &url, "killed"])
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    until("git never worked", || !bench.processes().is_empty()).await;
    clone.kill().unwrap();
    clone.wait().unwrap();
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;
    let (url, directory) = (server.url(&name()), bench.path().to_owned());
    client(move || git(&directory, &["clone", "--quiet", &url, "after"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_answer_ends_its_processes() {
    let bench = Bench::with(|parent| common::large_file(parent, 20 * 1024 * 1024)).await;
    for _ in 0..20 {
        let mut response = bench.want_everything().await;
        assert!(response.body_mut().frame().await.unwrap().is_ok());
    }
    until("processes were left", || bench.processes().is_empty() && Bench::zombies() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_place() {
    let bench = Bench::with(|parent| common::large_file(parent, 20 * 1024 * 1024)).await;
    let mut response = bench.want_everything().await;
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    assert!(!bench.processes().is_empty());
    // From here on time passes whenever nothing else happens.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let patience = std::time::Instant::now() + Duration::from_mins(1);
    while !bench.processes().is_empty() {
        assert!(std::time::Instant::now() < patience, "processes were left");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(began.elapsed() > Duration::from_mins(4), "ended too early");
    drop(response);
}
