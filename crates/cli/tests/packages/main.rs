//! Package managers in a real sandbox, through the gateway: from public registries by an allow list,
//! and from a company's own with a credential that the sandbox never holds.
//!
//! No registry is named here: hosts are read from the configuration of the machine that runs this.

#![expect(clippy::print_stderr, reason = "what a machine does not let a test do is said aloud")]

mod company;
mod machine;
#[path = "../../../../tests/real_part.rs"]
mod real_part;
mod world;

use gateway::{Credential, Egress};
use protocol::network::{HostRule, NetworkPolicy};

use company::Company;
use world::World;

const PLACEHOLDER: &str = "hangar_placeholder_npm_token_00112233445566778899aabbccddeeff";

fn egress(hosts: Vec<HostRule>) -> Egress {
    Egress { policy: NetworkPolicy { hosts, ..NetworkPolicy::default() }, ..Egress::default() }
}

/// Installs with a script inside; first without an allow list, then with it.
async fn installs(name: &str, hosts: Vec<HostRule>, files: &[(String, String)], script: &str) {
    assert!(!hosts.is_empty(), "the machine names no registry for {name}");
    let named: Vec<_> = hosts.iter().map(|rule| rule.host.to_string()).collect();
    let world = World::start(egress(Vec::new())).await;
    for (path, text) in files {
        world.write(path, text).await;
    }
    let denied = world.shell(script, &[]).await;
    assert!(!denied.succeeded, "{name} without an allow list: {}", denied.text);
    let reason = "it is not among the hosts that this repository's sandboxes may reach";
    let told = world.denials();
    assert!(
        told.iter().any(|told| told.contains(reason) && named.iter().any(|it| told.contains(it))),
        "{told:?}"
    );
    // cargo and git show no more of a refused CONNECT than its number.
    let said = if name == "cargo" { "response 403" } else { reason };
    assert!(denied.text.contains(said), "{name} does not say why: {}", denied.text);
    world.allow(egress(hosts));
    let done = world.shell(script, &[]).await;
    assert!(done.succeeded, "{name}: {}\nthe gateway: {:#?}", done.text, world.denials());
    real_part::worked("package managers", name);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_the_registry_it_is_allowed() {
    let registry = machine::npm_registry();
    let hosts = machine::rules(&[registry.clone(), machine::npm_tarball(&registry)]);
    let script = format!(
        "mkdir -p n && cd n && npm install --registry {registry} --no-audit --no-fund \
         --fetch-retries 0 is-number@7.0.0 2>&1 && test -s node_modules/is-number/package.json"
    );
    installs("npm", hosts, &[], &script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_the_index_it_is_allowed() {
    let index = machine::pip_index();
    let hosts = machine::rules(&machine::pip_places(&index, "six"));
    let script = format!(
        "python3 -m pip install --no-deps --retries 1 --disable-pip-version-check --target p \
         --index-url {index} six==1.16.0 2>&1 && test -s p/six.py"
    );
    installs("pip", hosts, &[], &script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cargo_fetches_from_the_index_it_is_allowed() {
    let hosts = machine::rules(&machine::cargo_places());
    let files = [
        (
            "c/Cargo.toml".to_owned(),
            "[package]\nname = \"c\"\nedition = \"2021\"\n[dependencies]\ncfg-if = \"1\"\n"
                .to_owned(),
        ),
        ("c/src/lib.rs".to_owned(), String::new()),
    ];
    let script = "cd c && cargo fetch 2>&1 && ls ~/.cargo/registry/src/*/cfg-if-*/Cargo.toml";
    installs("cargo", hosts, &files, script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apt_downloads_from_the_sources_it_is_allowed() {
    let sources = machine::apt_sources();
    if sources.is_empty() {
        eprintln!("NOT RUN: this machine has no sources of packages for apt");
        return;
    }
    let mut hosts = machine::rules(&machine::apt_places(&sources));
    for rule in &mut hosts {
        // Its packages are signed, and its sources are often unencrypted.
        rule.plain = true;
    }
    let files: Vec<_> = sources
        .into_iter()
        .map(|(name, text)| (format!("apt/sources/{name}"), text))
        .chain([
            ("apt/lists/partial/.keep".to_owned(), String::new()),
            ("apt/cache/archives/partial/.keep".to_owned(), String::new()),
            ("apt/status".to_owned(), String::new()),
        ])
        .collect();
    // The state of a user's own, because the sandbox's /etc and /var are not an installed system's.
    let script = "cd apt && o=\"-o Acquire::Retries=0 -o APT::Sandbox::User= \
         -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$PWD/sources \
         -o Dir::State=$PWD -o Dir::State::lists=$PWD/lists -o Dir::State::status=$PWD/status \
         -o Dir::Cache=$PWD/cache -o APT::Update::Error-Mode=any\" \
         && apt-get $o update 2>&1 && apt-get $o download hello 2>&1 \
         && dpkg-deb --extract hello_*.deb out && out/usr/bin/hello";
    installs("apt", hosts, &files, script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_a_private_registry_with_a_token_it_never_sees() {
    let company = Company::start().await;
    let mut rule = HostRule::new(company::HOST.parse().expect("a host"));
    rule.methods = vec!["GET".to_owned(), "HEAD".to_owned()];
    let credential = Credential {
        name: "NPM_TOKEN".parse().expect("a name"),
        placeholder: PLACEHOLDER.to_owned(),
        value: company::TOKEN.to_owned().into(),
        hosts: vec![company::HOST.parse().expect("a host")],
    };
    let egress = Egress { credentials: vec![credential], ..egress(vec![rule]) };
    let world = World::start_in(egress, Some(&company)).await;
    let host = company::HOST;
    world
        .write(
            "n/.npmrc",
            &format!("registry=https://{host}/\n//{host}/:_authToken=${{NPM_TOKEN}}\n"),
        )
        .await;
    let script = "cd n && npm install --no-audit --no-fund --fetch-retries 0 company-thing 2>&1 \
                  && node -p \"require('company-thing')\"";
    let foreign = world.shell(script, &[("NPM_TOKEN", "foreign-token")]).await;
    assert!(!foreign.succeeded, "somebody else's token went through: {}", foreign.text);
    assert!(company.tokens().iter().all(Option::is_none), "{:?}", company.tokens());
    let done = world.shell(script, &[("NPM_TOKEN", PLACEHOLDER)]).await;
    assert!(done.succeeded && done.text.contains("installed privately"), "{}", done.text);
    let tokens = company.tokens();
    let bearer = format!("Bearer {}", company::TOKEN);
    assert!(tokens.contains(&Some(bearer)), "{tokens:?}");
    let audit = world.audit();
    assert!(audit.contains("\"credential\":\"NPM_TOKEN\""), "{audit}");
    assert!(audit.contains("\"stripped\":[\"authorization\"]"), "{audit}");
    assert!(!audit.contains(company::TOKEN), "{audit}");
    let found = world.shell("env; cat n/.npmrc /run/hangar/trust.pem", &[]).await;
    assert!(!found.text.contains(company::TOKEN) && !found.text.contains("PRIVATE KEY"));
    // pip and curl trust the same bundle, by variables of their own.
    for program in [
        "curl -fsS",
        "python3 -c 'import urllib.request as u, sys; print(u.urlopen(sys.argv[1]).read())'",
    ] {
        let said = world.shell(&format!("{program} https://{host}/open"), &[]).await;
        assert!(said.succeeded && said.text.contains("open to all"), "{program}: {}", said.text);
    }
    real_part::worked("package managers", "npm from a private registry");
}
