//! The world outside as tests need it: hosts with certificates of a private authority, a company's
//! proxy that writes down what it saw, and names that lead to them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use gateway::{Body, Connector, Names, Unresolved};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::soon;

/// An address of the public internet to which nothing in these tests ever connects.
const SOMEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 215, 14));

/// A company's own authority.
pub(crate) struct PrivateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl PrivateAuthority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "a company");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    fn serve_as(&self, host: &str) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let wanted = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = wanted.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key")
    }
}

/// The head of a request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// A host on loopback.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Host {
    /// One that speaks TLS as `name`, and answers with what the function says.
    pub(crate) async fn start<F, A>(authority: &PrivateAuthority, name: &str, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<Body>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(authority.serve_as(name)));
        let serving = host.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer, seen) =
                    (acceptor.clone(), answer.clone(), Arc::clone(&serving.seen));
                tokio::spawn(async move {
                    // Whoever does not trust this host goes away here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        seen.lock().expect("unpoisoned").push(Seen {
                            target: request.uri().to_string(),
                            headers: request.headers().clone(),
                        });
                        let answer = answer(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        host
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request arrived")
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Names that all lead somewhere, unless there are none.
#[derive(Debug)]
pub(crate) struct Everywhere(pub(crate) bool);

#[async_trait]
impl Names for Everywhere {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        if self.0 { Ok(vec![SOMEWHERE]) } else { Err(Unresolved::NoAddress(host.to_owned())) }
    }
}

/// Connects to a host of these tests, wherever the address lies.
#[derive(Debug)]
pub(crate) struct Steered(pub(crate) SocketAddr);

#[async_trait]
impl Connector for Steered {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        assert_eq!(address.ip(), SOMEWHERE, "only judged addresses are connected to");
        TcpStream::connect(self.0).await
    }
}

/// A company's proxy: every CONNECT and every plain request ends at one host.
#[derive(Debug, Clone)]
pub(crate) struct CompanyProxy {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl CompanyProxy {
    pub(crate) async fn start(leads_to: SocketAddr, refuse: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    seen.lock().expect("unpoisoned").push(head.clone());
                    let answer = match (head.starts_with("CONNECT "), refuse) {
                        (_, true) => "HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n",
                        (true, false) => "HTTP/1.1 200 OK\r\n\r\n",
                        (false, false) => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain",
                    };
                    stream.write_all(answer.as_bytes()).await.expect("is read");
                    if head.starts_with("CONNECT ") && !refuse {
                        let mut host = TcpStream::connect(leads_to).await.expect("a host");
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut host).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    /// The heads of all requests it got.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("unpoisoned").clone()
    }
}

/// A program in a sandbox: TLS through CONNECT, trusting what the bundle beside the socket says.
pub(crate) async fn connect(socket: &Path, host: &str) -> TlsStream<UnixStream> {
    try_connect(socket, host, host).await.expect("a connection")
}

/// The same, with another name in the greeting, and maybe in vain.
pub(crate) async fn try_connect(
    socket: &Path,
    host: &str,
    named: &str,
) -> io::Result<TlsStream<UnixStream>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n").as_bytes())
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head));
    }
    let bundle = std::fs::read(socket.with_file_name("trust.pem"))?;
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&bundle).map(|one| one.expect("PEM"));
    roots.add_parsable_certificates(found);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(named.to_owned()).expect("a name");
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// An HTTP client on such a connection.
pub(crate) async fn client(socket: &Path, host: &str) -> SendRequest<Full<Bytes>> {
    let stream = connect(socket, host).await;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
    tokio::spawn(connection);
    sender
}
