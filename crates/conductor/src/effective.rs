//! What sandboxes of a repository get, from everybody who may decide it.
//!
//! ```text
//!   server's defaults ◄─ repository's settings ◄─ hangar.toml ◄─ the session's own wishes
//!   limits, isolation    all of it                limits         limits
//!                        (the server's people)    stronger wall  stronger wall
//!                                                 base, hints
//!                                                 (untrusted)
//! ```
//!
//! Limits never exceed the server's maximum. The wall never gets weaker from left to right, except
//! where the server's people decide about one repository. What may be reached and whose secrets
//! are used is the server's people's word alone.

use std::sync::Arc;

use protocol::Refusal;
use protocol::network::Network;
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, LimitName, LimitRequest, Limits};
use protocol::session::SessionView;
use protocol::settings::RepositorySettings;

use crate::Error;
use crate::settings::Settings;
use crate::shared::{ServerSettings, Shared};

/// What one sandbox gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The wall around it.
    pub isolation: Isolation,
    /// What it may use.
    pub limits: Limits,
    /// What its image stands on; the host when missing.
    pub base: Option<String>,
    /// Whether only the repository's own file asks for this base: then it is used if somebody
    /// fetched it, and never fetched from wherever the file says with the operator's credentials.
    pub base_is_wish: bool,
    /// What it may reach.
    pub network: Network,
    /// The team whose secrets it may use.
    pub team: Option<String>,
    /// Commands the agent is asked not to run; a hint.
    pub blocked_commands: Vec<String>,
}

/// What a session asks for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Limits within the server's maximum.
    pub limits: LimitRequest,
    /// A wall at least as strong as the repository's.
    pub isolation: Option<Isolation>,
}

impl Asked {
    /// What a session was created with.
    pub fn of(view: &SessionView) -> Self {
        Self { limits: view.limits, isolation: view.isolation }
    }
}

/// Everybody's word as one. What somebody wishes beyond what they may have is held to that:
/// [`check_limits`] and [`check`] tell people so when they ask.
pub fn effective(
    server: &ServerSettings,
    repository: &RepositorySettings,
    file: &Settings,
    asked: Asked,
) -> Effective {
    let decided = repository.isolation.unwrap_or(server.isolation);
    let wished = [file.sandbox.isolation, asked.isolation].into_iter().flatten().max();
    let mut blocked_commands = repository.blocked_commands.clone();
    let more = file.agent.blocked_commands.iter();
    blocked_commands.extend(more.filter(|it| !repository.blocked_commands.contains(it)).cloned());
    Effective {
        isolation: wished.map_or(decided, |wished| decided.max(wished)),
        limits: limits(server, &repository.limits, &file.sandbox.limits(), &asked.limits),
        base: repository.base.clone().or_else(|| file.sandbox.base.clone()),
        base_is_wish: repository.base.is_none() && file.sandbox.base.is_some(),
        network: repository.network.clone(),
        team: repository.team.clone(),
        blocked_commands,
    }
}

fn limits(
    server: &ServerSettings,
    repository: &LimitRequest,
    file: &LimitRequest,
    asked: &LimitRequest,
) -> Limits {
    let mut limits = server.limits;
    for limit in LimitName::ALL {
        let (least, most) = (Limits::LEAST.get(limit), server.maximum_limits.get(limit));
        let held = |amount: u64, most: u64| amount.min(most).max(least);
        let decided = repository.get(limit).map(|amount| held(amount, most));
        // The file is the repository's own: where people decided, it may only ask for less.
        let wished = file.get(limit).map(|amount| held(amount, decided.unwrap_or(most)));
        let amount = asked.get(limit).or(wished).or(decided).unwrap_or(server.limits.get(limit));
        limits.set(limit, held(amount, most));
    }
    limits
}

/// Refuses limits that no sandbox here can have.
pub fn check_limits(server: &ServerSettings, asked: &LimitRequest) -> Result<(), Refusal> {
    for limit in LimitName::ALL {
        let Some(asked) = asked.get(limit) else { continue };
        let (minimum, maximum) = (Limits::LEAST.get(limit), server.maximum_limits.get(limit));
        if asked > maximum {
            return Err(Refusal::LimitTooHigh { limit, asked, maximum });
        }
        if asked < minimum {
            return Err(Refusal::LimitTooLow { limit, asked, minimum });
        }
    }
    Ok(())
}

/// Refuses what a session must not ask for; `without` is what it would get if it asked for nothing.
pub fn check(server: &ServerSettings, without: &Effective, asked: Asked) -> Result<(), Refusal> {
    check_limits(server, &asked.limits)?;
    match asked.isolation {
        Some(asked) if asked < without.isolation => {
            Err(Refusal::WeakerIsolation { asked, least: without.isolation })
        }
        _ => Ok(()),
    }
}

impl Shared {
    /// What sandboxes of a repository get at a commit.
    pub(crate) async fn effective(
        self: &Arc<Self>,
        repository: &RepositoryName,
        commit: &str,
        asked: Asked,
    ) -> Result<Effective, Error> {
        let decided = self.decided(repository).await?;
        let file = self.repository_settings(repository, commit).await;
        Ok(effective(&self.settings, &decided, &file, asked))
    }

    /// What the server's people decided about a repository.
    pub(crate) async fn decided(
        &self,
        repository: &RepositoryName,
    ) -> Result<RepositorySettings, Error> {
        let found = self.index.repository_settings(repository).await;
        found
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::failed(format!("reading the settings of {repository}"), error))
    }
}

#[cfg(test)]
mod tests;
