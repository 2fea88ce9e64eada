//! `hangar repository settings`: show and change what people decide about a repository.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use protocol::client::ServerDescription;
use protocol::network::{HostPattern, HostRule, NetworkPolicy};
use protocol::sandbox::{LimitName, LimitRequest};
use protocol::settings::RepositorySettings;

use crate::arguments::{RepositorySettingsOptions, Setting};
use crate::client::Client;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{escape, format};

/// Bytes of a file of settings.
const FILE_BYTES: u64 = 1024 * 1024;

/// Carries out `hangar repository settings`.
pub(crate) async fn settings(
    context: &Context,
    client: &Client,
    options: RepositorySettingsOptions,
) -> anyhow::Result<()> {
    let before = client.repository_settings(&options.name).await?;
    let wanted = match &options.file {
        Some(path) => change(read(path)?, &options),
        None => change(before.clone(), &options),
    };
    let settings = if options.file.is_none() && wanted == before {
        before
    } else {
        client.put_repository_settings(&options.name, &wanted).await?
    };
    if context.output.is_json() {
        return Ok(context.output.document(&settings)?);
    }
    let server = client.server().await?;
    Ok(context.output.lines(&lines(&settings, &server))?)
}

/// Settings in a file, as `--json` prints them or the same in TOML.
fn read(path: &Path) -> anyhow::Result<RepositorySettings> {
    let mut text = String::new();
    let opened: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(path);
        Box::new(file.with_context(|| format!("opening {}", path.display()))?)
    };
    let read = opened.take(FILE_BYTES).read_to_string(&mut text);
    read.with_context(|| format!("reading {}", path.display()))?;
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.message().to_owned())
    };
    parsed.map_err(|error| {
        let text = format!("the settings in {} cannot be used: {error}", path.display());
        let hint = "see what they look like with `hangar repository settings NAME --json`";
        Failure::new(Exit::Usage, text).hint(hint).into()
    })
}

/// What the options make of settings: first what is taken away, then what is added.
fn change(
    mut settings: RepositorySettings,
    options: &RepositorySettingsOptions,
) -> RepositorySettings {
    for setting in &options.reset {
        reset(&mut settings, *setting);
    }
    settings.isolation = options.isolation.or(settings.isolation);
    settings.base = options.base.clone().or(settings.base);
    settings.team = options.team.clone().or(settings.team);
    let limits = options.limits.request();
    for limit in LimitName::ALL {
        settings.limits.set(limit, limits.get(limit).or(settings.limits.get(limit)));
    }
    settings.blocked_commands.retain(|command| !options.unblock_command.contains(command));
    for command in &options.block_command {
        if !settings.blocked_commands.contains(command) {
            settings.blocked_commands.push(command.clone());
        }
    }
    let network = &mut settings.network;
    change_hosts(&mut network.build, &options.forbid_build, &options.allow_build);
    change_hosts(&mut network.run, &options.forbid_run, &options.allow_run);
    settings
}

/// A rule takes the place of the one about the same host.
fn change_hosts(policy: &mut NetworkPolicy, forbid: &[HostPattern], allow: &[HostRule]) {
    policy.hosts.retain(|rule| !forbid.contains(&rule.host));
    for rule in allow {
        match policy.hosts.iter_mut().find(|known| known.host == rule.host) {
            Some(known) => known.clone_from(rule),
            None => policy.hosts.push(rule.clone()),
        }
    }
}

fn reset(settings: &mut RepositorySettings, setting: Setting) {
    let mut limit = |limit: LimitName| settings.limits.set(limit, None);
    match setting {
        Setting::All => *settings = RepositorySettings::default(),
        Setting::Isolation => settings.isolation = None,
        Setting::Memory => limit(LimitName::Memory),
        Setting::Cpus => limit(LimitName::Cpu),
        Setting::Pids => limit(LimitName::Pids),
        Setting::Disk => limit(LimitName::Disk),
        Setting::RunTime => limit(LimitName::RunTime),
        Setting::EgressRate => limit(LimitName::Egress),
        Setting::Base => settings.base = None,
        Setting::Team => settings.team = None,
        Setting::BuildHosts => settings.network.build = NetworkPolicy::default(),
        Setting::RunHosts => settings.network.run = NetworkPolicy::default(),
        Setting::BlockedCommands => settings.blocked_commands.clear(),
    }
}

/// The settings for people, with what the server decides where they say nothing.
fn lines(settings: &RepositorySettings, server: &ServerDescription) -> Vec<String> {
    let servers = |text: String| format!("{text} (the server's)");
    let isolation = settings
        .isolation
        .map_or_else(|| servers(server.isolation.to_string()), |isolation| isolation.to_string());
    let mut rows = vec![row("isolation", isolation)];
    rows.extend(limit_rows(&settings.limits, server));
    let base = settings.base.as_deref().map(escape::line);
    rows.push(row("base", base.unwrap_or_else(|| "what hangar.toml asks for, else host".into())));
    let team = settings.team.as_deref().map(escape::line);
    rows.push(row("team", team.unwrap_or_else(|| "none".into())));
    rows.extend(policy_rows("builds reach", &settings.network.build));
    rows.extend(policy_rows("sessions reach", &settings.network.run));
    let commands = settings.blocked_commands.iter();
    let commands: Vec<_> = commands.map(|command| escape::line(command)).collect();
    let hint = "asked not to run";
    rows.extend(column(hint, if commands.is_empty() { vec!["nothing".into()] } else { commands }));
    format::table(&rows)
}

fn limit_rows(limits: &LimitRequest, server: &ServerDescription) -> Vec<Vec<String>> {
    let show = |limit: LimitName| {
        let value = match limits.get(limit) {
            Some(amount) => limit.show(amount),
            None => format!("{} (the server's)", limit.show(server.limits.get(limit))),
        };
        row(&limit.to_string(), value)
    };
    LimitName::ALL.into_iter().map(show).collect()
}

fn policy_rows(name: &str, policy: &NetworkPolicy) -> Vec<Vec<String>> {
    let mut cells: Vec<String> = policy.hosts.iter().map(rule).collect();
    if cells.is_empty() {
        cells.push("no other host".to_owned());
    }
    let bytes = [("sent", policy.bytes_out), ("received", policy.bytes_in)];
    for (way, bytes) in bytes {
        cells.extend(bytes.map(|bytes| format!("{} {way} at most", format::bytes(bytes))));
    }
    column(name, cells)
}

fn rule(rule: &HostRule) -> String {
    let mut parts = vec![rule.host.to_string()];
    parts.extend(rule.plain.then(|| "also unencrypted".to_owned()));
    parts.extend((!rule.methods.is_empty()).then(|| rule.methods.join(" ")));
    parts.extend((!rule.paths.is_empty()).then(|| format!("beneath {}", rule.paths.join(" "))));
    let networks: Vec<_> = rule.networks.iter().map(ToString::to_string).collect();
    parts.extend((!networks.is_empty()).then(|| format!("in {}", networks.join(" "))));
    let credential = rule.credential.as_ref();
    parts.extend(credential.map(|it| format!("with {} as {}", it.secret, it.header)));
    escape::line(&parts.join(", "))
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

/// Several values below each other, the name before the first.
fn column(name: &str, values: Vec<String>) -> Vec<Vec<String>> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(values).map(|(name, value)| row(name, value)).collect()
}

#[cfg(test)]
mod tests;
