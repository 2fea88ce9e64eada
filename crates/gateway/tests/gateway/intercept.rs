//! Hosts whose TLS ends in the gateway: what reaches them, and what does not.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::{Body, Credential, Egress, full_body};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use protocol::network::{HostRule, Injection, NetworkPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::company::{Everywhere, Host, PrivateAuthority, Steered, client, connect, try_connect};
use crate::support::{NoForge, World, soon, text};

const HOST: &str = "registry.example";
const STAND_IN: &str = "hangar_placeholder_token_00112233445566778899aabbccddeeff";
const VALUE: &str = "real-value-5ec2e7";

fn rule(change: impl FnOnce(&mut HostRule)) -> HostRule {
    let mut rule = HostRule::new(HOST.parse().expect("a host"));
    change(&mut rule);
    rule
}

fn injected(rule: &mut HostRule) {
    rule.credential = Some(Injection {
        secret: "TOKEN".parse().expect("a name"),
        header: "authorization".to_owned(),
        format: "Bearer {}".to_owned(),
    });
}

fn egress(rule: HostRule, hosts: &[&str]) -> Egress {
    let credential = Credential {
        name: "TOKEN".parse().expect("a name"),
        placeholder: STAND_IN.to_owned(),
        value: VALUE.to_owned().into(),
        hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
    };
    let policy = NetworkPolicy { hosts: vec![rule], ..NetworkPolicy::default() };
    Egress { policy, credentials: vec![credential], ..Egress::default() }
}

async fn plainly(_: Request<Incoming>) -> Response<Body> {
    Response::builder()
        .header("set-cookie", "session=real")
        .body(full_body("hello from outside"))
        .expect("an answer")
}

/// A bound sandbox whose only host is this one, under the authority of a company.
async fn world<F, A>(egress: Egress, answer: F) -> (World, Host)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    let authority = PrivateAuthority::new();
    let host = Host::start(&authority, HOST, answer).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("company.pem");
    std::fs::write(&file, &authority.pem).expect("written");
    let world = World::start(
        |config| {
            config.trust = Some(file.clone());
            config.names = Arc::new(Everywhere(true));
            config.connector = Arc::new(Steered(host.address));
        },
        Arc::new(NoForge),
    );
    let binding = gateway::Binding { egress, ..world.binding() };
    world.gateway.bind(world.sandbox, binding).expect("binds");
    (world, host)
}

fn get(target: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().uri(target).header("host", HOST);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).expect("a request")
}

async fn ask(world: &World, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let mut client = client(&world.socket(), HOST).await;
    let answer = soon(client.send_request(request)).await.expect("is answered");
    (answer.status(), text(answer).await)
}

#[tokio::test]
async fn a_credential_is_added_outside_and_seen_nowhere_else() {
    let (world, host) = world(egress(rule(injected), &[]), plainly).await;
    let mut client = client(&world.socket(), HOST).await;
    let request = get(
        "/package?version=1",
        &[
            ("authorization", "Bearer foreign-5ec2e7"),
            ("cookie", "session=foreign-5ec2e7"),
            ("x-api-key", "foreign-5ec2e7"),
            ("accept", "application/json"),
        ],
    );
    let answer = soon(client.send_request(request)).await.expect("is answered");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("set-cookie"), "a session of the real account");
    assert_eq!(text(answer).await, "hello from outside");
    let seen = host.last();
    assert_eq!(seen.header("authorization"), Some("Bearer real-value-5ec2e7"));
    assert_eq!((seen.header("cookie"), seen.header("x-api-key")), (None, None));
    assert_eq!(
        (seen.header("accept"), seen.header("host")),
        (Some("application/json"), Some(HOST))
    );
    assert_eq!(seen.target, "/package?version=1");
    drop(client);
    let lines = world.audited(2).await;
    let line = lines.iter().find(|line| line["method"] == "GET").expect("a line");
    assert_eq!(
        (line["credential"].as_str(), line["path"].as_str()),
        (Some("TOKEN"), Some("/package"))
    );
    assert_eq!(line["stripped"], serde_json::json!(["authorization", "cookie", "x-api-key"]));
    let connection = lines.iter().find(|line| line["method"] == "CONNECT").expect("a line");
    assert_eq!(connection["outcome"], "completed", "{connection}");
    assert!(!world.audit().contains("5ec2e7"), "{}", world.audit());
}

