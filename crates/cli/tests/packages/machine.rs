//! What this machine's own configuration says about registries, and where they are.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::process::Command;

use protocol::network::HostRule;

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} has to be installed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// One rule per host of these addresses; networks are those the names lead to here, because a
/// company's mirror lies in none of the public internet.
pub(crate) fn rules(places: &[String]) -> Vec<HostRule> {
    let hosts: BTreeSet<&str> = places.iter().filter_map(|place| host(place)).collect();
    let rule = |host: &str| {
        let mut rule = HostRule::new(host.parse().expect("a host"));
        let found = (host, 443).to_socket_addrs().expect("the machine resolves it");
        rule.networks = found.map(|address| address.ip().into()).collect();
        rule
    };
    hosts.into_iter().map(rule).collect()
}

fn host(place: &str) -> Option<&str> {
    let rest = place.split_once("://")?.1;
    rest.split(['/', ':']).next().filter(|host| !host.is_empty())
}

pub(crate) fn npm_registry() -> String {
    output("npm", &["config", "get", "registry"])
}

/// Where the registry keeps what it names.
pub(crate) fn npm_tarball(registry: &str) -> String {
    output("npm", &["view", "--registry", registry, "is-number@7.0.0", "dist.tarball"])
}

pub(crate) fn pip_index() -> String {
    let program = "import pip._internal.models.index as m, subprocess, sys
c = subprocess.run([sys.executable, '-m', 'pip', 'config', 'get', 'global.index-url'],
    capture_output=True, text=True).stdout.strip()
print(c or m.PyPI.simple_url)";
    output("python3", &["-c", program])
}

/// The index, and where it says that a package's files are.
pub(crate) fn pip_places(index: &str, package: &str) -> Vec<String> {
    let index = index.trim_end_matches('/');
    let page = output("curl", &["-fsSL", &format!("{index}/{package}/")]);
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    std::iter::once(index.to_owned()).chain(links.map(str::to_owned)).collect()
}

/// The index that cargo used on this machine last, and where it says that crates are.
pub(crate) fn cargo_places() -> Vec<String> {
    let home = std::env::var("CARGO_HOME").ok().filter(|home| !home.is_empty());
    let home = home.unwrap_or_else(|| format!("{}/.cargo", std::env::var("HOME").expect("a home")));
    let entries = std::fs::read_dir(Path::new(&home).join("registry/index"));
    let entries = entries.expect("cargo has used an index here").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.rsplit_once('-').map(|(host, _)| host.to_owned()))
        .filter(|host| host.contains('.'))
        .flat_map(|host| {
            let index = format!("https://{host}/");
            let config = output("curl", &["-fsSL", &format!("{index}config.json")]);
            let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
            [index, config["dl"].as_str().expect("a place").to_owned()]
        })
        .collect()
}

/// Names and contents of the files that tell apt where packages are.
pub(crate) fn apt_sources() -> Vec<(String, String)> {
    let places = [Path::new("/etc/apt/sources.list").to_owned()];
    let more = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let paths = places.into_iter().chain(more.map(|entry| entry.path()));
    let fits = |path: &Path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("list" | "sources"))
    };
    paths
        .filter(|path| fits(path))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, std::fs::read_to_string(&path).ok()?))
        })
        .collect()
}

pub(crate) fn apt_places(sources: &[(String, String)]) -> Vec<String> {
    let lines = sources.iter().flat_map(|(_, text)| text.lines());
    let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .map(str::to_owned)
        .collect()
}
