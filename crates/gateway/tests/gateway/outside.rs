//! An internet of this test's own: names with scripted addresses, which all lie on loopback, and
//! servers there that speak TLS and plain HTTP.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gateway::{Connector, Egress, Names, Unresolved};
use protocol::network::{HostRule, NetworkPolicy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::soon;

/// Names, addresses, and where on loopback they really are.
#[derive(Debug, Default)]
pub(crate) struct Internet {
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    servers: Mutex<HashMap<SocketAddr, SocketAddr>>,
    /// Every address that was connected to.
    pub(crate) connected: Mutex<Vec<SocketAddr>>,
}

impl Internet {
    /// The answers about a name, in order; the last one stays.
    pub(crate) fn name(&self, host: &str, answers: &[&[&str]]) {
        let parse = |one: &&str| one.parse().expect("an address");
        let answers = answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        self.names.lock().expect("unpoisoned").insert(host.to_owned(), answers);
    }

    /// What an address leads to.
    pub(crate) fn server(&self, address: &str, real: SocketAddr) {
        let address = address.parse().expect("an address with a port");
        self.servers.lock().expect("unpoisoned").insert(address, real);
    }

    pub(crate) fn connected(&self) -> Vec<String> {
        let connected = self.connected.lock().expect("unpoisoned");
        connected.iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl Names for Internet {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let mut names = self.names.lock().expect("unpoisoned");
        let answers = names.get_mut(host).ok_or_else(|| Unresolved::NoAddress(host.to_owned()))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

#[async_trait]
impl Connector for Internet {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connected.lock().expect("unpoisoned").push(address);
        let real = self.servers.lock().expect("unpoisoned").get(&address).copied();
        TcpStream::connect(real.ok_or(io::ErrorKind::ConnectionRefused)?).await
    }
}

pub(crate) fn rule(host: &str) -> HostRule {
    HostRule::new(host.parse().expect("a pattern"))
}

pub(crate) fn egress(hosts: Vec<HostRule>) -> Egress {
    Egress { policy: NetworkPolicy { hosts, ..NetworkPolicy::default() }, ..Egress::default() }
}

/// A TLS server for a name that sends back what it reads; gives where it is and what trusts it.
pub(crate) async fn tls_echo(name: &str) -> (SocketAddr, TlsConnector) {
    let key = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .expect("a server");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(acceptor.accept(stream).await?);
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    (address, TlsConnector::from(Arc::new(client)))
}

/// Asks for a tunnel; gives the answer's head and what is behind it.
pub(crate) async fn connect(socket: &Path, target: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(socket).await.expect("the gateway listens");
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("is taken");
    let head = soon(head(&mut stream)).await;
    (head, stream)
}

/// Reads to the end of a head and no further.
pub(crate) async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

/// A tunnel with TLS in it.
pub(crate) async fn tls(
    socket: &Path,
    target: &str,
    connector: &TlsConnector,
    name: &str,
) -> io::Result<tokio_rustls::client::TlsStream<UnixStream>> {
    let (head, stream) = connect(socket, target).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    soon(connector.connect(name, stream)).await
}

/// Sends something through an echo and checks that it comes back.
pub(crate) async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(b"there and back").await?;
    stream.flush().await?;
    let mut back = [0; 14];
    soon(stream.read_exact(&mut back)).await?;
    assert_eq!(&back, b"there and back");
    Ok(())
}

/// A plain server that keeps what it reads and answers each connection with these bytes.
pub(crate) async fn plain(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let keep = Arc::clone(&keep);
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut piece = [0; 4096];
                // The request is all there once it ends as these tests' requests do.
                while !(read.ends_with(b"\r\n\r\n") || read.ends_with(b"end")) {
                    match stream.read(&mut piece).await {
                        Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
                        _ => break,
                    }
                }
                keep.lock().expect("unpoisoned").push(String::from_utf8_lossy(&read).into_owned());
                stream.write_all(answer).await
            });
        }
    });
    (address, seen)
}