#[tokio::test]
async fn a_stand_in_becomes_the_secret_at_its_hosts_only() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let (world, host) = world(egress(rule(|_| {}), &[HOST]), plainly).await;
    let basic = |secret: &str| format!("Basic {}", base64.encode(format!("ada:{secret}")));
    for (sent, arrived) in
        [(format!("Bearer {STAND_IN}"), format!("Bearer {VALUE}")), (basic(STAND_IN), basic(VALUE))]
    {
        let (status, _) = ask(&world, get("/", &[("authorization", &sent)])).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(host.last().header("authorization"), Some(arrived.as_str()));
    }
    // In the address it is worth nothing, and goes as it is.
    let (status, _) = ask(&world, get(&format!("/{STAND_IN}?a={STAND_IN}"), &[])).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!host.last().target.contains(VALUE));
    let count = host.seen().len();
    // The same host, but the secret is for another one.
    let elsewhere = egress(rule(|rule| rule.methods = vec!["GET".to_owned()]), &["other.example"]);
    world.gateway.set_egress(world.sandbox, elsewhere).expect("set");
    let (status, said) =
        ask(&world, get("/", &[("x-anything", &format!("Bearer {STAND_IN}"))])).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(said.contains("TOKEN") && said.contains(HOST), "{said}");
    assert_eq!(host.seen().len(), count, "nothing went out");
    assert!(!world.audit().contains(VALUE));
}

#[tokio::test]
async fn every_request_inside_is_judged() {
    let only = rule(|rule| {
        injected(rule);
        rule.methods = vec!["GET".to_owned()];
        rule.paths = vec!["/simple".to_owned()];
    });
    let (world, host) = world(egress(only, &[]), plainly).await;
    let mut client = client(&world.socket(), HOST).await;
    let refused: &[(Request<Full<Bytes>>, &str)] = &[
        (get("/other", &[]), "host_path"),
        (get("/simple/../other", &[]), "host_path"),
        (get("/simple/%2e%2e/other", &[]), "host_path"),
        (get("https://other.example/simple", &[]), "host_header"),
        (get("http://registry.example/simple", &[]), "host_header"),
        (get("https://ada:key@registry.example/simple", &[]), "host_userinfo"),
        (get("/simple", &[("host", "other.example")]), "host_header"),
        (get("/simple", &[("upgrade", "websocket"), ("connection", "upgrade")]), "host_upgrade"),
        (get("/simple?access_token=foreign", &[]), "query_credential"),
        (
            Request::post("/simple").header("host", HOST).body(Full::from("x")).expect("a request"),
            "host_method",
        ),
    ];
    for (request, code) in refused {
        soon(client.ready()).await.expect("the connection stays");
        let answer = soon(client.send_request(request.clone())).await.expect("is answered");
        let status = answer.status();
        let said = text(answer).await;
        assert!(status.is_client_error() && said.contains(code), "{request:?}: {status} {said}");
    }
    assert_eq!(host.seen().len(), 0, "nothing went out");
    let wrong = try_connect(&world.socket(), HOST, "other.example").await;
    wrong.expect_err("another name in the greeting");
    let lines = world.audited(refused.len() + 1).await;
    let found = |code: &str| lines.iter().any(|line| line["verdict"] == code);
    assert!(found("host_server_name") && found("host_method"), "{lines:#?}");
}

