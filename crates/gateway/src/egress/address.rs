//! Judges addresses: only the public internet may be reached, and what a rule exempts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Why;

/// What kind of address one outside of the public internet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    /// As it stands in a sentence.
    noun: &'static str,
    /// Whether a rule's `networks` may allow it.
    exempt: bool,
}

const fn never(noun: &'static str) -> Class {
    Class { noun, exempt: false }
}

const fn unless_named(noun: &'static str) -> Class {
    Class { noun, exempt: true }
}

const METADATA: Class = never("a cloud's metadata service");
const LOOPBACK: Class = never("the server's own loopback");
const LINK_LOCAL: Class = never("a link-local address");
const MULTICAST: Class = never("a multicast address");
const UNSPECIFIED: Class = never("an unspecified address");
const PRIVATE: Class = unless_named("a private address");
const SHARED: Class = unless_named("an address shared behind a carrier");
const DOCUMENTATION: Class = unless_named("an address reserved for documentation");
const BENCHMARK: Class = unless_named("an address reserved for benchmarks");
const RESERVED: Class = unless_named("a reserved address");
const EMBEDDING: Class = never("an address that hides another one");

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// The first that contains an address counts: metadata services lie in other networks.
const V4: [(Ipv4Net, Class); 23] = [
    (v4(169, 254, 169, 254, 32), METADATA),
    (v4(169, 254, 170, 2, 32), METADATA),
    (v4(100, 100, 100, 200, 32), METADATA),
    (v4(168, 63, 129, 16, 32), METADATA),
    (v4(192, 0, 0, 192, 32), METADATA),
    (v4(0, 0, 0, 0, 8), UNSPECIFIED),
    (v4(127, 0, 0, 0, 8), LOOPBACK),
    (v4(169, 254, 0, 0, 16), LINK_LOCAL),
    (v4(224, 0, 0, 0, 4), MULTICAST),
    (v4(255, 255, 255, 255, 32), never("the broadcast address")),
    (v4(10, 0, 0, 0, 8), PRIVATE),
    (v4(172, 16, 0, 0, 12), PRIVATE),
    (v4(192, 168, 0, 0, 16), PRIVATE),
    (v4(100, 64, 0, 0, 10), SHARED),
    (v4(192, 0, 2, 0, 24), DOCUMENTATION),
    (v4(198, 51, 100, 0, 24), DOCUMENTATION),
    (v4(203, 0, 113, 0, 24), DOCUMENTATION),
    (v4(198, 18, 0, 0, 15), BENCHMARK),
    (v4(192, 0, 0, 0, 24), RESERVED),
    (v4(192, 88, 99, 0, 24), RESERVED),
    (v4(192, 31, 196, 0, 24), RESERVED),
    (v4(192, 175, 48, 0, 24), RESERVED),
    (v4(240, 0, 0, 0, 4), RESERVED),
];

const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254),
];

const V6: [(Ipv6Net, Class); 12] = [
    (v6(0xfe80, 0, 0, 0, 10), LINK_LOCAL),
    (v6(0xff00, 0, 0, 0, 8), MULTICAST),
    (v6(0xfc00, 0, 0, 0, 7), PRIVATE),
    (v6(0xfec0, 0, 0, 0, 10), PRIVATE),
    // Teredo, and translations whose prefix is chosen locally: what is inside cannot be told.
    (v6(0x2001, 0, 0, 0, 32), EMBEDDING),
    (v6(0x64, 0xff9b, 1, 0, 48), EMBEDDING),
    (v6(0x2001, 2, 0, 0, 48), BENCHMARK),
    (v6(0x2001, 0xdb8, 0, 0, 32), DOCUMENTATION),
    (v6(0x3fff, 0, 0, 0, 20), DOCUMENTATION),
    (v6(0x2001, 0, 0, 0, 23), RESERVED),
    (v6(0x2620, 0x4f, 0x8000, 0, 48), RESERVED),
    // Deprecated, and its addresses hold routers chosen by whoever made them.
    (v6(0x3ffe, 0, 0, 0, 16), RESERVED),
];

const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 3);

fn class(address: IpAddr) -> Option<Class> {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Option<Class> {
    V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, class)| *class)
}

fn class_v6(address: Ipv6Addr) -> Option<Class> {
    if METADATA_V6.contains(&address) {
        return Some(METADATA);
    }
    if let Some(embedded) = embedded(address) {
        return class_v4(embedded);
    }
    if address == Ipv6Addr::LOCALHOST {
        return Some(LOOPBACK);
    }
    if address == Ipv6Addr::UNSPECIFIED {
        return Some(UNSPECIFIED);
    }
    if v6(0, 0, 0, 0, 8).contains(&address) {
        return Some(EMBEDDING);
    }
    let known = V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, class)| *class);
    known.or_else(|| (!PUBLIC_V6.contains(&address)).then_some(RESERVED))
}

