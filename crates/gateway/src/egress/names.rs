//! Turns a host's name into addresses, as the server's machine would.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

/// Knows the addresses of hosts. What it says is judged by whoever asks.
#[async_trait]
pub trait Names: Send + Sync + fmt::Debug {
    /// All IPv4 and IPv6 addresses of a host, given without a final dot; at least one.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved>;
}

/// A name without an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The name servers know no address for it.
    #[error("the name {0} has no address")]
    NoAddress(String),
    /// They could not be asked.
    #[error("the name {host} could not be looked up: {reason}")]
    Failed {
        /// The name.
        host: String,
        /// What went wrong.
        reason: String,
    },
}

/// The machine's own name servers and hosts file, read again when they change.
#[derive(Debug)]
pub struct SystemNames {
    servers: PathBuf,
    hosts: PathBuf,
    port: u16,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    read: [Option<SystemTime>; 2],
    resolver: Arc<TokioResolver>,
}

impl SystemNames {
    /// Name servers as in `resolv.conf`, and hosts as in `/etc/hosts`; both are read when the first
    /// name is looked up. Search domains are not used: a rule names a host in full.
    pub fn new(servers: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        Self { servers: servers.into(), hosts: hosts.into(), port: 53, known: Mutex::default() }
    }

    /// Asks the name servers on another port than 53.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
        let read = [changed(&self.servers), changed(&self.hosts)];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.read == read) {
            return Ok(Arc::clone(&known.resolver));
        }
        let resolver = Arc::new(self.read()?);
        *known = Some(Known { read, resolver: Arc::clone(&resolver) });
        Ok(resolver)
    }

    fn read(&self) -> Result<TokioResolver, String> {
        let unreadable = |error: &dyn fmt::Display| format!("{}: {error}", self.servers.display());
        let text = std::fs::read(&self.servers).map_err(|error| unreadable(&error))?;
        let (config, mut options) = parse_resolv_conf(text).map_err(|error| unreadable(&error))?;
        let (_, _, mut servers) = config.into_parts();
        for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = self.port;
        }
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(
            ResolverConfig::from_parts(None, Vec::new(), servers),
            TokioRuntimeProvider::default(),
        );
        *builder.options_mut() = options;
        let mut resolver = builder.build().map_err(|error| unreadable(&error))?;
        let mut hosts = Hosts::default();
        // Without the file there are no such hosts.
        if let Ok(file) = std::fs::File::open(&self.hosts) {
            let read = hosts.read_hosts_conf(file);
            read.map_err(|error| format!("{}: {error}", self.hosts.display()))?;
        }
        resolver.set_hosts(Arc::new(hosts));
        Ok(resolver)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let failed = |reason| Unresolved::Failed { host: host.to_owned(), reason };
        let resolver = self.resolver().map_err(failed)?;
        // The final dot keeps search domains out.
        let found = resolver.lookup_ip(format!("{host}.")).await.map_err(|error| {
            if error.is_no_records_found() {
                Unresolved::NoAddress(host.to_owned())
            } else {
                failed(error.to_string())
            }
        })?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            Err(Unresolved::NoAddress(host.to_owned()))
        } else {
            Ok(addresses)
        }
    }
}
