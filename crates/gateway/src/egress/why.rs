//! Why a host cannot be reached: a closed list of sentences, each with what to do about it.

use http::StatusCode;

/// The reason in a [`crate::Denial::Host`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No rule names it.
    #[error("it is not among the hosts that this repository's sandboxes may reach")]
    NotListed,
    /// An address in any notation.
    #[error("it is an address, and hosts are reached by name only")]
    Literal,
    /// Not written as a host's name is.
    #[error("that is not the name of a host")]
    Name,
    /// A user or password before the host.
    #[error("its address carries a user or password, and the gateway passes on neither")]
    UserInfo,
    /// Another port.
    #[error("only port 443 for HTTPS, and port 80 where plain HTTP is allowed, lead out")]
    Port,
    /// Neither CONNECT nor `http://`.
    #[error("the gateway carries `http://` requests and CONNECT, and nothing else")]
    Scheme,
    /// `http://` to a host without [`protocol::network::HostRule::plain`].
    #[error("it may be reached over HTTPS only")]
    Plain,
    /// The `Host` header and the target differ, or there are several.
    #[error("the request's `Host` header names another host than its target")]
    HostHeader,
    /// The target's `Upgrade` header.
    #[error("a connection whose requests the gateway reads cannot be turned into something else")]
    Upgrade,
    /// Two ways to tell where the body ends.
    #[error("the request's headers leave open where its body ends")]
    Framing,
    /// A method the rule does not allow, or nobody may use.
    #[error("the method {method} is not allowed there")]
    Method {
        /// As sent.
        method: String,
    },
    /// A path the rule does not allow.
    #[error("the path {path} is not allowed there")]
    Path {
        /// As sent, without the query.
        path: String,
    },
    /// It resolves to an address outside of the public internet.
    #[error("its name leads to {class}, which is no part of the public internet")]
    Address {
        /// What kind of address, as a noun.
        class: &'static str,
    },
    /// It resolves to allowed and to other addresses.
    #[error("its name leads to public addresses and to {class} at once, as in an attack")]
    Mixed {
        /// What kind of address the bad one is.
        class: &'static str,
    },
    /// The client named another host in TLS.
    #[error("the TLS connection inside asks for {name}")]
    ServerName {
        /// The name in the greeting, or what stood in its place.
        name: String,
    },
    /// The tunnel carries no TLS, or its greeting cannot be read.
    #[error("what was sent through the tunnel is no TLS greeting: {what}")]
    NotTls {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The policy's bytes are used up.
    #[error("the sandbox has {direction} all {limit} bytes that its repository allows")]
    Budget {
        /// `sent` or `received`.
        direction: &'static str,
        /// The policy's number.
        limit: u64,
    },
    /// The rules changed while connected.
    #[error("it was taken from the hosts that this repository's sandboxes may reach")]
    Withdrawn,
    /// Too many connections to hosts at once.
    #[error("the sandbox holds {limit} connections to hosts already")]
    Connections {
        /// How many it may hold.
        limit: usize,
    },
}

impl Why {
    /// The stable word for programs and audit lines.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NotListed => "host",
            Self::Literal => "host_literal",
            Self::Name => "host_name",
            Self::UserInfo => "host_userinfo",
            Self::Port => "host_port",
            Self::Scheme => "host_scheme",
            Self::Plain => "host_plain",
            Self::HostHeader => "host_header",
            Self::Upgrade => "host_upgrade",
            Self::Framing => "host_framing",
            Self::Method { .. } => "host_method",
            Self::Path { .. } => "host_path",
            Self::Address { .. } => "host_address",
            Self::Mixed { .. } => "host_addresses_mixed",
            Self::ServerName { .. } => "host_server_name",
            Self::NotTls { .. } => "host_no_tls",
            Self::Budget { .. } => "host_budget",
            Self::Withdrawn => "host_withdrawn",
            Self::Connections { .. } => "host_connections",
        }
    }

    /// What to try instead, or whom to ask.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::NotListed
            | Self::Withdrawn
            | Self::Method { .. }
            | Self::Path { .. }
            | Self::Budget { .. } => {
                "work with what is there, or ask an admin of this server to allow it in the \
                 repository's network settings: hangar repository settings"
            }
            Self::Plain => {
                "use https:// instead, or ask an admin of this server to allow plain HTTP in the \
                 repository's network settings: hangar repository settings"
            }
            Self::Address { .. } | Self::Mixed { .. } => {
                "if this is a host of your own network, ask an admin of this server to name that \
                 network in the host's rule: hangar repository settings"
            }
            Self::Literal | Self::Name => "use the host's name, in its xn-- form if it has one",
            Self::UserInfo => "leave user and password out of the address",
            Self::Port | Self::Scheme => "use https:// on its usual port",
            Self::HostHeader | Self::Framing => "send the request as usual HTTP clients do",
            Self::Upgrade => {
                "use ordinary requests; WebSockets pass only to hosts whose rule has no methods, paths \
                 and credential"
            }
            Self::ServerName { .. } | Self::NotTls { .. } => {
                "speak TLS through the tunnel, with the server name that CONNECT names"
            }
            Self::Connections { .. } => "close some of them first",
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Connections { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::HostHeader | Self::Framing | Self::Upgrade => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }
}