#[tokio::test]
async fn bodies_of_every_kind_pass_and_the_connection_is_kept() {
    let (world, host) = world(egress(rule(injected), &[]), |request: Request<Incoming>| async {
        let size = request.headers().get("content-length").cloned();
        let head = request.method() == "HEAD";
        let body = request.into_body().collect().await.expect("arrives").to_bytes();
        let mut answer = Response::builder().header("x-size", body.len());
        if let Some(size) = size {
            answer = answer.header("x-announced", size);
        }
        if head {
            answer = answer.header("content-length", "1234");
            return answer.body(full_body("")).expect("an answer");
        }
        answer
            .status(302)
            .header("location", "https://other.example/")
            .body(full_body(body))
            .expect("an answer")
    })
    .await;
    let mut client = client(&world.socket(), HOST).await;
    let big = Bytes::from(vec![b'x'; 8 << 20]);
    let request = Request::post("/").header("host", HOST).body(Full::from(big.clone()));
    let answer = soon(client.send_request(request.expect("a request"))).await.expect("is answered");
    // A redirect is the program's to follow, and judged when it does.
    assert_eq!(
        (answer.status(), &answer.headers()["x-size"]),
        (StatusCode::FOUND, &"8388608".parse().expect("a value"))
    );
    assert_eq!(answer.headers()["location"], "https://other.example/");
    assert_eq!(answer.into_body().collect().await.expect("arrives").to_bytes(), big);
    soon(client.ready()).await.expect("is kept");
    let head = Request::head("/").header("host", HOST).body(Full::default()).expect("a request");
    let answer = soon(client.send_request(head)).await.expect("is answered");
    assert_eq!(answer.headers()["content-length"], "1234");
    assert_eq!(text(answer).await, "");
    assert_eq!(host.connections(), 1);
    // Chunked, and asked for before it is sent.
    let mut raw = connect(&world.socket(), HOST).await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    raw.write_all(head.as_bytes()).await.expect("is taken");
    let mut go = [0; 25];
    soon(raw.read_exact(&mut go)).await.expect("is asked for");
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    raw.write_all(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await.expect("is taken");
    let mut answer = String::new();
    soon(raw.read_to_string(&mut answer)).await.expect("ends");
    assert!(answer.contains("x-size: 7") && answer.ends_with("abcdefg"), "{answer}");
    assert_eq!(host.last().header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let (sender, pieces) = mpsc::unbounded_channel::<Bytes>();
    let pieces = Arc::new(tokio::sync::Mutex::new(Some(pieces)));
    let (world, _host) = world(egress(rule(injected), &[]), move |_| {
        let pieces = Arc::clone(&pieces);
        async move {
            let mut pieces = pieces.lock().await.take().expect("one request");
            let stream = futures_util::stream::poll_fn(move |context| {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            });
            Response::new(StreamBody::new(stream).boxed_unsync())
        }
    })
    .await;
    let mut client = client(&world.socket(), HOST).await;
    let answer = soon(client.send_request(get("/events", &[]))).await.expect("is answered");
    let mut body = answer.into_body();
    for piece in ["data: one\n\n", "data: two\n\n"] {
        sender.send(Bytes::from(piece)).expect("is listened to");
        let frame = soon(body.frame()).await.expect("a piece").expect("whole");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(sender);
    assert!(soon(body.frame()).await.is_none());
}

#[tokio::test]
async fn a_host_that_cannot_be_believed_gets_nothing() {
    let (company, stranger) = (PrivateAuthority::new(), PrivateAuthority::new());
    for (authority, name) in [(&stranger, HOST), (&company, "other.example")] {
        let host = Host::start(authority, name, plainly).await;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("company.pem");
        std::fs::write(&file, &company.pem).expect("written");
        let world = World::start(
            |config| {
                config.trust = Some(file.clone());
                config.names = Arc::new(Everywhere(true));
                config.connector = Arc::new(Steered(host.address));
            },
            Arc::new(NoForge),
        );
        let binding = gateway::Binding { egress: egress(rule(injected), &[]), ..world.binding() };
        world.gateway.bind(world.sandbox, binding).expect("binds");
        let (status, said) = ask(&world, get("/", &[])).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert!(said.contains("not trusted") && said.contains("--trust"), "{said}");
        assert_eq!(host.seen().len(), 0);
    }
}

#[tokio::test]
async fn a_host_that_is_taken_away_ends_the_connection() {
    let (world, host) = world(egress(rule(injected), &[]), plainly).await;
    let mut client = client(&world.socket(), HOST).await;
    let answer = soon(client.send_request(get("/", &[]))).await.expect("is answered");
    assert_eq!(answer.status(), StatusCode::OK);
    text(answer).await;
    world.gateway.set_egress(world.sandbox, Egress::default()).expect("set");
    let closed = async {
        while client.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(closed).await;
    assert_eq!(host.seen().len(), 1);
    let lines = world.audited(2).await;
    assert!(lines.iter().any(|line| line["verdict"] == "host_withdrawn"), "{lines:#?}");
    try_connect(&world.socket(), HOST, HOST).await.expect_err("not on the list");
}

#[tokio::test]
async fn the_bundle_is_for_everybody_and_the_key_for_nobody() {
    let (world, _host) = world(egress(rule(injected), &[]), plainly).await;
    let bundle = world.socket().with_file_name("trust.pem");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&bundle), 0o644);
    let text = std::fs::read_to_string(&bundle).expect("readable");
    assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE"));
    assert_eq!(mode(&world.directory.path().join("authority.json")), 0o600);
    // Nothing of the authority's is left when the sandbox is gone.
    world.gateway.close(world.sandbox);
    assert!(!bundle.exists());
}
