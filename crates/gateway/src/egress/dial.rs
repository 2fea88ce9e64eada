//! Connects to addresses that were judged, and never asks for a name again.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// How long one address is tried before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried at most.
const ADDRESSES: usize = 8;

/// Opens connections to the outside.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// Connects to exactly this address.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Connections of the machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

#[async_trait]
impl Connector for Direct {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // A peer that vanished must not hold one of the sandbox's connections for ever.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_mins(1))?;
        Ok(stream)
    }
}

/// The first connection that comes about, and to which address it goes.
pub(crate) async fn dial(
    connector: &dyn Connector,
    addresses: &[IpAddr],
    port: u16,
    patience: Duration,
) -> io::Result<(TcpStream, IpAddr)> {
    let nowhere = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(patience, race(connector, alternate(addresses), port))
        .await
        .unwrap_or_else(|_| Err(nowhere()))
}

async fn race(
    connector: &dyn Connector,
    addresses: Vec<IpAddr>,
    port: u16,
) -> io::Result<(TcpStream, IpAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    let mut waiting = addresses.into_iter().take(ADDRESSES);
    let mut trying = FuturesUnordered::new();
    let mut next = waiting.next();
    loop {
        if let Some(address) = next.take() {
            trying.push(async move {
                (connector.connect(SocketAddr::new(address, port)).await, address)
            });
        }
        tokio::select! {
            tried = trying.next() => match tried {
                Some((Ok(stream), address)) => return Ok((stream, address)),
                Some((Err(error), _)) => {
                    last = error;
                    next = waiting.next();
                    if next.is_none() && trying.is_empty() {
                        return Err(last);
                    }
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => next = waiting.next(),
        }
    }
}

/// Both families in turn, so that one that leads nowhere costs one stagger only.
fn alternate(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (mut fours, mut sixes) = (Vec::new(), Vec::new());
    for address in addresses {
        if address.is_ipv4() { fours.push(*address) } else { sixes.push(*address) }
    }
    let longer = fours.len().max(sixes.len());
    (0..longer).flat_map(|at| [fours.get(at).copied(), sixes.get(at).copied()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Connects to the good address only; what is silent never answers.
    #[derive(Debug)]
    struct Odd {
        good: IpAddr,
        listener: SocketAddr,
        refuses: Vec<IpAddr>,
        tried: Mutex<Vec<IpAddr>>,
    }

    #[async_trait]
    impl Connector for Odd {
        async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
            self.tried.lock().expect("unpoisoned").push(address.ip());
            if address.ip() == self.good {
                return TcpStream::connect(self.listener).await;
            }
            if self.refuses.contains(&address.ip()) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            std::future::pending().await
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn silent_and_refusing_addresses_do_not_hide_the_good_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let odd = Odd {
            good: ip("1.0.0.3"),
            listener: listener.local_addr().expect("an address"),
            refuses: vec![ip("1.0.0.2")],
            tried: Mutex::default(),
        };
        let addresses = [ip("1.0.0.1"), ip("1.0.0.2"), ip("2600::1"), ip("1.0.0.3")];
        let found = dial(&odd, &addresses, 443, Duration::from_secs(10)).await;
        assert_eq!(found.expect("connects").1, ip("1.0.0.3"));
        let tried = odd.tried.lock().expect("unpoisoned").clone();
        assert_eq!(tried, [ip("1.0.0.1"), ip("2600::1"), ip("1.0.0.2"), ip("1.0.0.3")]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers_for_ever() {
        let odd = Odd {
            good: ip("1.0.0.9"),
            listener: "127.0.0.1:1".parse().expect("an address"),
            refuses: vec![ip("1.0.0.2")],
            tried: Mutex::default(),
        };
        let error = dial(&odd, &[ip("1.0.0.1")], 443, Duration::from_secs(10)).await;
        assert_eq!(error.expect_err("silent").kind(), io::ErrorKind::TimedOut);
        let error = dial(&odd, &[ip("1.0.0.2")], 443, Duration::from_secs(10)).await;
        assert_eq!(error.expect_err("refuses").kind(), io::ErrorKind::ConnectionRefused);
    }
}
