//! Through the gateway to hosts it does not allow, by every spelling and every kind of answer.

use protocol::network::HostRule;

use super::{all_refused, allow, allow_rules, attempt, head, rule, speak};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::outside::PUBLIC;
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "unlisted-host",
            "asks for hosts that no rule names, among them those that look like listed ones",
            "403, and nobody is connected to",
            unlisted,
        ),
        attempt(
            "dns-over-https",
            "asks for name servers that speak HTTPS",
            "403, and nobody is connected to",
            dns_over_https,
        ),
        attempt(
            "connect-to-address",
            "asks for addresses in dotted, short, octal, hexadecimal, decimal and IPv6 notation",
            "403, and nobody is connected to",
            to_addresses,
        ),
        attempt(
            "connect-to-port",
            "asks for the ports of SSH, mail, HTTP and others of a listed host",
            "403, and nobody is connected to",
            to_ports,
        ),
        attempt(
            "odd-host-names",
            "writes a listed host with a NUL, Unicode, percent signs, a user, two dots …",
            "400 or 403, and nobody is connected to",
            odd_names,
        ),
        attempt(
            "name-to-inside",
            "asks for listed names whose addresses are private, loopback, carrier's or mapped",
            "403 for each, and nobody is connected to",
            names_to_inside,
        ),
        attempt(
            "name-to-metadata",
            "asks for a listed name that resolves to the metadata service",
            "403, even if the rule exempts that network",
            name_to_metadata,
        ),
        attempt(
            "mixed-answers",
            "asks for a listed name that resolves to a public and a private address",
            "403: nothing is picked out of such an answer",
            mixed,
        ),
        attempt(
            "rebinding",
            "asks twice for a listed name that then resolves to loopback",
            "the second is refused, and the first stays with its address",
            rebinding,
        ),
        attempt(
            "redirect-to-inside",
            "follows a listed host's redirect to a private one",
            "the redirect is judged as any request: 403",
            redirect,
        ),
        attempt(
            "host-header",
            "names an allowed target and another `Host`",
            "400, and nobody is connected to",
            host_header,
        ),
        attempt(
            "websocket-upgrade",
            "upgrades a plain connection to a WebSocket",
            "400, and nobody is connected to",
            |world| {
                allow(world, &["plain.example"]);
                let upgrade = head(&[
                    "GET http://plain.example/ HTTP/1.1",
                    "host: plain.example",
                    "connection: upgrade, close",
                    "upgrade: websocket",
                ]);
                all_refused(world, &[("websocket", upgrade)])
            },
        ),
        attempt(
            "trace-method",
            "sends TRACE to learn what the gateway adds",
            "403, and nobody is connected to",
            |world| {
                allow(world, &["plain.example"]);
                let trace = head(&[
                    "TRACE http://plain.example/ HTTP/1.1",
                    "host: plain.example",
                    "connection: close",
                ]);
                all_refused(world, &[("TRACE", trace)])
            },
        ),
        attempt(
            "request-smuggling",
            "hides a second request in a body with two ends",
            "the host sees one request with one end",
            smuggling,
        ),
        attempt(
            "giant-headers",
            "sends a head of a megabyte",
            "it is refused, and the gateway goes on",
            giant_headers,
        ),
        attempt(
            "own-credentials",
            "sends credentials of its own over plain HTTP and to the proxy",
            "none of them leaves",
            own_credentials,
        ),
        attempt(
            "loop-to-gateway",
            "asks the gateway for itself and for services on the host's loopback",
            "403, and nobody is connected to",
            loops,
        ),
    ]
}

fn connect(target: &str) -> Vec<u8> {
    head(&[&format!("CONNECT {target} HTTP/1.1"), "connection: close"])
}

fn get(host: &str) -> Vec<u8> {
    let target = format!("GET http://{host}/ HTTP/1.1");
    head(&[&target, &format!("host: {host}"), "connection: close"])
}

fn refused_connects(world: &World, targets: &[&str]) -> Outcome {
    let requests: Vec<_> = targets.iter().map(|target| (*target, connect(target))).collect();
    all_refused(world, &requests)
}

fn unlisted(world: &World) -> Outcome {
    allow(world, &["listed.example", "*.beneath.example"]);
    refused_connects(
        world,
        &[
            "other.example:443",
            "beneath.example:443",
            "xlisted.example:443",
            "listed.example.evil:443",
            "example:443",
            "localhost:443",
        ],
    )
}

