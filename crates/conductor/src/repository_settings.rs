//! What people decide about a repository, and what they may decide.

use protocol::network::{HostRule, NetworkPolicy};
use protocol::repository::RepositoryName;
use protocol::sandbox::Isolation;
use protocol::session::Author;
use protocol::settings::RepositorySettings;

use crate::settings::{BLOCKED_COMMANDS, base_problem, blocked_command_problem};
use crate::{Error, Hangar, effective};

/// Rules for hosts in one phase.
const RULES: usize = 1000;

impl Hangar {
    /// What was decided about a repository; empty where nobody decided anything.
    pub async fn repository_settings(
        &self,
        author: &Author,
        name: &RepositoryName,
    ) -> Result<RepositorySettings, Error> {
        self.repository(author, name).await?;
        self.shared.decided(name).await
    }

    /// Replaces everything that was decided about a repository. Sandboxes that start from now on
    /// get it; what running ones may reach changes at once.
    pub async fn put_repository_settings(
        &self,
        author: &Author,
        name: &RepositoryName,
        settings: RepositorySettings,
    ) -> Result<RepositorySettings, Error> {
        self.repository(author, name).await?;
        effective::check_limits(&self.shared.settings, &settings.limits)?;
        if let Some(what) = problem(&settings) {
            let hint = "nothing was changed; see docs/guide/configuration.md".to_owned();
            return Err(Error::Invalid { what, hint });
        }
        let written = self.shared.index.put_repository_settings(name, &settings).await;
        let failed = |error| Error::failed(format!("recording the settings of {name}"), error);
        written.map_err(failed)?;
        self.shared.refresh_gateways().await;
        Ok(settings)
    }
}

/// What is wrong with settings that are well formed, if anything is.
fn problem(settings: &RepositorySettings) -> Option<String> {
    if settings.isolation == Some(Isolation::Simulated) {
        return Some("`simulated` is no isolation of real sandboxes".to_owned());
    }
    let base = settings.base.as_deref().and_then(|base| base_problem(base, true));
    let team = settings.team.as_deref().and_then(team_problem);
    let commands = &settings.blocked_commands;
    let many = (commands.len() > BLOCKED_COMMANDS)
        .then(|| format!("there are more than {BLOCKED_COMMANDS} blocked commands"));
    let command = commands.iter().find_map(|command| blocked_command_problem(command));
    let network = &settings.network;
    let phases = [("build", &network.build), ("run", &network.run)];
    let policy = phases.into_iter().find_map(|(phase, policy)| {
        policy_problem(policy).map(|problem| format!("network.{phase}: {problem}"))
    });
    base.or(team).or(many).or(command).or(policy)
}

fn team_problem(team: &str) -> Option<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fine = (1..=100).contains(&team.len()) && team.bytes().all(good);
    (!fine)
        .then(|| format!("`{team}` is no name of a team: write letters, digits, `-`, `_` and `.`"))
}

fn policy_problem(policy: &NetworkPolicy) -> Option<String> {
    if policy.hosts.len() > RULES {
        return Some(format!("there are more than {RULES} rules"));
    }
    policy.hosts.iter().find_map(|rule| {
        rule_problem(rule).map(|problem| format!("the rule for {}: {problem}", rule.host))
    })
}

fn rule_problem(rule: &HostRule) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
    let method = rule.methods.iter().find(|it| it.is_empty() || !it.bytes().all(token));
    if let Some(method) = method {
        return Some(format!("`{method}` is no method: write capitals, such as `GET`"));
    }
    if let Some(path) = rule.paths.iter().find(|path| !path.starts_with('/')) {
        return Some(format!("the path `{path}` does not begin with `/`"));
    }
    if let Some(network) = rule.networks.iter().find(|network| network.prefix_len() == 0) {
        return Some(format!("the network `{network}` is every address there is"));
    }
    let credential = rule.credential.as_ref()?;
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if credential.header.is_empty() || !credential.header.bytes().all(name) {
        return Some(format!("`{}` is no name of a header", credential.header));
    }
    let format = &credential.format;
    if format.matches("{}").count() != 1 || format.contains(char::is_control) {
        return Some(format!("the format `{}` needs `{{}}` once, where the secret goes", {
            format.escape_debug()
        }));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem_of(value: serde_json::Value) -> Option<String> {
        problem(&serde_json::from_value(value).expect("well formed"))
    }

    #[test]
    fn sensible_settings_are_taken() {
        let settings = json!({
            "isolation": "gvisor",
            "limits": {"pids": 64},
            "base": "archive:/srv/debian.tar",
            "network": {
                "build": {"hosts": [{"host": "*.example.com", "plain": true}]},
                "run": {"hosts": [{
                    "host": "api.example.com", "methods": ["GET"], "paths": ["/v1"],
                    "networks": ["10.0.0.0/8"],
                    "credential": {"secret": "API_TOKEN"},
                }]},
            },
            "team": "web",
            "blocked_commands": ["git push --force"],
        });
        assert_eq!(problem_of(settings), None);
        assert_eq!(problem_of(json!({})), None);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let host = |rule: serde_json::Value| json!({"network": {"run": {"hosts": [rule]}}});
        let credential = |it: serde_json::Value| host(json!({"host": "a.b", "credential": it}));
        for (settings, told) in [
            (json!({"isolation": "simulated"}), "simulated"),
            (json!({"base": "oci:layout"}), "absolute path"),
            (json!({"base": "a b"}), "is no image"),
            (json!({"team": "../x"}), "name of a team"),
            (json!({"blocked_commands": [" "]}), "is empty"),
            (host(json!({"host": "a.b", "methods": ["get"]})), "run: the rule for a.b: `get`"),
            (host(json!({"host": "a.b", "paths": ["v1"]})), "does not begin with `/`"),
            (host(json!({"host": "a.b", "networks": ["0.0.0.0/0"]})), "every address"),
            (credential(json!({"secret": "A", "header": "x y"})), "name of a header"),
            (credential(json!({"secret": "A", "format": "x"})), "where the secret goes"),
            (credential(json!({"secret": "A", "format": "{}\r\nx: y"})), "where the secret"),
        ] {
            let problem = problem_of(settings.clone()).expect("a problem");
            assert!(problem.contains(told), "{settings}: {problem}");
        }
    }
}
