//! The scan: no secret that the server knows is in a running sandbox, in what is left of one, or in
//! anything that is written down, in whatever usual form; and what is planted is found.

#[path = "secrets/known.rs"]
mod known;
#[path = "secrets/places.rs"]
mod places;
#[path = "../../../tests/real_part.rs"]
mod real_part;
mod support;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use known::Known;
use places::Place;
use protocol::client::CreateSession;
use protocol::repository::RepositoryName;
use protocol::sandbox::LimitRequest;
use protocol::secret::{PutSecret, SecretDelivery, SecretPhase, SecretScope, SecretValue};
use protocol::session::{Dialect, ModelChoice};
use protocol::{Envelope, Event, RequestId, SessionId};
use support::{Server, git, processes_in_sandboxes};

/// Looks for secrets in everything that can be read inside.
const SCAN: &str = include_str!("secrets/scan.pl");

fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}

/// A value made for this run, so that no older file can hold it.
fn made(beginning: &str) -> String {
    let id = RequestId::new();
    let bytes: Vec<u8> = id.as_bytes().iter().rev().copied().collect();
    let digits = known::hex(&bytes);
    format!("{beginning}{digits}/+{}", &digits[..9])
}

async fn set(server: &Server, place: (SecretScope, SecretPhase, &str), value: &str, plain: bool) {
    let (scope, phase, name) = place;
    let hosts = if plain { Vec::new() } else { vec!["registry.example".parse().expect("a host")] };
    let delivery = if plain { SecretDelivery::Plain } else { SecretDelivery::Placeholder };
    let request = PutSecret { value: SecretValue::new(value.to_owned()), delivery, hosts };
    let name = name.parse().expect("a name");
    server.client().put_secret(&scope, phase, &name, &request).await.expect("set");
}

/// A prompt that has the rehearsal model run commands.
fn script(commands: &[String]) -> String {
    let steps: Vec<String> = commands.iter().map(|command| format!("bash {command}")).collect();
    format!("@@ {} @@END", steps.join(" ;; "))
}

async fn session(server: &Server, repository: &RepositoryName, prompt: String) -> SessionId {
    let request = CreateSession {
        request: RequestId::new(),
        repository: repository.clone(),
        prompt: Some(prompt),
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

fn outputs(events: &[Envelope]) -> Vec<String> {
    let printed = events.iter().filter_map(|envelope| match &envelope.event {
        Event::ToolCallFinished { output, .. } => Some(output.clone()),
        _ => None,
    });
    printed.collect()
}

/// Commands that plant the control in a file and in a process.
fn plant(control: &str) -> String {
    format!(
        "perl -e 'print pack \"H*\", \"{}\"' > /home/agent/planted; PLANTED=$(cat \
         /home/agent/planted) setsid sleep 600 > /dev/null 2>&1 & sleep 0.2; echo planted",
        known::hex(control.as_bytes())
    )
}

fn read(data: &Path, name: &str) -> String {
    std::fs::read_to_string(data.join(name)).expect(name).trim().to_owned()
}

/// Everything the server knows, by name.
fn server_secrets(server: &Server, keys: [String; 2]) -> Vec<(String, Vec<u8>)> {
    let data = server.data();
    let [anthropic, openai] = keys;
    let code = server.link.split("code=").nth(1).expect("a code in the link").to_owned();
    let mut secrets = vec![
        ("anthropic key".to_owned(), anthropic.into_bytes()),
        ("openai key".to_owned(), openai.into_bytes()),
        ("token".to_owned(), read(&data, "token").into_bytes()),
        ("one-time code".to_owned(), code.into_bytes()),
    ];
    let ring = read(&data, "secret-keys");
    let keys: Vec<&str> = ring
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|it| it.1)
        .collect();
    assert_eq!(keys.len(), 1, "one key before any rotation");
    secrets.push(("encryption key".to_owned(), keys[0].as_bytes().to_vec()));
    secrets.push(("encryption key, raw".to_owned(), known::decode(keys[0])));
    let authority: serde_json::Value =
        serde_json::from_str(&read(&data, "authority.json")).expect("JSON");
    let pem = authority["key"].as_str().expect("a key");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let private = known::decode(&body);
    let scalar =
        private.windows(2).position(|two| two == [4, 32]).expect("an elliptic curve's key");
    secrets.push(("authority's number".to_owned(), private[scalar + 2..][..32].to_vec()));
    for line in pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 30) {
        secrets.push(("authority's key".to_owned(), line.as_bytes().to_vec()));
    }
    secrets
}

