//! What can be written about sandboxes: limits, isolation, and the settings of a repository.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use protocol::amount;
use protocol::network::{HostPattern, HostRule, Injection};
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, LimitName, LimitRequest};

/// What a sandbox may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits of a sandbox")]
pub struct LimitOptions {
    /// Memory, swap included: 512MiB, 2GiB
    #[arg(long, value_name = "SIZE", value_parser = amount::parse_bytes)]
    pub memory: Option<u64>,
    /// Processor time, in cores: 2, 1.5, 500m
    #[arg(long, value_name = "CORES", value_parser = amount::parse_millicores)]
    pub cpus: Option<u32>,
    /// Processes and threads
    #[arg(long, value_name = "COUNT", value_parser = amount::parse_count)]
    pub pids: Option<u32>,
    /// What may be written: 10GiB
    #[arg(long, value_name = "SIZE", value_parser = amount::parse_bytes)]
    pub disk: Option<u64>,
    /// Time from its start to its forced stop: 30min, 4h
    #[arg(long, value_name = "TIME", value_parser = amount::parse_seconds)]
    pub run_time: Option<u64>,
    /// What may leave through the gateway each second: 100Mbit, 1Gbit
    #[arg(long, value_name = "RATE", value_parser = amount::parse_bit_rate)]
    pub egress_rate: Option<u64>,
}

impl LimitOptions {
    /// As the API takes them.
    pub fn request(&self) -> LimitRequest {
        LimitRequest {
            memory_bytes: self.memory,
            cpu_millicores: self.cpus,
            pids: self.pids,
            disk_bytes: self.disk,
            run_seconds: self.run_time,
            egress_bits_per_second: self.egress_rate,
        }
    }
}

/// What a server gives anybody at most.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits of the server")]
pub struct MaximumOptions {
    #[expect(clippy::doc_markdown, reason = "it is shown to people as it stands")]
    /// Raise or lower what anybody may ask for: memory=32GiB, cpu=16, pids=8192, disk=200GiB,
    /// run_time=2d, egress=10Gbit; several with commas
    #[arg(long, env = "HANGAR_MAXIMUM", value_name = "LIMIT=AMOUNT", value_delimiter = ',')]
    pub maximum: Vec<Maximum>,
}

/// The most anybody gets of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maximum {
    /// Of what.
    pub limit: LimitName,
    /// How much, in the limit's unit.
    pub amount: u64,
}

impl FromStr for Maximum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = LimitName::ALL.map(LimitName::as_str).join(", ");
        let (name, amount) = text
            .split_once('=')
            .ok_or_else(|| format!("write a limit and an amount, as in memory=32GiB: {names}"))?;
        let limit = LimitName::ALL.into_iter().find(|limit| limit.as_str() == name);
        let limit = limit.ok_or_else(|| format!("`{name}` is no limit: write one of {names}"))?;
        let amount = limit.parse_amount(amount).map_err(|error| error.to_string())?;
        Ok(Self { limit, amount })
    }
}

/// `hangar repository settings`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hangar repository settings local/site                      show them
  hangar repository settings local/site --memory 8GiB --run-time 2h
  hangar repository settings local/site --isolation gvisor --base registry.example.com/debian:12
  hangar repository settings local/site --allow-build registry.example.com
  hangar repository settings local/site --allow-run api.example.com,method=GET,path=/v1
  hangar repository settings local/site --reset memory --reset run-hosts
  hangar repository settings local/site --json > site.json
  hangar repository settings local/site --file site.json     replace all of them

HOST is a name, or *.NAME for everything beneath it. After it may follow, with commas: plain (also
unencrypted HTTP), method=GET, path=/beneath/this, network=10.0.0.0/8 (addresses outside of the
public internet where it may lie), secret=NAME with header=… and format=… (a credential that the
gateway adds). Sandboxes that start from now on get what is set here.

