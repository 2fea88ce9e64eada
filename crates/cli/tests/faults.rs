//! What goes wrong around a session, with every real part: the session shows what happened and can
//! go on; the machine's faults are told in sentences with advice and the right exit code.

#![expect(clippy::print_stderr, reason = "what a machine does not let a test do is said aloud")]

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use protocol::session::PromptOutcome;
use protocol::{Envelope, Event, SessionId};
use support::{Server, hangar, memory_peak, try_job};

/// Memory a process of ours may need in a debug build, whatever passes through it.
const MEMORY: u64 = 200 << 20;
/// What a person waits for a stop at most, in milliseconds, on a machine under load.
const STOP: u64 = 1500;

fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}

fn outcome(events: &[Envelope]) -> &PromptOutcome {
    match &events.last().expect("events").event {
        Event::PromptFinished { outcome, .. } => outcome,
        other => panic!("the last event is {other:?}"),
    }
}

#[track_caller]
fn failed_with(events: &[Envelope], word: &str) {
    match outcome(events) {
        PromptOutcome::Failed { reason } => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?} in {events:#?}"),
    }
}

#[track_caller]
fn completed(events: &[Envelope]) {
    assert_eq!(*outcome(events), PromptOutcome::Completed, "{events:#?}");
}

fn has(events: &[Envelope], fits: impl Fn(&Event) -> bool) -> bool {
    events.iter().any(|envelope| fits(&envelope.event))
}

fn says(events: &[Envelope], word: &str) -> bool {
    has(events, |event| matches!(event, Event::AgentMessage { text, .. } if text.contains(word)))
}

