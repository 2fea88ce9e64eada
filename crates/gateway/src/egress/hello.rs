//! Reads the TLS greeting at the start of a tunnel, keeping its bytes to be sent on as they came.

use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Why;

/// The record type of a handshake: what TLS begins with.
const HANDSHAKE: u8 = 22;

/// Reads until the greeting is whole and names `host`; gives back all that was read.
///
/// With an encrypted greeting the outer name counts. A tunnel's far end is bound to the host by
/// its address; what the two say inside of TLS is theirs.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    host: &str,
    limit: usize,
    patience: Duration,
) -> Result<Vec<u8>, Why> {
    tokio::time::timeout(patience, whole(stream, host, limit))
        .await
        .unwrap_or(Err(Why::NotTls { what: "it did not arrive in time" }))
}

async fn whole<S: AsyncRead + Unpin>(
    stream: &mut S,
    host: &str,
    limit: usize,
) -> Result<Vec<u8>, Why> {
    let odd = |what| Why::NotTls { what };
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let before = bytes.len();
        if before >= limit {
            return Err(odd("it is too long"));
        }
        let room = (limit - before).min(4096);
        let read = (&mut *stream).take(room as u64).read_buf(&mut bytes).await;
        if read.map_err(|_| odd("the connection broke"))? == 0 {
            return Err(odd("it ends early"));
        }
        if bytes.first() != Some(&HANDSHAKE) {
            return Err(odd("it begins with something else"));
        }
        let mut news = &bytes[before..];
        while !news.is_empty() {
            acceptor.read_tls(&mut news).map_err(|_| odd("it cannot be read"))?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let named = accepted.client_hello().server_name().map(str::to_owned);
                    return if named.as_deref().is_some_and(|name| same(name, host)) {
                        Ok(bytes)
                    } else {
                        let name = named.unwrap_or_else(|| "no host by name".to_owned());
                        Err(Why::ServerName { name })
                    };
                }
                Err(_) => return Err(odd("it cannot be read")),
            }
        }
    }
}

fn same(name: &str, host: &str) -> bool {
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(host)
}

/// What tells a TLS client in its own words that the name is not served here: a fatal alert,
/// `unrecognized_name`.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn greeting(name: &str, sni: bool) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.enable_sni = sni;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("writes to memory");
        bytes
    }

    async fn reading(mut bytes: &[u8], host: &str) -> Result<Vec<u8>, Why> {
        read(&mut bytes, host, 16 * 1024, Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn the_greeting_comes_back_as_it_was() {
        let mut bytes = greeting("a.example", true);
        assert_eq!(reading(&bytes, "a.example").await, Ok(bytes.clone()));
        // The same in two records, and with something behind it.
        let rest = bytes.split_off(40);
        let fragment = |part: &[u8]| {
            let length = u16::try_from(part.len()).expect("short").to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        };
        let mut two = fragment(&bytes[5..]);
        two.extend(fragment(&rest));
        assert_eq!(reading(&two, "a.example").await, Ok(two.clone()));
        let (mut client, mut server) = tokio::io::duplex(1);
        let sent = two.clone();
        let slow = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut client, &sent).await.expect("is read");
            client
        });
        let read = read(&mut server, "a.example", 16 * 1024, Duration::from_secs(10)).await;
        assert_eq!(read, Ok(two));
        slow.await.expect("ends");
    }

    #[tokio::test]
    async fn another_name_or_none_is_refused() {
        let other = reading(&greeting("b.example", true), "a.example").await;
        assert_eq!(other, Err(Why::ServerName { name: "b.example".to_owned() }));
        for bytes in [greeting("a.example", false), greeting("10.0.0.1", true)] {
            let none = reading(&bytes, "a.example").await;
            assert_eq!(none, Err(Why::ServerName { name: "no host by name".to_owned() }));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_greeting_is_refused() {
        let whole = greeting("a.example", true);
        let mut huge = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
        huge.resize(64 * 1024, 0);
        let broken: [&[u8]; 7] = [
            b"",
            b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n",
            b"SSH-2.0-client\r\n",
            &[22, 3, 1, 0, 4, 1, 0, 0, 0],
            &[22, 9, 9, 0xff, 0xff, 1, 2, 3],
            &whole[..whole.len() - 1],
            &huge,
        ];
        for bytes in broken {
            let refused = reading(bytes, "a.example").await;
            assert!(matches!(refused, Err(Why::NotTls { .. })), "{bytes:?}: {refused:?}");
        }
        let (_silent, mut server) = tokio::io::duplex(64);
        let refused = read(&mut server, "a.example", 1024, Duration::from_secs(10)).await;
        assert_eq!(refused, Err(Why::NotTls { what: "it did not arrive in time" }));
    }
}
