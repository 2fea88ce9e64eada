//! Taking the port, and saying what to do when it cannot be had.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another program has the port.
    #[error(
        "port {} on {} is in use: stop the program that listens there (`ss -ltnp 'sport = {}'` names it), or choose another port, 0 for any free one",
        address.port(), address.ip(), address.port()
    )]
    InUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// This user may not take the port.
    #[error("listening on {address} is not permitted: choose a port above 1023")]
    NotPermitted {
        /// What was asked for.
        address: SocketAddr,
    },
    /// This machine has no such address.
    #[error("this machine has no address {}: choose one of its own, such as 127.0.0.1", address.ip())]
    NoSuchAddress {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system refused for another reason.
    #[error("listening on {address} failed")]
    Other {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Listens on an address; port 0 for any free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::InUse { address },
        ErrorKind::PermissionDenied => Error::NotPermitted { address },
        ErrorKind::AddrNotAvailable => Error::NoSuchAddress { address },
        _ => Error::Other { address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = first.local_addr().expect("its address");
        let error = bind(address).await.expect_err("taken");
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("port {} on 127.0.0.1", address.port())), "{text}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let error = bind(([192, 0, 2, 1], 0).into()).await.expect_err("not ours");
        assert!(matches!(error, Error::NoSuchAddress { .. }), "{error:?}");
    }
}
