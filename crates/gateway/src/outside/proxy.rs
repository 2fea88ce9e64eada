//! The host's own proxy, if there is one: which connections go through it, and how.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use reqwest::Url;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::trust::Trust;

/// A stream of bytes to somewhere outside.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An address of a proxy that cannot be used. It does not repeat the address, which may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} does not name a proxy: write http://[user:password@]host:port")]
pub struct InvalidProxy {
    /// Where it came from.
    pub variable: &'static str,
}

/// Which proxy leads outside; the default is none.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    https: Option<Arc<Endpoint>>,
    http: Option<Arc<Endpoint>>,
    direct: Vec<Exception>,
}

/// A proxy server.
pub(crate) struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    authorization: Option<SecretString>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Endpoint({self})")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(formatter, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// A host that is reached without the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    /// The name itself and all beneath it, at one port or at all.
    Name(String, Option<u16>),
    Network(IpNet),
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::Network(network));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.');
        Some(Self::Name(name.to_owned(), port))
    }

    fn fits(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => {
                host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address))
            }
            Self::Name(name, only) => {
                only.is_none_or(|only| only == port)
                    && host
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

impl Proxy {
    /// From the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. Like curl and Go, a name in
    /// the last one means all beneath it too; `*` means every host, and networks are compared with
    /// hosts that are written as addresses.
    pub fn new(
        https: Option<&SecretString>,
        http: Option<&SecretString>,
        direct: &str,
    ) -> Result<Self, InvalidProxy> {
        let endpoint = |variable, address: Option<&SecretString>| {
            let address = address.map(ExposeSecret::expose_secret).map(str::trim);
            let address = address.filter(|address| !address.is_empty());
            address
                .map(|text| Endpoint::parse(text).map(Arc::new).ok_or(InvalidProxy { variable }))
                .transpose()
        };
        Ok(Self {
            https: endpoint("HTTPS_PROXY", https)?,
            http: endpoint("HTTP_PROXY", http)?,
            direct: direct.split(',').filter_map(Exception::parse).collect(),
        })
    }

    /// The proxy for encrypted connections to a host; none when it is reached directly.
    pub(crate) fn for_https(&self, host: &str, port: u16) -> Option<&Endpoint> {
        self.https.as_deref().filter(|_| !self.is_direct(host, port))
    }

    /// The proxy for unencrypted requests to a host.
    pub(crate) fn for_http(&self, host: &str, port: u16) -> Option<&Endpoint> {
        self.http.as_deref().filter(|_| !self.is_direct(host, port))
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let here = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        here || self.direct.iter().any(|exception| exception.fits(&host, port))
    }
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&url).ok()?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default()?;
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let user = percent_decoded(url.username());
            let password = percent_decoded(url.password().unwrap_or_default());
            let both = [user.as_slice(), b":", &password].concat();
            SecretString::from(format!("Basic {}", STANDARD.encode(both)))
        });
        Some(Self { secure, host, port, authorization })
    }

    /// The same for a client of model providers.
    pub(crate) fn for_reqwest(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        let proxy = reqwest::Proxy::all(self.to_string())?;
        Ok(match self.authorization() {
            Some(value) => proxy.custom_http_auth(value),
            None => proxy,
        })
    }

    /// What `Proxy-Authorization` says, marked so that nothing prints it.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let secret = self.authorization.as_ref()?;
        let mut value = HeaderValue::from_str(secret.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A connection to the proxy itself, for requests that name their whole target.
    pub(crate) async fn connect(&self, trust: &Trust) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        if !self.secure {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let config = trust.client(&[b"http/1.1"]).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// A connection through the proxy to `host:port`.
    pub(crate) async fn tunnel(&self, target: &str, trust: &Trust) -> io::Result<Box<dyn Stream>> {
        let stream = self.connect(trust).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driving = tokio::spawn(connection.with_upgrades());
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse().map_err(io::Error::other)?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(target).map_err(io::Error::other)?);
        if let Some(value) = self.authorization() {
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if answer.status() != StatusCode::OK {
            driving.abort();
            return Err(io::Error::other(format!(
                "the proxy {self} answered {} to CONNECT {target}",
                answer.status()
            )));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

/// Bytes with every `%xx` replaced; what is no such escape stays.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| more.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &more[2..] } else { more };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(direct: &str) -> Proxy {
        let address = SecretString::from("http://ada:p%40ss@proxy.example:3128");
        Proxy::new(Some(&address), Some(&address), direct).expect("a proxy")
    }

    #[test]
    fn exceptions_are_names_networks_and_everything() {
        let with = proxy(
            "internal.example, .dotted.example,*.star.example, 10.0.0.0/8, only.example:8443,[2001:db8::1]",
        );
        for (host, port, direct) in [
            ("internal.example", 443, true),
            ("deep.internal.example", 443, true),
            ("notinternal.example", 443, false),
            ("a.dotted.example", 443, true),
            ("a.star.example", 443, true),
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("only.example", 8443, true),
            ("only.example", 443, false),
            ("2001:db8::1", 443, true),
            ("localhost", 80, true),
            ("127.0.0.9", 80, true),
            ("other.example", 443, false),
        ] {
            assert_eq!(with.for_https(host, port).is_none(), direct, "{host}:{port}");
        }
        assert!(proxy("*").for_http("other.example", 80).is_none());
        assert!(proxy("").for_http("other.example", 80).is_some());
        assert!(Proxy::default().for_https("other.example", 443).is_none());
    }

    #[test]
    fn a_password_is_sent_and_never_printed() {
        let with = proxy("");
        let endpoint = with.for_https("other.example", 443).expect("a proxy");
        let sent = endpoint.authorization().expect("a header");
        let encoded = STANDARD.encode("ada:p@ss");
        assert_eq!(sent.as_bytes(), format!("Basic {encoded}").as_bytes());
        let shown = format!("{with:?} {endpoint} {sent:?}");
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        assert!(!shown.contains(&encoded), "{shown}");
        assert!(shown.contains("http://proxy.example:3128"), "{shown}");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        for bad in ["socks5://ada:secret@proxy:1", "http://", "ftp://ada:secret@x"] {
            let address = SecretString::from(bad);
            let error = Proxy::new(Some(&address), None, "").expect_err("no proxy");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let bare = SecretString::from("proxy.example:3128");
        let with = Proxy::new(Some(&bare), None, "").expect("a proxy");
        let endpoint = with.for_https("a.example", 443).expect("a proxy");
        assert_eq!(endpoint.to_string(), "http://proxy.example:3128");
    }
}
