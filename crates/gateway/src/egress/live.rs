//! The open connections of a sandbox to hosts, so that a change of rules ends those it forbids.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Egress, Target, Way, Why, address};
use crate::server::Slot;

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Live {
    open: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    target: Target,
    addresses: Vec<IpAddr>,
    ended: CancellationToken,
}

/// One open connection; dropping it takes it from the list.
#[derive(Debug)]
pub(crate) struct Entry {
    slot: Arc<Slot>,
    number: u64,
    /// Cancelled when the rules do not allow the connection any more.
    pub(crate) ended: CancellationToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.slot.live.table().open.remove(&self.number);
    }
}

impl Live {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what these rules do not allow.
    pub(crate) fn keep_allowed(&self, egress: &Egress) {
        for open in self.table().open.values() {
            if !allows(egress, &open.target, &open.addresses) {
                open.ended.cancel();
            }
        }
    }
}

/// Adds a connection that is about to be made. The rules are asked once more while the list is
/// held: whoever changes them does so first and then goes through the list, so none slips through.
pub(crate) fn enter(
    slot: &Arc<Slot>,
    target: &Target,
    addresses: &[IpAddr],
    limit: usize,
) -> Result<Entry, Why> {
    let mut table = slot.live.table();
    let binding = slot.binding().ok_or(Why::Withdrawn)?;
    if !allows(&binding.egress, target, addresses) {
        return Err(Why::Withdrawn);
    }
    if table.open.len() >= limit {
        return Err(Why::Connections { limit });
    }
    let (number, ended) = (table.next, CancellationToken::new());
    table.next += 1;
    let (target, addresses) = (target.clone(), addresses.to_vec());
    table.open.insert(number, Open { target, addresses, ended: ended.clone() });
    Ok(Entry { slot: Arc::clone(slot), number, ended })
}

fn allows(egress: &Egress, target: &Target, addresses: &[IpAddr]) -> bool {
    let Some(rule) = egress.rule(&target.host) else { return false };
    let way = match target.way {
        Way::Tunnel => !egress.intercepts(rule, &target.host),
        Way::Intercepted => egress.intercepts(rule, &target.host),
        // Only as long as what it asked for was judged by the rule that still holds.
        Way::Plain => {
            rule.plain && rule.methods == target.rule.methods && rule.paths == target.rule.paths
        }
    };
    way && address::all(addresses.to_vec(), &rule.networks).is_ok()
}

#[cfg(test)]
mod tests {
    use protocol::network::{HostRule, NetworkPolicy};

    use super::*;

    fn egress(rules: Vec<HostRule>) -> Egress {
        Egress {
            policy: NetworkPolicy { hosts: rules, ..NetworkPolicy::default() },
            ..Egress::default()
        }
    }

    #[test]
    fn a_connection_lives_as_long_as_its_rule() {
        let rule = HostRule::new("a.example".parse().expect("a pattern"));
        let within = |networks: &[&str]| HostRule {
            networks: networks.iter().map(|one| one.parse().expect("a network")).collect(),
            ..rule.clone()
        };
        let target =
            |way| Target { host: "a.example".to_owned(), port: 443, way, rule: rule.clone() };
        let public = ["1.1.1.1".parse().expect("an address")];
        let private = ["10.1.1.1".parse().expect("an address")];
        let tunnel = target(Way::Tunnel);
        assert!(allows(&egress(vec![rule.clone()]), &tunnel, &public));
        assert!(!allows(&egress(Vec::new()), &tunnel, &public));
        let looked_into = HostRule { methods: vec!["GET".to_owned()], ..rule.clone() };
        assert!(!allows(&egress(vec![looked_into.clone()]), &tunnel, &public));
        let intercepted = target(Way::Intercepted);
        assert!(allows(&egress(vec![looked_into]), &intercepted, &public));
        assert!(!allows(&egress(vec![rule.clone()]), &intercepted, &public));
        assert!(allows(&egress(vec![within(&["10.0.0.0/8"])]), &tunnel, &private));
        assert!(!allows(&egress(vec![within(&["10.2.0.0/16"])]), &tunnel, &private));
        let plain = HostRule { plain: true, ..rule.clone() };
        assert!(allows(&egress(vec![plain.clone()]), &target(Way::Plain), &public));
        assert!(!allows(&egress(vec![rule.clone()]), &target(Way::Plain), &public));
        let narrower = HostRule { paths: vec!["/a".to_owned()], ..plain };
        assert!(!allows(&egress(vec![narrower]), &target(Way::Plain), &public));
    }
}