#[tokio::test]
async fn no_secret_is_in_a_sandbox_or_written_down() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let keys = [made("sk-ant-"), made("sk-oai-")];
    let mut server = Server::start_with(|command| {
        command.env("ANTHROPIC_API_KEY", &keys[0]).env("OPENAI_API_KEY", &keys[1]);
    });
    let (everywhere, here) = (made("npm_"), made("registry "));
    let (for_builds, plain) = (made("build_"), made("plain_"));
    let run = SecretPhase::Run;
    set(&server, (SecretScope::Server, run, "REGISTRY_TOKEN"), &everywhere, false).await;
    set(&server, (SecretScope::Server, SecretPhase::Build, "BUILD_TOKEN"), &for_builds, false)
        .await;

    let path = server.directory.path().join("scanned");
    std::fs::create_dir(&path).expect("made");
    git(&path, &["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(path.join("scan.pl"), SCAN).expect("written");
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--message=First"]);
    let repository = server.register(&path).await;
    let scope = SecretScope::Repository { repository: repository.clone() };
    set(&server, (scope.clone(), run, "REGISTRY_TOKEN"), &here, false).await;
    set(&server, (scope, run, "SIGNING_KEY"), &plain, true).await;

    let mut secrets = server_secrets(&server, keys);
    for (name, value) in
        [("server's", &everywhere), ("repository's", &here), ("build's", &for_builds)]
    {
        secrets.push((name.to_owned(), value.as_bytes().to_vec()));
    }
    let control = made("control-");

    // A prompt in a first sandbox; a second one goes on with its files.
    let first = [
        "printenv REGISTRY_TOKEN BUILD_TOKEN".to_owned(),
        "printenv SIGNING_KEY | base64 -w0; printenv SIGNING_KEY".to_owned(),
        plant(&control),
    ];
    let id = session(&server, &repository, script(&first)).await;
    let events = server.until(id, 0, finished).await;
    let printed = outputs(&events);
    let placeholder = printed[0].lines().find(|line| line.starts_with("hangar_placeholder_"));
    let placeholder = placeholder.unwrap_or_else(|| panic!("{printed:?}")).to_owned();
    assert!(!printed[0].contains("BUILD"), "builds' secrets stay in builds: {printed:?}");
    assert_eq!(printed[1].matches("[secret SIGNING_KEY]").count(), 2, "{printed:?}");
    let description = events.iter().find_map(|one| match &one.event {
        Event::SandboxStarted { description, .. } => Some(description.clone()),
        _ => None,
    });
    let plain_ones = description.expect("a sandbox").plain_secrets;
    assert!(plain_ones.iter().map(protocol::secret::SecretName::as_str).eq(["SIGNING_KEY"]));
    for pid in server.first_processes() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small"));
        rustix::process::kill_process(pid.expect("a number"), rustix::process::Signal::KILL)
            .expect("killed");
    }
    let last = events.last().expect("some").sequence;
    server.until(id, last, |event| matches!(event, Event::SandboxLost { .. })).await;
    let masked: Vec<String> = secrets
        .iter()
        .map(|(_, value)| value.as_slice())
        .chain([control.as_bytes()])
        .map(|value| known::hex(&value.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>()))
        .collect();
    let second = [
        "printenv REGISTRY_TOKEN".to_owned(),
        plant(&control),
        format!("perl scan.pl {since} {}", masked.join(" ")),
    ];
    server.send(id, &script(&second)).await;
    let told = server.until(id, last, finished).await;
    let printed = outputs(&told);
    assert!(printed[0].contains("hangar_placeholder_"), "{printed:?}");
    assert!(!printed[0].contains(&placeholder), "each sandbox has its own: {printed:?}");

    // From inside: the control, and nothing else.
    let control_number = secrets.len();
    let found: Vec<&str> = printed[2].lines().filter(|line| line.starts_with("FOUND")).collect();
    let planted = |place: &str| {
        found.iter().any(|line| line.starts_with(&format!("FOUND {control_number} in {place}")))
    };
    assert!(planted("/home/agent/planted") && planted("/proc/"), "{printed:?}");
    let others: Vec<_> = found
        .iter()
        .filter(|line| !line.starts_with(&format!("FOUND {control_number} ")))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(printed[2].contains("scanned "), "{printed:?}");

    // From outside: every process of the sandbox, and every file of the server.
    let mut known = Known::default();
    for (name, value) in &secrets {
        known.add(name, value);
    }
    known.add("control", control.as_bytes());
    known.add("plain", plain.as_bytes());
    let known = known.finish();
    let mut hits = Vec::new();
    let processes = processes_in_sandboxes(&server.data());
    assert!(processes.len() >= 3, "agentd, the agent and the planted one: {processes:?}");
    let mut bytes = 0;
    for (pid, command) in &processes {
        bytes += places::process(*pid, command, &known, &mut hits);
    }
    assert!(bytes > 1 << 20, "only {bytes} bytes of memory were read");
    places::files(&server.data(), &known, &mut hits);
    let of = |name: &str, process: bool| {
        let fits = |hit: &&Place| hit.secret == name && hit.in_process == process;
        hits.iter().filter(fits).count()
    };
    assert!(of("control", true) > 0 && of("control", false) > 0, "{hits:#?}");
    assert!(of("plain", true) > 0, "a plain secret is where it is allowed: {hits:#?}");
    // Each of the server's own files proves that the scan finds what is in it.
    for (name, file) in [
        ("token", "token"),
        ("encryption key", "secret-keys"),
        ("authority's key", "authority.json"),
    ] {
        let there = hits.iter().any(|hit| hit.secret == name && hit.found_at.ends_with(file));
        assert!(there, "{name} is not found in {file}: {hits:#?}");
    }
    let own = ["token", "secret-keys", "authority.json"];
    let wrong: Vec<&Place> = hits
        .iter()
        .filter(|hit| match hit.secret.as_str() {
            "control" => false,
            // What the agent itself was given it may keep, in this sandbox.
            "plain" => !hit.in_process && !hit.found_at.contains("/sandboxes/"),
            _ => !own.iter().any(|file| hit.found_at == server.data().join(file).to_string_lossy()),
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let told = serde_json::to_string(&(&events, &told)).expect("JSON") + &server.said();
    let said: Vec<&str> = known.find(told.as_bytes()).filter(|name| *name != "control").collect();
    assert!(said.is_empty(), "events or log: {said:?}");

    // What holds a value is neither committed for the agent nor pushed by it.
    let last = server.client().session(id).await.expect("there").summary.last_sequence;
    let third = [
        "printenv SIGNING_KEY > leaked.txt".to_owned(),
        "git add leaked.txt && git commit -qm leak && git push origin HEAD 2>&1".to_owned(),
    ];
    server.send(id, &script(&third)).await;
    let told = server.until(id, last, finished).await;
    let printed = outputs(&told);
    let said = "the file leaked.txt contains the secret SIGNING_KEY";
    assert!(printed[1].replace("\nremote: ", "").contains(said), "{printed:?}");
    let refused = |event: &Event| {
        matches!(event, Event::PublishFailed { reason, .. }
            if reason.contains("leaked.txt contains the secret SIGNING_KEY"))
    };
    assert!(told.iter().any(|one| refused(&one.event)), "{told:#?}");
    server.end();
    real_part::worked("sandbox", "namespaces");
}
