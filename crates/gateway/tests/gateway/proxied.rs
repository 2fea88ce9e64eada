//! Behind a company's proxy: everything that leaves goes through it, with its password.

use std::sync::Arc;

use bytes::Bytes;
use gateway::{Body, Egress, Provider, Proxy, full_body};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use protocol::network::{HostRule, NetworkPolicy};
use secrecy::SecretString;

use crate::company::{
    CompanyProxy, Everywhere, Host, PrivateAuthority, Steered, client, try_connect,
};
use crate::support::{KEY, NoForge, World, request, soon, text};

const HOST: &str = "registry.example";
/// `ada:p@ss`, encoded.
const PASSWORD: &str = "Basic YWRhOnBAc3M=";

async fn plainly(_: Request<Incoming>) -> Response<Body> {
    Response::new(full_body("hello from outside"))
}

struct Company {
    world: World,
    host: Host,
    proxy: CompanyProxy,
}

/// A sandbox behind a proxy, with one host of each kind; `direct` is what `NO_PROXY` says.
async fn company(direct: &str, resolves: bool, refuse: bool) -> Company {
    let authority = PrivateAuthority::new();
    let host = Host::start(&authority, HOST, plainly).await;
    let proxy = CompanyProxy::start(host.address, refuse).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("company.pem");
    std::fs::write(&file, &authority.pem).expect("written");
    let address = SecretString::from(format!("http://ada:p%40ss@{}", proxy.address));
    let world = World::start(
        |config| {
            config.trust = Some(file.clone());
            config.names = Arc::new(Everywhere(resolves));
            config.connector = Arc::new(Steered(host.address));
            config.proxy = Proxy::new(Some(&address), Some(&address), direct).expect("a proxy");
            let key = KEY.to_owned().into();
            let base = format!("https://{HOST}");
            config.providers.anthropic = Some(Provider::anthropic(key, Some(base)));
        },
        Arc::new(NoForge),
    );
    let rule = |name: &str, change: fn(&mut HostRule)| {
        let mut rule = HostRule::new(name.parse().expect("a host"));
        change(&mut rule);
        rule
    };
    let hosts = vec![
        rule(HOST, |rule| rule.methods = vec!["GET".to_owned()]),
        rule("plain.example", |rule| rule.plain = true),
        rule("tunnel.example", |_| {}),
    ];
    let policy = NetworkPolicy { hosts, ..NetworkPolicy::default() };
    let egress = Egress { policy, ..Egress::default() };
    let binding = gateway::Binding { egress, ..world.binding() };
    world.gateway.bind(world.sandbox, binding).expect("binds");
    Company { world, host, proxy }
}

fn get() -> Request<Full<Bytes>> {
    Request::get("/").header("host", HOST).body(Full::default()).expect("a request")
}

#[tokio::test]
async fn every_way_out_leads_through_the_proxy() {
    // Also without a name server of its own: the proxy knows the names.
    for resolves in [true, false] {
        let Company { world, host, proxy } = company("", resolves, false).await;
        let mut client = client(&world.socket(), HOST).await;
        let answer = soon(client.send_request(get())).await.expect("is answered");
        assert_eq!(text(answer).await, "hello from outside");
        let plain = Request::get("http://plain.example/a?b").header("host", "plain.example");
        let answer = world.send(plain.body(Full::default()).expect("a request")).await;
        assert_eq!(text(answer).await, "plain");
        // The host inside is not `tunnel.example`, and only the program can find that out.
        let tunnelled = try_connect(&world.socket(), "tunnel.example", "tunnel.example").await;
        assert!(tunnelled.expect_err("another name").to_string().contains("certificate"));
        let answer = world.send(request("POST", "/model/anthropic/v1/messages", "{}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", text(answer).await);
        let heads = proxy.heads();
        for (head, line) in heads.iter().zip([
            "CONNECT registry.example:443 HTTP/1.1",
            "GET http://plain.example/a?b HTTP/1.1",
            "CONNECT tunnel.example:443 HTTP/1.1",
            "CONNECT registry.example:443 HTTP/1.1",
        ]) {
            assert_eq!(head.lines().next(), Some(line));
            let lower = head.to_ascii_lowercase();
            let expected = format!("proxy-authorization: {PASSWORD}").to_ascii_lowercase();
            assert!(lower.contains(&expected), "{head}");
        }
        assert_eq!(heads.len(), 4);
        // The password and the provider's key stay on their side.
        let seen = host.seen();
        assert!(seen.iter().all(|seen| seen.header("proxy-authorization").is_none()));
        assert_eq!(seen.last().expect("the model's").header("x-api-key"), Some(KEY));
        assert!(!heads.concat().contains(KEY));
        assert!(!world.audit().contains("YWRhOnBAc3M"));
    }
}

#[tokio::test]
async fn exceptions_are_reached_directly() {
    let Company { world, host, proxy } = company("example", true, false).await;
    let mut client = client(&world.socket(), HOST).await;
    let answer = soon(client.send_request(get())).await.expect("is answered");
    assert_eq!(text(answer).await, "hello from outside");
    assert_eq!((proxy.heads().len(), host.seen().len()), (0, 1));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let Company { world, proxy, .. } = company("", true, true).await;
    let mut client = client(&world.socket(), HOST).await;
    let answer = soon(client.send_request(get())).await.expect("is answered");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let said = text(answer).await;
    assert!(said.contains("407") && said.contains(&proxy.address.to_string()), "{said}");
    assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
}