fn dns_over_https(world: &World) -> Outcome {
    allow(world, &["listed.example"]);
    refused_connects(world, &["1.1.1.1:443", "dns.google:443", "cloudflare-dns.com:443"])
}

fn to_addresses(world: &World) -> Outcome {
    allow(world, &["listed.example"]);
    refused_connects(
        world,
        &[
            "1.1.1.1:443",
            "127.0.0.1:443",
            "127.1:443",
            "0177.0.0.1:443",
            "0x7f.0.0.1:443",
            "0x7f000001:443",
            "2130706433:443",
            "169.254.169.254:443",
            "[::1]:443",
            "[::ffff:169.254.169.254]:443",
            "[fd00:ec2::254]:443",
        ],
    )
}

fn to_ports(world: &World) -> Outcome {
    allow(world, &["listed.example"]);
    let refused = refused_connects(
        world,
        &[
            "listed.example:22",
            "listed.example:25",
            "listed.example:80",
            "listed.example:8443",
            "listed.example:0",
            "listed.example:",
            "listed.example",
        ],
    );
    let said = speak(world, &connect("listed.example:443"));
    if said.stdout.starts_with("HTTP/1.1 200") {
        refused
    } else {
        Outcome::breach(said.to_string())
    }
}

fn odd_names(world: &World) -> Outcome {
    allow(world, &["listed.example"]);
    let odd: [(&str, &[u8]); 10] = [
        ("NUL", b"listed.example\0.evil.example:443"),
        ("Unicode", "l\u{456}sted.example:443".as_bytes()),
        ("full-width dot", "listed\u{ff0e}example:443".as_bytes()),
        ("percent", b"%6cisted.example:443"),
        ("percent NUL", b"listed.example%00:443"),
        ("user", b"evil.example@listed.example:443"),
        ("user that looks like the host", b"listed.example:443@evil.example:443"),
        ("two dots", b"listed.example..:443"),
        ("space", b"listed.example :443"),
        ("wildcard", b"*.example:443"),
    ];
    let requests: Vec<_> = odd
        .iter()
        .map(|(what, target)| {
            let end = b" HTTP/1.1\r\nconnection: close\r\n\r\n" as &[u8];
            (*what, [b"CONNECT ", *target, end].concat())
        })
        .collect();
    all_refused(world, &requests)
}

fn names_to_inside(world: &World) -> Outcome {
    let addresses = [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "203.0.113.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:a00:1::1",
        "fd12::1",
        "fe80::1",
    ];
    allow(world, &["inside.example"]);
    let requests = [("tunnel", connect("inside.example:443")), ("plain", get("inside.example"))];
    for address in addresses {
        world.outside.name("inside.example", &[&[address]]);
        let outcome = all_refused(world, &requests);
        if !matches!(outcome, Outcome::Held { .. }) {
            return outcome;
        }
    }
    Outcome::held(format!("{} addresses refused, by tunnel and plainly", addresses.len()))
}

fn name_to_metadata(world: &World) -> Outcome {
    let networks = ["169.254.0.0/16", "fd00::/8"].map(|one| one.parse().expect("a network"));
    let exempting = HostRule { networks: networks.to_vec(), ..rule("metadata.example") };
    allow_rules(world, vec![exempting]);
    for address in ["169.254.169.254", "fd00:ec2::254"] {
        world.outside.name("metadata.example", &[&[address]]);
        let outcome = refused_connects(world, &["metadata.example:443"]);
        if !matches!(outcome, Outcome::Held { .. }) {
            return outcome;
        }
    }
    Outcome::held("both addresses refused")
}

fn mixed(world: &World) -> Outcome {
    allow(world, &["mixed.example"]);
    world.outside.name("mixed.example", &[&[PUBLIC, "127.0.0.1"]]);
    refused_connects(world, &["mixed.example:443"])
}

fn rebinding(world: &World) -> Outcome {
    allow(world, &["rebound.example"]);
    world.outside.name("rebound.example", &[&[PUBLIC], &["127.0.0.1"]]);
    let first = speak(world, &connect("rebound.example:443"));
    let seen = world.outside.take();
    let pinned: Vec<_> = seen.connected.iter().map(|one| one.ip().to_string()).collect();
    if !first.stdout.starts_with("HTTP/1.1 200") || pinned != [PUBLIC] {
        return Outcome::breach(format!("{first}, connected to {pinned:?}"));
    }
    refused_connects(world, &["rebound.example:443"])
}