/// The IPv4 address that packets to this one end at: translated (NAT64) or tunnelled (6to4).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of =
        |at: usize| Ipv4Addr::from((u32::from(segments[at]) << 16) | u32::from(segments[at + 1]));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(of(6)),
        [0x2002, ..] => Some(of(1)),
        _ => None,
    }
}

/// Whether a host may lie there.
fn judge(address: IpAddr, networks: &[IpNet]) -> Result<(), &'static str> {
    match class(address) {
        None => Ok(()),
        Some(class) if class.exempt && networks.iter().any(|one| one.contains(&address)) => Ok(()),
        Some(class) => Err(class.noun),
    }
}

/// All addresses of a host, if all are good. One bad among good ones is how a name is bound again
/// after it was judged, so nothing is picked out.
pub(crate) fn all(addresses: Vec<IpAddr>, networks: &[IpNet]) -> Result<Vec<IpAddr>, Why> {
    // What the system would connect to: `::ffff:10.0.0.1` is 10.0.0.1.
    let addresses: Vec<IpAddr> =
        addresses.into_iter().map(|address| address.to_canonical()).collect();
    let bad: Vec<&str> =
        addresses.iter().filter_map(|address| judge(*address, networks).err()).collect();
    match bad.first() {
        None => Ok(addresses),
        Some(class) if bad.len() == addresses.len() => Err(Why::Address { class }),
        Some(class) => Err(Why::Mixed { class }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(address: &str, networks: &[&str]) -> Result<(), &'static str> {
        let networks: Vec<IpNet> =
            networks.iter().map(|one| one.parse().expect("a network")).collect();
        let address: IpAddr = address.parse().expect("an address");
        judge(address.to_canonical(), &networks)
    }

    #[test]
    fn the_public_internet_is_allowed() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(judged(address, &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_kind() {
        for (address, kind) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.2", "metadata"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("192.0.0.192", "metadata"),
            ("192.0.0.1", "reserved"),
            ("192.0.2.1", "documentation"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("192.88.99.1", "reserved"),
            ("224.0.0.251", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "hides"),
            ("::10.0.0.1", "hides"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::ffff:0:10.0.0.1", "hides"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::a00:1", "hides"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:a00:1::1", "private"),
            ("2001::1", "hides"),
            ("2001:2::1", "benchmarks"),
            ("2001:db8::1", "documentation"),
            ("2001:10::1", "reserved"),
            ("3fff::1", "documentation"),
            ("fc00::1", "private"),
            ("fd12:3456::1", "private"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::fb", "multicast"),
            ("100::1", "reserved"),
            ("5f00::1", "reserved"),
            ("4000::1", "reserved"),
            ("e000::1", "reserved"),
        ] {
            let found = judged(address, &[]).expect_err(address);
            assert!(found.contains(kind), "{address}: {found}");
        }
    }

    #[test]
    fn a_rule_exempts_its_own_networks_and_never_the_machine_itself() {
        assert_eq!(judged("10.1.2.3", &["10.1.0.0/16"]), Ok(()));
        assert_eq!(judged("::ffff:10.1.2.3", &["10.1.0.0/16"]), Ok(()));
        assert_eq!(judged("203.0.113.80", &["203.0.113.0/24"]), Ok(()));
        assert_eq!(judged("fd12::1", &["fd12::/16"]), Ok(()));
        assert_eq!(judged("100.64.0.1", &["100.64.0.0/10"]), Ok(()));
        assert!(judged("10.2.2.3", &["10.1.0.0/16"]).is_err());
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(judged(address, &["0.0.0.0/0", "::/0"]).is_err(), "{address}");
        }
    }

    #[test]
    fn one_bad_address_spoils_the_good_ones() {
        let parse = |texts: &[&str]| texts.iter().map(|one| one.parse().expect("one")).collect();
        let good: Vec<IpAddr> = parse(&["1.1.1.1", "::ffff:8.8.8.8"]);
        assert_eq!(all(good, &[]), Ok(parse(&["1.1.1.1", "8.8.8.8"])));
        let mixed = all(parse(&["1.1.1.1", "127.0.0.1"]), &[]);
        assert_eq!(mixed, Err(Why::Mixed { class: LOOPBACK.noun }));
        let bad = all(parse(&["10.0.0.1", "10.0.0.2"]), &[]);
        assert_eq!(bad, Err(Why::Address { class: PRIVATE.noun }));
    }
}
