//! Fixed paths, ports and variables inside every sandbox.
//!
//! They are the same everywhere because agents key their own history by absolute path: a restored
//! sandbox at another path would lose it.

/// The repository's working tree.
pub const WORKSPACE: &str = "/workspace";
/// HOME of everything that runs for the agent.
pub const HOME: &str = "/home/agent";
/// The read-only toolkit: agentd, agents, Hangar's documentation.
pub const TOOLKIT: &str = "/opt/hangar";
/// The per-sandbox directory shared with the host, which holds only the gateway's socket.
pub const RUN: &str = "/run/hangar";
/// The gateway's socket inside [`RUN`].
pub const GATEWAY_SOCKET: &str = "/run/hangar/gateway.sock";
/// The certificates programs in the sandbox trust, beside the socket: the system's, the operator's
/// and Hangar's own, in PEM.
pub const TRUST_BUNDLE: &str = "/run/hangar/trust.pem";
/// The variables by which programs find [`TRUST_BUNDLE`]: OpenSSL and what is built on it, curl,
/// git, and the languages and tools that bring certificates of their own.
pub const TRUST_VARIABLES: [&str; 18] = [
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "COMPOSER_CAFILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "HTTPLIB2_CA_CERTS",
    "JULIA_SSL_CA_ROOTS_PATH",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    // A company's npmrc may name a file that is not there in the sandbox.
    "NPM_CONFIG_CAFILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
/// The variables by which programs find the gateway as a proxy.
pub const PROXY_VARIABLES: [&str; 5] =
    ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"];
/// The variables that say what is reached without it.
pub const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Read-only objects of the repository on the host, to clone from without copying.
pub const MIRROR: &str = "/mirror";
/// Where agentd relays HTTP from the loopback interface to the gateway's socket.
pub const GATEWAY_ADDRESS: &str = "127.0.0.1:7070";
/// The same as a base address for programs.
pub const GATEWAY_URL: &str = "http://127.0.0.1:7070";
/// The file descriptor on which PID 1 finds its listening API socket.
pub const AGENTD_LISTENER_FD: i32 = 3;
/// Where agentd listens in a sandbox with a kernel of its own, which inherits no descriptor.
pub const AGENTD_DIRECTORY: &str = "/run/agentd";
/// The socket in it.
pub const AGENTD_SOCKET: &str = "/run/agentd/agentd.sock";
/// The file in [`AGENTD_DIRECTORY`] that says that agentd let go of the host; it wakes when it is gone.
pub const ASLEEP: &str = "asleep";
/// agentd inside the toolkit.
pub const AGENTD: &str = "/opt/hangar/bin/hangar-agentd";
/// The built-in agent inside the toolkit.
pub const BUILT_IN_AGENT: &str = "/opt/hangar/bin/hangar-agent";
