//! Why the gateway lets something not pass: a closed list of sentences for agents and people.

use http::StatusCode;
use protocol::repository::RepositoryName;
use protocol::secret::SecretName;

use crate::{ProviderName, Why};

/// A request that was understood and is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A proxy request: CONNECT, or a target with another host.
    #[error("{host} cannot be reached from this sandbox: {why}")]
    Host {
        /// Host and port as asked for.
        host: String,
        /// What stands against it.
        why: Why,
    },
    /// A path the gateway does not serve.
    #[error("the gateway serves no {path}")]
    UnknownRoute {
        /// The path.
        path: String,
    },
    /// No session has claimed the sandbox.
    #[error("this sandbox belongs to no session yet")]
    Unbound,
    /// A provider nobody knows.
    #[error("the gateway knows no model provider `{provider}`")]
    UnknownProvider {
        /// The name as asked for.
        provider: String,
    },
    /// A provider this server has no key for.
    #[error("this server has no key for the model provider {provider}")]
    ProviderWithoutKey {
        /// Which one.
        provider: ProviderName,
    },
    /// A method and path of a provider that agents do not need.
    #[error("{method} {path} of the model provider {provider} is not let through")]
    ModelEndpoint {
        /// Which provider.
        provider: ProviderName,
        /// The method.
        method: String,
        /// The path after the provider's name.
        path: String,
    },
    /// A git host other than the local forge.
    #[error("the git host `{host}` is not served")]
    GitHost {
        /// The host as asked for.
        host: String,
    },
    /// A repository other than the session's.
    #[error("the repository {asked} does not belong to this session, which works on {allowed}")]
    GitRepository {
        /// The one asked for.
        asked: RepositoryName,
        /// The session's.
        allowed: RepositoryName,
    },
    /// Anything but smart HTTP.
    #[error("`{operation}` is no request of git's smart HTTP protocol")]
    GitOperation {
        /// The path inside the repository.
        operation: String,
    },
    /// A push to a ref outside of the session's branches.
    #[error("{reference} may not be pushed: this session pushes only to {prefix}")]
    GitReference {
        /// The ref, made printable.
        reference: String,
        /// The session's prefix.
        prefix: String,
    },
    /// A push that deletes.
    #[error("{reference} may not be deleted: this session adds to its branch and deletes nothing")]
    GitDeletion {
        /// The ref.
        reference: String,
    },
    /// A push whose list of refs cannot be read.
    #[error("the push cannot be judged: {what}")]
    GitUnreadable {
        /// What is in the way.
        what: &'static str,
    },
    /// A secret's stand-in on its way to a host the secret is not for.
    #[error("the stand-in for the secret {secret} may not be sent to {host}")]
    PlaceholderHost {
        /// Whose stand-in.
        secret: SecretName,
        /// Where to.
        host: String,
    },
    /// A stand-in in the midst of something else.
    #[error("the header {header} holds the stand-in for the secret {secret} and more beside it")]
    PlaceholderForm {
        /// Whose stand-in.
        secret: SecretName,
        /// The header.
        header: String,
    },
    /// A credential in the address, for a host to which this sandbox speaks with its own.
    #[error("requests for {host} may not carry a credential in their address: `{parameter}`")]
    QueryCredential {
        /// The host.
        host: String,
        /// The parameter's name.
        parameter: String,
    },
    /// A rule names a secret that there is none of.
    #[error("this host needs the secret {secret}, which is not set for this repository")]
    CredentialMissing {
        /// Its name.
        secret: SecretName,
    },
    /// A secret, or the rule that adds it, is no text for a header.
    #[error("the secret {secret} cannot be sent in a header as its rule says")]
    CredentialForm {
        /// Its name.
        secret: SecretName,
    },
    /// A body over the limit.
    #[error("the request's body is over the limit of {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A body that stopped arriving.
    #[error("the request's body stopped arriving")]
    BodyStalled,
    /// A head that is no HTTP, too large or too slow.
    #[error("the request's head is too large, too slow or no HTTP")]
    UnreadableHead,
    /// The audit file cannot be written.
    #[error("the server cannot write its audit file, so nothing is let out")]
    NoAudit,
}

