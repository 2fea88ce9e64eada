//! A company's own registry: TLS by an authority that only the operator's file knows, and packages
//! for those who have its token.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gateway::{Body, Connector, Direct, Names, SystemNames, Unresolved, full_body};
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub(crate) const HOST: &str = "packages.company.example";
pub(crate) const TOKEN: &str = "company-token-5ec2e7d0";
/// Where its name leads to; nothing ever connects there.
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 215, 14));

#[derive(Debug)]
pub(crate) struct Company {
    /// The certificate of its authority.
    pub(crate) trust: PathBuf,
    address: SocketAddr,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
    _directory: TempDir,
}

impl Company {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let trust = directory.path().join("company.pem");
        let (config, pem) = certificates();
        std::fs::write(&trust, pem).expect("written");
        let package = Arc::new(package(&directory));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tokens: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let seen = Arc::clone(&tokens);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, package, seen) =
                    (acceptor.clone(), Arc::clone(&package), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        let answer = answer(&request, &package, &seen);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    // A client that has seen enough is none of its business.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { trust, address, tokens, _directory: directory }
    }

    /// What `Authorization` said in each request.
    pub(crate) fn tokens(&self) -> Vec<Option<String>> {
        self.tokens.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn internet(&self) -> Arc<Internet> {
        let system = SystemNames::new("/etc/resolv.conf", "/etc/hosts");
        Arc::new(Internet { system, company: self.address })
    }
}

fn certificates() -> (ServerConfig, String) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(parameters, key);
    let key = KeyPair::generate().expect("a key");
    let wanted = CertificateParams::new([HOST.to_owned()]).expect("a name");
    let certificate = wanted.signed_by(&key, &issuer).expect("signed");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (config, pem)
}

/// A package as npm packs it.
fn package(directory: &TempDir) -> Vec<u8> {
    let place = directory.path().join("package");
    std::fs::create_dir(&place).expect("made");
    let manifest = json!({ "name": "company-thing", "version": "1.0.0", "main": "index.js" });
    std::fs::write(place.join("package.json"), manifest.to_string()).expect("written");
    std::fs::write(place.join("index.js"), "module.exports = 'installed privately';\n")
        .expect("written");
    let packed = Command::new("tar")
        .args(["--create", "--gzip", "package"])
        .current_dir(directory.path())
        .output()
        .expect("tar starts");
    assert!(packed.status.success());
    packed.stdout
}

fn answer(
    request: &Request<Incoming>,
    package: &[u8],
    seen: &Mutex<Vec<Option<String>>>,
) -> Response<Body> {
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.map(|token| token.to_str().expect("text").to_owned());
    seen.lock().expect("unpoisoned").push(token.clone());
    let respond = |status: u16, kind: &str, body: Vec<u8>| {
        let answer = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
        answer.body(full_body(body)).expect("an answer")
    };
    let path = request.uri().path();
    if path == "/open" {
        return respond(200, "text/plain", b"open to all".to_vec());
    }
    if token != Some(format!("Bearer {TOKEN}")) {
        return respond(401, "application/json", br#"{"error":"who are you?"}"#.to_vec());
    }
    match path {
        "/company-thing" => {
            let tarball = format!("https://{HOST}/company-thing/-/company-thing-1.0.0.tgz");
            let version = json!({
                "name": "company-thing", "version": "1.0.0", "main": "index.js",
                "dist": { "tarball": tarball },
            });
            let document = json!({
                "name": "company-thing", "dist-tags": { "latest": "1.0.0" },
                "versions": { "1.0.0": version },
            });
            respond(200, "application/json", document.to_string().into_bytes())
        }
        "/company-thing/-/company-thing-1.0.0.tgz" => {
            respond(200, "application/octet-stream", package.to_vec())
        }
        _ => respond(404, "application/json", b"{}".to_vec()),
    }
}

/// The machine's own, and the company's host beside it.
#[derive(Debug)]
pub(crate) struct Internet {
    system: SystemNames,
    company: SocketAddr,
}

#[async_trait]
impl Names for Internet {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        if host == HOST { Ok(vec![ADDRESS]) } else { self.system.addresses(host).await }
    }
}

#[async_trait]
impl Connector for Internet {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if address.ip() == ADDRESS {
            return TcpStream::connect(self.company).await;
        }
        Direct.connect(address).await
    }
}
