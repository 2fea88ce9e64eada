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
/// Read-only objects of the repository on the host, to clone from without copying.
pub const MIRROR: &str = "/mirror";
/// Where agentd relays HTTP from the loopback interface to the gateway's socket.
pub const GATEWAY_ADDRESS: &str = "127.0.0.1:7070";
/// The same as a base address for programs.
pub const GATEWAY_URL: &str = "http://127.0.0.1:7070";
/// The file descriptor on which PID 1 finds its listening API socket.
pub const AGENTD_LISTENER_FD: i32 = 3;
/// agentd inside the toolkit.
pub const AGENTD: &str = "/opt/hangar/bin/hangar-agentd";
/// The built-in agent inside the toolkit.
pub const BUILT_IN_AGENT: &str = "/opt/hangar/bin/hangar-agent";
