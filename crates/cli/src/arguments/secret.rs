//! `hangar secret …`: a value is read from standard input or a file, and is never an argument, which
//! every user of the machine could read.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::network::HostPattern;
use protocol::repository::RepositoryName;
use protocol::secret::{SecretName, SecretPhase, SecretScope};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret, new or again; its value is read from standard input
    #[command(after_help = "\
Examples:
  hangar secret set NPM_TOKEN --host registry.example.com
  hangar secret set NPM_TOKEN --host registry.example.com --phase build < token.txt
  hangar secret set SIGNING_KEY --repository local/site --plain --from-file key.pem

Sandboxes get a placeholder in the variable of that name, and the gateway swaps it for the value in
requests to the secret's hosts. With --plain they get the value itself: then any code in the sandbox
can read it. Of secrets with one name, the repository's goes before the team's and the server's.")]
    Set {
        /// Name of the secret, and of the variable that carries it, such as `NPM_TOKEN`
        name: SecretName,
        /// Whose and when
        #[command(flatten)]
        place: Place,
        /// Host to which the value may be sent, or *.HOST for all beneath it; may be repeated
        #[arg(long = "host", value_name = "HOST", conflicts_with = "plain")]
        hosts: Vec<HostPattern>,
        /// Give sandboxes the value itself instead of a placeholder
        #[arg(long)]
        plain: bool,
        /// Read the value from a file
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List secrets, without their values
    List {
        /// Only this repository's
        #[arg(long, short, value_name = "NAME", value_parser = repository, conflicts_with = "team")]
        repository: Option<RepositoryName>,
        /// Only this team's
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
    },
    /// Remove a secret
    Remove {
        /// Name of the secret
        name: SecretName,
        /// Whose and when
        #[command(flatten)]
        place: Place,
    },
    /// Make a new key and encrypt every secret again with it
    #[command(after_help = "\
The old key stays until everything is encrypted with the new one; interrupted, it is finished at the
next start. Where the keys come from HANGAR_SECRET_KEYS, put a new one first, restart the server, run
this, and take the old one out.")]
    Rotate,
}

/// Whose secret it is, and when it is used.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Repository that may use it [default: every repository of the server]
    #[arg(long, short, value_name = "NAME", value_parser = repository, conflicts_with = "team")]
    pub repository: Option<RepositoryName>,
    /// Team whose repositories may use it
    #[arg(long, value_name = "TEAM")]
    pub team: Option<String>,
    /// When it is used: run (in sessions) or build (of images)
    #[arg(long, default_value = "run")]
    pub phase: SecretPhase,
}

impl Place {
    /// The scope that is meant.
    pub fn scope(&self) -> Result<SecretScope, protocol::secret::ParseSecretScopeError> {
        Ok(scope(self.repository.as_ref(), self.team.as_deref())?.unwrap_or(SecretScope::Server))
    }
}

/// The narrowest scope that is named.
pub fn scope(
    repository: Option<&RepositoryName>,
    team: Option<&str>,
) -> Result<Option<SecretScope>, protocol::secret::ParseSecretScopeError> {
    match (repository, team) {
        (Some(repository), _) => {
            Ok(Some(SecretScope::Repository { repository: repository.clone() }))
        }
        (None, Some(team)) => format!("team:{team}").parse().map(Some),
        (None, None) => Ok(None),
    }
}

/// `owner/name`, or a name alone for one of the local forge's.
fn repository(
    text: &str,
) -> Result<RepositoryName, protocol::repository::ParseRepositoryNameError> {
    if text.contains('/') { text.parse() } else { RepositoryName::new("local", text) }
}