fn answers(events: &[Envelope], word: &str) -> bool {
    has(
        events,
        |event| matches!(event, Event::ToolCallFinished { output, .. } if output.contains(word)),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ends with this code, says these things and prints no data.
#[track_caller]
fn fails(output: &Output, code: i32, sentences: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for sentence in sentences {
        assert!(said.contains(sentence), "{sentence:?} is missing in: {said}");
    }
}

/// A server, a session whose first prompt is over, and what comes after it.
struct Talk {
    server: Server,
    session: SessionId,
    last: u64,
}

impl Talk {
    async fn begin() -> Self {
        Self::on(Server::start()).await
    }

    async fn on(server: Server) -> Self {
        let repository = server.repository("small").await;
        let session = server.session(&repository, "@@ say hello @@END").await.summary.id;
        let mut talk = Self { server, session, last: 0 };
        completed(&talk.until(finished).await);
        talk
    }

    /// Everything new up to an event that fits.
    async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Vec<Envelope> {
        let events = self.server.until(self.session, self.last, fits).await;
        self.last = events.last().expect("events").sequence;
        events
    }

    /// A prompt to its end.
    async fn prompt(&mut self, text: &str) -> Vec<Envelope> {
        self.server.send(self.session, text).await;
        self.until(finished).await
    }

    /// Changes a file to show that work goes on: to a pull request that has it.
    async fn goes_on(&mut self) -> Vec<Envelope> {
        let events = self.prompt("@@ bash date >> README.md ;; say still here @@END").await;
        completed(&events);
        let offered = has(&events, |event| matches!(event, Event::PullRequestOffered { .. }));
        assert!(offered && says(&events, "still here"), "{events:#?}");
        events
    }

    /// Stops the running prompt: milliseconds from the request to the agent's end.
    async fn stop(&mut self) -> u64 {
        self.server.client().stop(self.session).await.expect("stopped");
        let events = self.until(finished).await;
        assert!(matches!(outcome(&events), PromptOutcome::Stopped { .. }), "{events:#?}");
        let at = |fits: fn(&Event) -> bool| {
            events.iter().find(|envelope| fits(&envelope.event)).expect("it is there").at
        };
        let asked = at(|event| matches!(event, Event::StopRequested { .. }));
        let ended = at(|event| matches!(event, Event::AgentEnded { .. }));
        u64::try_from(ended.milliseconds_since(asked)).expect("in order")
    }
}

#[tokio::test]
async fn prompts_of_every_size_and_kind() {
    let mut talk = Talk::begin().await;
    let (data, session) = (talk.server.data(), talk.session.to_string());
    let send = |text: &[u8]| {
        let mut child = hangar()
            .args(["session", "prompt", &session, "-", "--data"])
            .arg(&data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // A program that refuses early need not read everything.
        let _ = child.stdin.take().expect("piped").write_all(text);
        child.wait_with_output().expect("it ends")
    };
    let empty = "the prompt is empty: write what the agent should do";
    fails(&send(b""), 1, &["error: ", empty]);
    fails(&send(b" \n\t\n"), 1, &["error: ", empty]);
    let limit = protocol::limits::PROMPT_BYTES;
    let mut long = b"@@ say short ;; bash echo short >> README.md @@END ".to_vec();
    long.resize(limit + 1, b'x');
    fails(&send(&long), 1, &["error: ", &limit.to_string()]);
    fails(&send(b"not UTF-8: \xff"), 1, &["UTF-8"]);
    // Nothing of these was recorded; what is just short enough is.
    let output = send(&long[..limit]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let events = talk.until(finished).await;
    completed(&events);
    assert_eq!(events.iter().filter(|it| finished(&it.event)).count(), 1, "{events:#?}");
    assert!(has(&events, |event| {
        matches!(event, Event::PromptAccepted { text, .. } if text.len() == limit)
    }));
    let controls = "@@ say a\u{1b}[2Jb\u{7}c\u{202e}d\u{9b}e ;; bash printf '\\033]0;x\\007' @@END";
    completed(&talk.prompt(controls).await);
    let shown = hangar()
        .args(["session", "watch", "--until-idle", &session, "--data"])
        .arg(&data)
        .output()
        .expect("the program starts");
    let shown = text(&shown.stdout) + &text(&shown.stderr);
    assert!(shown.contains("a\\x1b[2Jb\\x07c\\u{202e}d"), "{shown}");
    let bare = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    assert!(!shown.contains(|letter| bare(letter) || letter == '\u{202e}'), "{shown:?}");
    talk.server.end();
}

#[tokio::test]
async fn a_model_may_fail_in_every_way() {
    let mut talk = Talk::begin().await;
    for fault in ["nonsense", "drop", "fail 500", "fail 529", "fail 429 3"] {
        let events = talk.prompt(&format!("@@ {fault} ;; say recovered @@END")).await;
        completed(&events);
        assert!(says(&events, "recovered"), "{fault}: {events:#?}");
        let told = |event: &Event| {
            matches!(event, Event::AgentThought { text, .. } | Event::AgentMessage { text, .. }
                if text.contains("again in"))
        };
        assert!(has(&events, told), "nobody sees why {fault} took long: {events:#?}");
    }
    failed_with(&talk.prompt("@@ fail 400 ;; say never @@END").await, "400");
    failed_with(&talk.prompt("@@ fail 429 99 ;; say never @@END").await, "429");
    let events = talk.prompt("@@ tool fly {\"to\": \"moon\"} ;; say landed @@END").await;
    completed(&events);
    assert!(answers(&events, "fly") && says(&events, "landed"), "{events:#?}");
    let events = talk.prompt("@@ tool read_file {\"nonsense\": 1} ;; say read @@END").await;
    completed(&events);
    talk.goes_on().await;
    talk.server.end();
}

#[tokio::test]
async fn a_model_that_never_answers_can_be_stopped() {
    let model = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", model.local_addr().expect("bound"));
    let server = Server::start_with(|command| {
        command.env("OPENAI_API_KEY", "sk-secret-of-the-host").env("OPENAI_BASE_URL", &address);
    });
    let repository = server.repository("small").await;
    let session = server.session(&repository, "Say more").await.summary.id;
    let mut talk = Talk { server, session, last: 0 };
    talk.until(|event| matches!(event, Event::PromptStarted { .. })).await;
    // The request has reached the model, which says nothing.
    let silent = tokio::task::spawn_blocking(move || model.accept()).await.expect("joined");
    let milliseconds = talk.stop().await;
    assert!(milliseconds < STOP, "{milliseconds} ms");
    drop(silent);
    talk.server.end();
}

#[tokio::test]
async fn an_agent_that_is_killed_is_started_again_and_its_work_is_kept() {
    let mut talk = Talk::begin().await;
    let script = "@@ bash echo kept > kept.txt ;; bash kill -9 $PPID ;; say never @@END";
    failed_with(&talk.prompt(script).await, "SIGKILL");
    talk.goes_on().await;
    let events = talk.prompt("@@ bash cat kept.txt; git log --oneline -- kept.txt | wc -l @@END");
    let events = events.await;
    assert!(answers(&events, "kept\n1"), "{events:#?}");
    talk.server.end();
}

#[tokio::test]
async fn a_stop_ends_everything_within_a_second() {
    let mut talk = Talk::begin().await;
    let script = "@@ bash sleep 7001 ;; say never @@END";
    let stubborn = "@@ bash trap '' TERM INT HUP; setsid sleep 7002 & \
                    (trap '' TERM; while :; do sleep 7003; done) & wait ;; say never @@END";
    for script in [script, stubborn] {
        talk.server.send(talk.session, script).await;
        talk.until(|event| matches!(event, Event::ToolCallStarted { .. })).await;
        let milliseconds = talk.stop().await;
        assert!(milliseconds < STOP, "{milliseconds} ms for {script}");
    }
    let events = talk.prompt("@@ bash cat /proc/[0-9]*/cmdline | tr '\\0' ' ' @@END").await;
    completed(&events);
    assert!(!answers(&events, "sleep 700"), "{events:#?}");
    talk.goes_on().await;
    talk.server.end();
}

#[tokio::test]
async fn a_flood_fills_neither_memory_nor_the_journal() {
    let mut talk = Talk::begin().await;
    completed(&talk.prompt("@@ bash yes | head -c 1G ;; say over @@END").await);
    // The same into the agent's own channel, where only its protocol is expected.
    let script = "@@ bash yes $(head -c 60000 /dev/zero | tr '\\0' y) | head -c 256M \
                  > /proc/$PPID/fd/1 ;; say over @@END";
    let events = talk.prompt(script).await;
    let told = has(&events, |event| matches!(event, Event::Notice { .. }))
        || matches!(outcome(&events), PromptOutcome::Failed { .. });
    assert!(told, "{events:#?}");
    talk.goes_on().await;
    let server = memory_peak(talk.server.pid());
    assert!(server < MEMORY, "the server needed {server} bytes");
    for pid in talk.server.first_processes() {
        let inside = memory_peak(pid);
        assert!(inside < MEMORY, "agentd needed {inside} bytes");
    }
    let file = talk.server.data().join("sessions").join(format!("{}.db", talk.session));
    let size = std::fs::metadata(file).expect("a journal").len();
    assert!(size < 8 << 20, "the journal has {size} bytes");
    talk.server.end();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let server = Server::start();
    let serve = |data: &Path, listen: &str| {
        let mut command = hangar();
        command.args(["serve", "--listen", listen, "--data"]).arg(data);
        command.output().expect("the program starts")
    };
    let other = server.directory.path().join("other");
    let taken = server.address.strip_prefix("http://").expect("an address");
    let port = taken.rsplit(':').next().expect("a port");
    fails(
        &serve(&other, taken),
        1,
        &[&format!("port {port} on 127.0.0.1 is in use"), "another port"],
    );
    assert!(!other.join("server.json").exists(), "it says that it runs");
    let second = serve(&server.data(), "127.0.0.1:0");
    fails(&second, 1, &["another server runs on the data directory", "hint: "]);
    // The first one is still announced and still answers.
    let listed = hangar().args(["session", "list", "--data"]).arg(server.data()).output();
    assert!(listed.expect("the program starts").status.success());
    // Nobody can write there, not even root.
    let nowhere = Path::new("/proc/hangar");
    fails(&serve(nowhere, "127.0.0.1:0"), 4, &["/proc/hangar cannot be written", "hint: "]);
    let tried = try_job(nowhere, server.directory.path(), "Say more");
    assert_eq!(tried.code, Some(4), "{}", tried.said);
}

#[test]
fn programs_that_are_missing_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let alone = directory.path().join("hangar");
    let program = env!("CARGO_BIN_EXE_hangar");
    if std::fs::hard_link(program, &alone).is_err() {
        std::fs::copy(program, &alone).expect("copied");
    }
    let data = directory.path().join("data");
    let run = |arguments: &[&str]| {
        Command::new(&alone).args(arguments).arg("--data").arg(&data).output().expect("it starts")
    };
    let hint = "hint: build all programs with `make build`";
    let path = directory.path().to_string_lossy();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["try", "--repository", &path]] {
        fails(&run(arguments), 4, &["is not beside this program", hint]);
    }
    let output = run(&["doctor"]);
    fails(&output, 4, &["something that is needed is missing"]);
    let report = text(&output.stdout);
    assert!(report.contains("✗ sandboxes") && report.contains(hint), "{report}");
    assert!(report.contains("hangar-agent is not beside this program"), "{report}");
}

/// Doctor and a whole job in a shell that `prepare` runs in first; both must say `sentence`.
#[track_caller]
fn cannot_run_sandboxes(unshare: &[&str], prepare: &str, sentence: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let repository = directory.path().join("small");
    std::fs::create_dir(&repository).expect("made");
    support::git(&repository, &["init", "--quiet"]);
    support::git(&repository, &["commit", "--quiet", "--allow-empty", "--message=First"]);
    let data = directory.path().join("mount/data");
    std::fs::create_dir(directory.path().join("mount")).expect("made");
    let run = |arguments: &[&str]| {
        let program = hangar();
        let script = format!("cd \"$1\" && {prepare} && shift && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-ec", &script, "sh"]).arg(directory.path());
        command.arg(program.get_program()).args(arguments).arg("--data").arg(&data);
        for (name, _) in program.get_envs() {
            command.env_remove(name);
        }
        command.output().expect("unshare starts")
    };
    let doctor = run(&["doctor"]);
    fails(&doctor, 4, &["something that is needed is missing"]);
    let report = text(&doctor.stdout);
    assert!(report.contains(sentence) && report.contains("hint: "), "{report}");
    assert!(report.contains("✗ sandboxes"), "{report}");
    let path = repository.to_string_lossy();
    let tried = run(&["try", "--json", "--repository", &path]);
    fails(&tried, 4, &["this machine cannot run sandboxes: ", sentence, "hint: "]);
    assert_eq!(text(&tried.stdout), "", "work was done without isolation");
}

#[test]
fn without_user_namespaces_nothing_runs_unguarded() {
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces";
    let unshare = ["--user", "--map-root-user"];
    cannot_run_sandboxes(&unshare, forbid, "user namespaces are not available");
}

#[test]
fn without_overlays_nothing_runs_unguarded() {
    // A data directory on an overlay: the kernel takes no overlay as another one's upper layer.
    let mount = "mkdir -p lower upper work && mount -t overlay overlay \
                 -o lowerdir=lower,upperdir=upper,workdir=work mount";
    let unshare = ["--user", "--map-root-user", "--mount"];
    cannot_run_sandboxes(&unshare, mount, "overlay file systems cannot be mounted");
}

/// A small disk, gone with its owner.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(path: std::path::PathBuf) -> Self {
        std::fs::create_dir(&path).expect("made");
        let size = ["-t", "tmpfs", "-o", "size=128m,mode=700", "tmpfs"];
        let mounted = Command::new("mount").args(size).arg(&path).status().expect("mount starts");
        assert!(mounted.success(), "{mounted}");
        Self(path)
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }

    /// Takes every block that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("made");
        for piece in [1 << 20, 1 << 12] {
            let bytes = vec![0; piece];
            while file.write_all(&bytes).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root may mount a small disk");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::at(directory.path().join("data"));
    let mut talk = Talk::on(Server::start_in(directory, |_| {})).await;
    disk.fill();
    let mut accepted = Vec::new();
    let padding = "x".repeat(100 << 10);
    let error = loop {
        let text = format!("@@ say number {} @@END {padding}", accepted.len());
        match talk.server.try_to_send(talk.session, &text).await {
            Ok(prompt) => accepted.push(prompt),
            Err(error) => break format!("{error:#}"),
        }
        assert!(accepted.len() < 50, "the disk is full and nobody notices");
    };
    assert!(error.contains("no space is left"), "{error}");
    let hangar = |arguments: &[&str]| {
        let mut command = hangar();
        command.args(arguments).arg("--data").arg(talk.server.data()).output().expect("it starts")
    };
    let new = hangar(&["run", "Say more", "--repository", "local/small"]);
    fails(&new, 1, &["space"]);
    // What is there can still be looked at.
    let shown = hangar(&["session", "show", &talk.session.to_string()]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    std::fs::remove_file(disk.filler()).expect("removed");
    let last = talk.server.send(talk.session, "@@ say there is space @@END").await.prompt;
    accepted.push(last);
    let is_last =
        |event: &Event| matches!(event, Event::PromptFinished { prompt, .. } if *prompt == last);
    let events = talk.until(is_last).await;
    let taken = events.iter().filter_map(|it| match it.event {
        Event::PromptAccepted { prompt, .. } => Some(prompt),
        _ => None,
    });
    assert_eq!(taken.collect::<Vec<_>>(), accepted, "{events:#?}");
    let done = events.iter().filter_map(|it| match it.event {
        Event::PromptFinished { prompt, .. } => Some(prompt),
        _ => None,
    });
    assert_eq!(done.collect::<Vec<_>>(), accepted, "{events:#?}");
    talk.goes_on().await;
    talk.server.kill();
    talk.server.start_again();
    let last = talk.last;
    talk.last = 0;
    let again = talk.until(|event| is_last(event)).await;
    assert!(again.iter().zip(1..).all(|(envelope, number)| envelope.sequence == number));
    assert!(talk.last < last);
    talk.goes_on().await;
    talk.server.end();
    drop(talk);
}
