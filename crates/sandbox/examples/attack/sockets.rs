//! Attacks through sockets: raw frames, families that know no namespace, names without a file.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crate::calls::{Attempted, any, argument, call, descriptor, told};

fn socket(name: &str, family: i32, kind: i32, protocol: i32) -> Attempted {
    let arguments = [family, kind, protocol].map(|number| number as usize);
    drop(descriptor(call(name, libc::SYS_socket, arguments)?));
    Ok(format!("{name} is open"))
}

/// Frames as they are on the wire.
pub(crate) fn raw(_: &[String]) -> Attempted {
    any([
        socket("raw ICMP", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        socket("raw ICMPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        socket("any raw IP", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        socket("frames", libc::AF_PACKET, libc::SOCK_RAW, 0x0300),
        socket("old frames", libc::AF_INET, 10, 0x0300),
    ])
}

/// Every family but those that programs need: vsock leads to the hypervisor.
pub(crate) fn families(arguments: &[String]) -> Attempted {
    let usual = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let only: Option<i32> = argument(arguments, 0).parse().ok();
    let all = (0..64).filter(|family| !usual.contains(family));
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW];
    let wanted = all.filter(|family| only.is_none_or(|it| it == *family));
    let answer = any(wanted
        .flat_map(|family| kinds.map(|kind| socket(&format!("family {family}"), family, kind, 0))));
    answer.map_err(|all| {
        let mut errors: Vec<String> =
            all.iter().filter_map(|one| one.rsplit(' ').next().map(str::to_owned)).collect();
        errors.sort();
        errors.dedup();
        errors
    })
}

/// Doors to parts of the kernel that only administrators need: firewall, keys of tunnels, audit.
pub(crate) fn netlink(_: &[String]) -> Attempted {
    any([(6, "xfrm"), (9, "audit"), (12, "netfilter"), (16, "generic"), (18, "scsi")]
        .map(|(protocol, name)| socket(name, libc::AF_NETLINK, libc::SOCK_RAW, protocol)))
}

/// Connects to a name that is no file.
pub(crate) fn abstract_connect(arguments: &[String]) -> Attempted {
    let name = argument(arguments, 0);
    let address = told("address", SocketAddr::from_abstract_name(name))?;
    told("connect", UnixStream::connect_addr(&address))?;
    Ok(format!("connected to {name}"))
}

/// Listens on such a name for some seconds, or until somebody connects.
pub(crate) fn abstract_listen(arguments: &[String]) -> Attempted {
    let name = argument(arguments, 0);
    let seconds = argument(arguments, 1).parse().unwrap_or(5);
    let address = told("address", SocketAddr::from_abstract_name(name))?;
    let listener = told("listen", UnixListener::bind_addr(&address))?;
    // SAFETY: an alarm ends this process when nobody comes.
    unsafe { libc::alarm(seconds) };
    told("accept", listener.accept())?;
    Ok(format!("somebody came to {name}"))
}