fn redirect(world: &World) -> Outcome {
    allow(world, &["public.example", "inside.example"]);
    world.outside.name("inside.example", &[&["127.0.0.1"]]);
    world.outside.answers(
        "HTTP/1.1 302 Found\r\nlocation: http://inside.example/\r\ncontent-length: 0\r\n\r\n",
    );
    let said = speak(world, &get("public.example"));
    let seen = world.outside.take();
    if !said.stdout.contains("location: http://inside.example/") || seen.connected.len() != 1 {
        return Outcome::breach(format!("{said}, connected to {:?}", seen.connected));
    }
    all_refused(world, &[("the redirect's target", get("inside.example"))])
}

fn host_header(world: &World) -> Outcome {
    allow(world, &["one.example", "two.example"]);
    let request = |target: &str, host: &str| {
        head(&[&format!("{target} HTTP/1.1"), &format!("host: {host}"), "connection: close"])
    };
    all_refused(
        world,
        &[
            ("plain", request("GET http://one.example/", "two.example")),
            ("tunnel", request("CONNECT one.example:443", "two.example:443")),
            ("twice", request("GET http://one.example/", "one.example\r\nhost: two.example")),
        ],
    )
}

fn smuggling(world: &World) -> Outcome {
    allow(world, &["plain.example"]);
    world.outside.answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let second = "GET http://plain.example/smuggled HTTP/1.1\r\nhost: plain.example\r\n\r\n";
    let start = "POST http://plain.example/ HTTP/1.1\r\nhost: plain.example\r\nconnection: close";
    let mut tried = 0;
    for (headers, body) in [
        ("content-length: 4\r\ntransfer-encoding: chunked", format!("0\r\n\r\n{second}")),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity", format!("0\r\n\r\n{second}")),
        ("transfer-encoding: xchunked", format!("0\r\n\r\n{second}")),
        ("content-length: 0\r\ncontent-length: 70", second.to_owned()),
        ("content-length: +0", second.to_owned()),
    ] {
        let said = speak(world, format!("{start}\r\n{headers}\r\n\r\n{body}").as_bytes());
        let seen = String::from_utf8_lossy(&world.outside.take().bytes).into_owned();
        let lower = seen.to_ascii_lowercase();
        let two_ends = lower.contains("content-length") && lower.contains("transfer-encoding");
        if lower.contains("smuggled") || two_ends || !said.stdout.starts_with("HTTP/1.") {
            return Outcome::breach(format!("{headers:?}: the host saw {seen:?}; {said}"));
        }
        tried += 1;
    }
    Outcome::held(format!("{tried} ways refused or given one end"))
}

fn giant_headers(world: &World) -> Outcome {
    allow(world, &["plain.example"]);
    let said = world.sandbox().shell(
        "trap '' PIPE; exec 3<>/dev/tcp/127.0.0.1/7070; { printf 'GET http://plain.example/ HTTP/1.1\\r\\n'; \
         printf 'host: plain.example\\r\\nx-large: '; head -c 1000000 /dev/zero | tr '\\0' a; \
         printf '\\r\\n\\r\\n'; } >&3 2>/dev/null; timeout 8 head -n 1 <&3",
    );
    let seen = world.outside.take();
    let refused = said.stdout.is_empty() || said.stdout.starts_with("HTTP/1.1 4");
    Outcome::check(refused && seen.connected.is_empty(), said.to_string())
}

fn own_credentials(world: &World) -> Outcome {
    allow(world, &["plain.example"]);
    world.outside.answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let request = head(&[
        "GET http://plain.example/ HTTP/1.1",
        "host: plain.example",
        "authorization: Bearer stolen",
        "proxy-authorization: Basic stolen",
        "x-api-key: stolen",
        "cookie: session=stolen",
        "connection: close",
    ]);
    let said = speak(world, &request);
    let seen = String::from_utf8_lossy(&world.outside.take().bytes).into_owned();
    let held = said.stdout.starts_with("HTTP/1.1 200")
        && seen.starts_with("GET / HTTP/1.1")
        && !seen.contains("stolen");
    Outcome::check(held, format!("the host saw: {seen}"))
}

fn loops(world: &World) -> Outcome {
    let server = world.server().address.trim_start_matches("http://").to_owned();
    allow(world, &["me.example"]);
    world.outside.name("me.example", &[&["127.0.0.1"]]);
    all_refused(
        world,
        &[
            ("the gateway itself", connect("127.0.0.1:7070")),
            ("by name", connect("localhost:7070")),
            ("the server's API", get(&server)),
            ("a tunnel to it", connect(&server)),
            ("loopback by a listed name", get("me.example")),
            ("something no route names", get("127.0.0.1:7070")),
        ],
    )
}
