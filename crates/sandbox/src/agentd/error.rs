//! Why a request to agentd was not carried out.

/// Why a request to agentd was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection to agentd; the sandbox may have ended.
    #[error("cannot {doing}: agentd cannot be reached")]
    Connect {
        /// What was asked for.
        doing: String,
        /// What the backend says.
        #[source]
        source: crate::Error,
    },
    /// The connection broke before the answer was complete; whether agentd acted is unknown.
    #[error("cannot {doing}: the connection to agentd broke")]
    Broken {
        /// What was asked for.
        doing: String,
        /// What happened to it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// agentd refused or failed.
    #[error("cannot {doing}: {error} (agentd answered {status})")]
    Refused {
        /// What was asked for.
        doing: String,
        /// The HTTP status: 4xx is our mistake, 5xx the sandbox's.
        status: u16,
        /// What agentd says.
        error: String,
    },
    /// The answer has not the shape it must have.
    #[error("cannot {doing}: agentd's answer makes no sense: {why}")]
    Damaged {
        /// What was asked for.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
    /// The answer is longer than the caller will take.
    #[error("cannot {doing}: the answer is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        doing: String,
        /// The bound, in bytes.
        limit: usize,
    },
}

impl Error {
    /// Whether the same request may succeed later, over a new connection.
    pub const fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Broken { .. })
    }
}
