//! The walls, tried from inside: what an agent's commands can reach in a real session of a real
//! server, and that no credential is anywhere but where it belongs.

#[path = "../../../tests/real_part.rs"]
mod real_part;
mod support;

#[path = "walls/hostile_git.rs"]
mod hostile_git;
#[path = "walls/ordinary_user.rs"]
mod ordinary_user;
#[path = "walls/programs.rs"]
mod programs;
#[path = "walls/secrets.rs"]
mod secrets;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use protocol::client::CreateSession;
use protocol::repository::RepositoryName;
use protocol::sandbox::LimitRequest;
use protocol::session::{Dialect, ModelChoice};
use protocol::{Envelope, Event, RequestId, SessionId};
use support::{Server, git};

/// What the agent runs: tries every wall, one line for each.
const INSIDE: &str = include_str!("walls/inside.sh");
/// Looks for secrets in everything that can be read inside.
const SCAN: &str = include_str!("walls/scan.pl");

fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}

/// A registered repository with the programs above in it.
async fn repository(server: &Server) -> RepositoryName {
    let path = server.directory.path().join("walls");
    std::fs::create_dir(&path).expect("made");
    git(&path, &["init", "--quiet", "--initial-branch=main"]);
    for (name, text) in [("inside.sh", INSIDE), ("scan.pl", SCAN), ("README.md", "# Walls\n")] {
        std::fs::write(path.join(name), text).expect("written");
    }
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--message=First"]);
    server.register(&path).await
}

/// A session whose agent runs these commands, whatever models the server has.
async fn rehearse(server: &Server, repository: &RepositoryName, commands: &[String]) -> SessionId {
    let request = CreateSession {
        request: RequestId::new(),
        repository: repository.clone(),
        prompt: Some(script(commands)),
        agent: None,
        model: Some(ModelChoice {
            provider: "rehearsal".to_owned(),
            name: "rehearsal".to_owned(),
            dialect: Dialect::Anthropic,
        }),
        branch: None,
        limits: LimitRequest::default(),
        isolation: None,
    };
    server.client().create(&request).await.expect("created").summary.id
}

/// A prompt that has the rehearsal model run commands.
fn script(commands: &[String]) -> String {
    let steps: Vec<String> = commands.iter().map(|command| format!("bash {command}")).collect();
    format!("@@ {} @@END", steps.join(" ;; "))
}

/// What the commands printed.
fn outputs(events: &[Envelope]) -> Vec<String> {
    let printed = events.iter().filter_map(|envelope| match &envelope.event {
        Event::ToolCallFinished { output, .. } => Some(output.clone()),
        _ => None,
    });
    printed.collect()
}

/// Things of the host that must not be reached, and that can be: the test looks itself.
struct Bait {
    tcp: TcpListener,
    tcp_6: Option<TcpListener>,
    udp: UdpSocket,
    name: String,
    abstract_socket: UnixListener,
}

impl Bait {
    fn lay(server: &Server) -> Self {
        let name = format!("hangar-walls-{}", std::process::id());
        std::fs::write(server.directory.path().join(&name), "of the host").expect("written");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").expect("a port"),
            tcp_6: TcpListener::bind("[::1]:0").ok(),
            udp: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            abstract_socket: UnixListener::bind_addr(&address).expect("bound"),
            name,
        }
    }

    /// As the script wants to be told.
    fn variables(&self, data: &std::path::Path) -> String {
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let tcp = port(&self.tcp);
        let tcp_6 = self.tcp_6.as_ref().map_or(tcp, port);
        let udp = self.udp.local_addr().expect("an address").port();
        let (name, data) = (&self.name, data.display());
        format!(
            "WALLS_TCP={tcp} WALLS_TCP6={tcp_6} WALLS_UDP={udp} WALLS_NAME={name} \
             WALLS_MARK={name} WALLS_DATA={data}"
        )
    }

    /// That this test reaches all of it, and that nobody else did.
    fn find_untouched(self) {
        for listener in [Some(&self.tcp), self.tcp_6.as_ref()].into_iter().flatten() {
            let ours = TcpStream::connect(listener.local_addr().expect("an address"));
            let ours = ours.expect("the host reaches it").local_addr().expect("an address");
            let (_, first) = listener.accept().expect("a connection");
            assert_eq!(first, ours, "somebody else connected before");
        }
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let to = self.udp.local_addr().expect("an address");
        sender.send_to(b"from the host", to).expect("sent");
        let mut buffer = [0; 64];
        let length = self.udp.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"from the host", "somebody else sent before");
        self.abstract_socket.set_nonblocking(true).expect("set");
        assert!(self.abstract_socket.accept().is_err(), "somebody connected");
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_reached_from_inside() {
    let server = Server::start();
    let repository = repository(&server).await;
    server.repository("other").await;
    let bait = Bait::lay(&server);
    let variables = bait.variables(&server.data());
    let sections = ["network", "files", "processes", "rights", "gateway"];
    let commands = sections.map(|name| format!("{variables} bash inside.sh {name}"));
    let session = rehearse(&server, &repository, &commands).await;
    let events = server.until(session, 0, finished).await;
    let outputs = outputs(&events);
    let all = outputs.join("\n");
    let breaches: Vec<&str> = all.lines().filter(|line| line.starts_with("BREACH")).collect();
    assert!(breaches.is_empty(), "{breaches:#?}\nin {all}");
    for name in sections {
        assert!(all.contains(&format!("end {name}")), "{name} did not come to its end:\n{all}");
    }
    // The other way round: the script tries all it has, and says so.
    let held = all.lines().filter(|line| line.starts_with("held ")).count();
    assert!(held > 90, "{held} walls were tried:\n{all}");
    bait.find_untouched();
    for (what, why) in [
        ("example.org:443", "cannot be reached from this sandbox"),
        ("169.254.169.254", "cannot be reached from this sandbox"),
        ("other", "does not belong to this session"),
        ("refs/heads/main", "may not be pushed"),
        ("", "may not be deleted"),
    ] {
        let told = |event: &Event| {
            matches!(event, Event::Denied { what: asked, reason }
            if (asked.contains(what) || reason.contains(what)) && reason.contains(why))
        };
        server.until(session, 0, told).await;
    }
    let forge = server.data().join("forge/local/walls.git");
    let branches = git(&forge, &["for-each-ref", "--format=%(refname)"]);
    let others: Vec<&str> = branches
        .lines()
        .filter(|name| *name != "refs/heads/main" && !name.contains("/hangar/"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(git(&forge, &["rev-list", "--count", "main"]), "1");
    real_part::worked("sandbox", "namespaces");
}

/// Every regular file below a directory.
fn files_below(directory: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
