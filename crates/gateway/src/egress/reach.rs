//! From an allowed name to an open connection: resolved once, judged, counted, and dialled.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::live::{self, Entry};
use super::meter::{Counted, Passage};
use super::names::Unresolved;
use super::{Target, Way, Why, address, dial};
use crate::outside::proxy::{Endpoint, Stream};
use crate::server::{Shared, Slot};

/// Where a host is, by addresses that were judged, and the place of the connection to it.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) entry: Entry,
    pub(crate) passage: Arc<Passage>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The rules are against it.
    Denied(Why),
    /// The host has no name or gives no answer; the sentence says which.
    Failed(String),
}

/// Resolves and judges; from here on the connection is on the sandbox's list.
pub(crate) async fn locate(
    shared: &Shared,
    slot: &Arc<Slot>,
    target: &Target,
) -> Result<Located, Stop> {
    if let Some(why) = slot.flow.used_up() {
        return Err(Stop::Denied(why));
    }
    let host = &target.host;
    let asked = tokio::time::timeout(shared.limits.resolve_time, shared.names.addresses(host));
    let found = asked.await.unwrap_or_else(|_| {
        Err(Unresolved::Failed { host: host.clone(), reason: "no answer in time".to_owned() })
    });
    let found = match found {
        Ok(found) => found,
        // Behind a company's proxy the names of the world are often known to it alone.
        Err(_) if proxy(shared, target).is_some() => Vec::new(),
        Err(error) => return Err(Stop::Failed(error.to_string())),
    };
    let addresses = address::all(found, &target.rule.networks).map_err(Stop::Denied)?;
    let limit = shared.limits.host_connections;
    let entry = live::enter(slot, target, &addresses, limit).map_err(Stop::Denied)?;
    let passage = Arc::new(Passage::new(Arc::clone(&slot.flow)));
    Ok(Located { addresses, entry, passage })
}

/// The host's own proxy, if it leads to a target.
pub(crate) fn proxy<'s>(shared: &'s Shared, target: &Target) -> Option<&'s Endpoint> {
    match target.way {
        Way::Plain => shared.proxy.for_http(&target.host, target.port),
        Way::Tunnel | Way::Intercepted => shared.proxy.for_https(&target.host, target.port),
    }
}

/// Connects to one of the judged addresses and tells which; through the host's proxy the address
/// is the proxy's choice.
pub(crate) async fn connect(
    shared: &Shared,
    target: &Target,
    located: &Located,
) -> Result<(Counted<Box<dyn Stream>>, Option<IpAddr>), Stop> {
    let patience = shared.limits.dial_time;
    let name = format!("{}:{}", target.host, target.port);
    let dialled: io::Result<(Box<dyn Stream>, _)> = if let Some(proxy) = proxy(shared, target) {
        let leading = async {
            match target.way {
                Way::Plain => proxy.connect(&shared.trust).await,
                Way::Tunnel | Way::Intercepted => proxy.tunnel(&name, &shared.trust).await,
            }
        };
        let slow = |_| Err(io::Error::other(format!("the proxy {proxy} gave no answer in time")));
        let led = tokio::time::timeout(patience, leading).await.unwrap_or_else(slow);
        led.map(|stream| (stream, None))
    } else {
        let connector = shared.connector.as_ref();
        let dialled = dial::dial(connector, &located.addresses, target.port, patience).await;
        dialled.map(|(stream, address)| (Box::new(stream) as Box<dyn Stream>, Some(address)))
    };
    let (stream, address) = dialled
        .map_err(|error| Stop::Failed(format!("{name} could not be connected to: {error}")))?;
    Ok((Counted::new(stream, Arc::clone(&located.passage)), address))
}