A blocked command is a hint to the model, and no wall: what a sandbox must not do is for its limits
and for the gateway to prevent.")]
pub struct RepositorySettingsOptions {
    /// Repository, by the name the server knows
    #[arg(value_name = "NAME", value_parser = parse_repository)]
    pub name: RepositoryName,
    /// Replace all settings by those of a file in TOML or JSON; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Leave something to the server again; may be given several times
    #[arg(long, value_name = "SETTING")]
    pub reset: Vec<Setting>,
    /// Isolation of its sandboxes: namespaces, gvisor or microvm
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<Isolation>,
    #[expect(clippy::doc_markdown, reason = "it is shown to people as it stands")]
    /// What its images stand on: host, an image in a registry, oci:/PATH or archive:/PATH
    #[arg(long)]
    pub base: Option<String>,
    /// Team whose secrets it may use
    #[arg(long)]
    pub team: Option<String>,
    /// Command agents are asked not to run; may be given several times
    #[arg(long, value_name = "COMMAND")]
    pub block_command: Vec<String>,
    /// Blocked command that is none any more
    #[arg(long, value_name = "COMMAND")]
    pub unblock_command: Vec<String>,
    /// Host that builds may reach, with what they may do there
    #[arg(long, value_name = "HOST[,…]", value_parser = parse_rule)]
    pub allow_build: Vec<HostRule>,
    /// Host that sessions may reach, with what they may do there
    #[arg(long, value_name = "HOST[,…]", value_parser = parse_rule)]
    pub allow_run: Vec<HostRule>,
    /// Host that builds may no longer reach
    #[arg(long, value_name = "HOST")]
    pub forbid_build: Vec<HostPattern>,
    /// Host that sessions may no longer reach
    #[arg(long, value_name = "HOST")]
    pub forbid_run: Vec<HostPattern>,
    /// What its sandboxes may use
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// What can be left to the server again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// Everything
    All,
    /// The wall
    Isolation,
    /// Memory
    Memory,
    /// Processor time
    Cpus,
    /// Processes and threads
    Pids,
    /// What may be written
    Disk,
    /// Time until the forced stop
    RunTime,
    /// What may leave each second
    EgressRate,
    /// What images stand on
    Base,
    /// The team
    Team,
    /// What builds may reach
    BuildHosts,
    /// What sessions may reach
    RunHosts,
    /// Commands agents are asked not to run
    BlockedCommands,
}

/// `owner/name`, or the name of a repository of this machine.
fn parse_repository(text: &str) -> Result<RepositoryName, String> {
    let parsed = if text.contains('/') { text.parse() } else { RepositoryName::new("local", text) };
    parsed.map_err(|error| error.to_string())
}

/// `example.com,plain,method=GET,path=/v1,network=10.0.0.0/8,secret=API_TOKEN`.
pub fn parse_rule(text: &str) -> Result<HostRule, String> {
    let mut parts = text.split(',');
    let host = parts.next().unwrap_or_default();
    let mut rule = HostRule::new(host.parse().map_err(|error| format!("{error}"))?);
    for part in parts {
        match part.split_once('=') {
            None if part == "plain" => rule.plain = true,
            Some(("method", method)) => rule.methods.push(method.to_ascii_uppercase()),
            Some(("path", path)) => rule.paths.push(path.to_owned()),
            Some(("network", network)) => rule.networks.push(
                network
                    .parse()
                    .map_err(|_| format!("`{network}` is no network: write 10.0.0.0/8"))?,
            ),
            Some(("secret", secret)) => {
                let secret = secret.parse().map_err(|error| format!("{error}"))?;
                let (header, format) = ("authorization".to_owned(), "Bearer {}".to_owned());
                rule.credential = Some(Injection { secret, header, format });
            }
            Some((key @ ("header" | "format"), value)) => {
                let credential = rule.credential.as_mut().ok_or_else(|| {
                    format!("`{key}` says how a secret is sent: secret=NAME first")
                })?;
                let field =
                    if key == "header" { &mut credential.header } else { &mut credential.format };
                value.clone_into(field);
            }
            _ => {
                return Err(format!(
                    "`{part}` is nothing that can be said of a host: write plain, method=, path=, \
                     network=, secret=, header= or format="
                ));
            }
        }
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_with_everything_that_can_be_said() {
        let plain = parse_rule("*.example.com").expect("a host alone");
        assert_eq!(plain, HostRule::new("*.example.com".parse().expect("a pattern")));
        let text = "api.example.com,plain,method=get,method=PUT,path=/v1,network=10.0.0.0/8,\
                    secret=API_TOKEN,header=x-key,format={}";
        let rule = parse_rule(text).expect("well formed");
        assert!(rule.plain);
        assert_eq!(rule.methods, ["GET", "PUT"]);
        assert_eq!(rule.paths, ["/v1"]);
        assert_eq!(rule.networks, ["10.0.0.0/8".parse().expect("a network")]);
        let credential = rule.credential.expect("a credential");
        assert_eq!(credential.secret.as_str(), "API_TOKEN");
        assert_eq!((credential.header.as_str(), credential.format.as_str()), ("x-key", "{}"));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for (text, told) in [
            ("", "is not a host"),
            ("10.0.0.1", "is not a host"),
            ("example.com,all", "`all` is nothing"),
            ("example.com,network=x", "`x` is no network"),
            ("example.com,secret=lower", "`lower` is not a name"),
            ("example.com,header=x", "secret=NAME first"),
        ] {
            let error = parse_rule(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_maximum_names_its_limit() {
        let maximum = "memory=32GiB".parse();
        assert_eq!(maximum, Ok(Maximum { limit: LimitName::Memory, amount: 32 << 30 }));
        for (text, told) in [
            ("memory", "as in memory=32GiB"),
            ("swap=1GiB", "`swap` is no limit"),
            ("cpu=x", "`x`"),
        ] {
            let error = text.parse::<Maximum>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn repositories_of_this_machine_need_no_owner() {
        assert_eq!(parse_repository("site").map(|name| name.to_string()), Ok("local/site".into()));
        assert_eq!(parse_repository("a/site").map(|name| name.to_string()), Ok("a/site".into()));
        assert!(parse_repository("../site").is_err());
    }
}