impl Denial {
    /// The stable word for programs and audit lines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Host { why, .. } => why.code(),
            Self::UnknownRoute { .. } => "unknown_route",
            Self::Unbound => "unbound",
            Self::UnknownProvider { .. } => "unknown_provider",
            Self::ProviderWithoutKey { .. } => "provider_without_key",
            Self::ModelEndpoint { .. } => "model_endpoint",
            Self::GitHost { .. } => "git_host",
            Self::GitRepository { .. } => "git_repository",
            Self::GitOperation { .. } => "git_operation",
            Self::GitReference { .. } => "git_reference",
            Self::GitDeletion { .. } => "git_deletion",
            Self::GitUnreadable { .. } => "git_unreadable",
            Self::PlaceholderHost { .. } => "placeholder_host",
            Self::PlaceholderForm { .. } => "placeholder_form",
            Self::QueryCredential { .. } => "query_credential",
            Self::CredentialMissing { .. } => "credential_missing",
            Self::CredentialForm { .. } => "credential_form",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyStalled => "body_stalled",
            Self::UnreadableHead => "unreadable_head",
            Self::NoAudit => "no_audit",
        }
    }

    /// What to try instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Host { why, .. } => why.hint().to_owned(),
            Self::UnknownRoute { .. } => {
                "there are /model/<provider>/… and /git/local/<owner>/<name>.git".to_owned()
            }
            Self::Unbound => {
                "wait until a session has claimed the sandbox; only /model/rehearsal answers before"
                    .to_owned()
            }
            Self::UnknownProvider { .. } => {
                "the providers are rehearsal, anthropic and openai".to_owned()
            }
            Self::ProviderWithoutKey { provider } => {
                let variable = match provider {
                    ProviderName::OpenAi => "OPENAI_API_KEY",
                    _ => "ANTHROPIC_API_KEY",
                };
                format!("start the server with {variable} set, or use the rehearsal model")
            }
            Self::ModelEndpoint { .. } => "agents may use POST v1/messages, \
                v1/messages/count_tokens, v1/chat/completions, v1/responses and GET v1/models, as \
                far as the provider speaks them"
                .to_owned(),
            Self::GitHost { .. } => "the local forge is the host `local`".to_owned(),
            Self::GitRepository { allowed, .. } => {
                format!("use /git/local/{allowed}.git, or start a session on the other repository")
            }
            Self::GitOperation { .. } => "use git 1.6.6 or newer over smart HTTP".to_owned(),
            Self::GitReference { prefix, .. } | Self::GitDeletion { reference: prefix } => {
                let branch = prefix.strip_prefix("refs/heads/").unwrap_or(prefix);
                format!(
                    "commit on the session's branch and push that: git push origin HEAD:{branch}"
                )
            }
            Self::GitUnreadable { .. } => {
                "push with an ordinary git client, unsigned and with fewer refs at once".to_owned()
            }
            Self::PlaceholderHost { secret, .. } => {
                format!("send it only to the hosts that {secret} is for: hangar secret list")
            }
            Self::PlaceholderForm { .. } => {
                "send the stand-in alone, behind `Bearer `, or as user or password of `Basic`"
                    .to_owned()
            }
            Self::QueryCredential { .. } => "the gateway adds this repository's credential in a \
                header; leave yours out of the address"
                .to_owned(),
            Self::CredentialMissing { secret } => {
                format!("ask an admin of this server to set it: hangar secret set {secret}")
            }
            Self::CredentialForm { secret } => format!(
                "ask an admin of this server to set {secret} again without line ends, and to look \
                 at the header and format in the host's rule"
            ),
            Self::BodyTooLarge { .. } => "send less at once".to_owned(),
            Self::BodyStalled | Self::UnreadableHead => "send the request again".to_owned(),
            Self::NoAudit => "free space in the server's data directory, then try again".to_owned(),
        }
    }

    /// The HTTP status of the answer.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Host { why, .. } => why.status(),
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Self::UnreadableHead => StatusCode::BAD_REQUEST,
            Self::NoAudit => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        }
    }
}
