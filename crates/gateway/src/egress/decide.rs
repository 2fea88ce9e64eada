//! Decides from a request's head whether a host may be reached: no input or output happens here.

use http::{HeaderMap, Method, Uri, Version, header};
use protocol::network::{HostPattern, HostRule};

use super::{Egress, Why};
use crate::{Denial, Head};

/// A host that may be reached, as far as its name and the request's head tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name: lower case, without a final dot.
    pub host: String,
    /// 443 or 80.
    pub port: u16,
    /// How.
    pub way: Way,
    /// The rule that allows it.
    pub rule: HostRule,
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Bytes are carried both ways after the TLS greeting was compared.
    Tunnel,
    /// TLS ends in the gateway, and every request is judged.
    Intercepted,
    /// One unencrypted request.
    Plain,
}

/// Whether the host a request names may be reached. A sandbox without a binding reaches none.
pub(crate) fn decide(head: Head<'_>, egress: Option<&Egress>) -> Result<Target, Denial> {
    let denied = |why| Denial::Host { host: spelled(head.uri), why };
    judge(head, egress).map_err(denied)
}

fn judge(head: Head<'_>, egress: Option<&Egress>) -> Result<Target, Why> {
    let tunnel = head.method == Method::CONNECT;
    let authority = head.uri.authority().ok_or(Why::Scheme)?;
    if authority.as_str().contains('@') {
        return Err(Why::UserInfo);
    }
    let host = name(authority.host())?;
    let scheme = head.uri.scheme_str();
    match (tunnel, scheme) {
        (true, None) | (false, Some("http")) => {}
        _ => return Err(Why::Scheme),
    }
    let port = match port(authority.as_str(), authority.host())? {
        None if tunnel => return Err(Why::Port),
        port => port.unwrap_or(80),
    };
    if port != if tunnel { 443 } else { 80 } {
        return Err(Why::Port);
    }
    let egress = egress.ok_or(Why::NotListed)?;
    let rule = egress.rule(&host).ok_or(Why::NotListed)?;
    one_host(head, &host, port)?;
    let way = if tunnel {
        without_body(head.headers)?;
        if egress.intercepts(rule, &host) { Way::Intercepted } else { Way::Tunnel }
    } else {
        plain(head, rule)?;
        Way::Plain
    };
    Ok(Target { host, port, way, rule: rule.clone() })
}

/// What a rule says about one request that the gateway can see: the same for plain requests and
/// for those inside of TLS that ends here.
pub(crate) fn request(rule: &HostRule, method: &Method, uri: &Uri) -> Result<(), Why> {
    let forbidden = matches!(*method, Method::TRACE | Method::CONNECT)
        || !(rule.methods.is_empty() || rule.methods.iter().any(|one| one == method.as_str()));
    if forbidden {
        return Err(Why::Method { method: method.to_string() });
    }
    let path = uri.path();
    if rule.paths.is_empty() || (rule.paths.iter().any(|one| beneath(path, one)) && direct(path)) {
        Ok(())
    } else {
        Err(Why::Path { path: path.to_owned() })
    }
}

/// Whether a request inside of TLS that ends here may pass, and by which rule: each is judged, and
/// the rules may have changed since the connection began.
pub(crate) fn inside(head: Head<'_>, host: &str, egress: Option<&Egress>) -> Result<HostRule, Why> {
    if let Some(authority) = head.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Why::UserInfo);
        }
        let named = name(authority.host())?;
        let port = port(authority.as_str(), authority.host())?.unwrap_or(443);
        if head.uri.scheme_str() != Some("https") || named != host || port != 443 {
            return Err(Why::HostHeader);
        }
    }
    one_host(head, host, 443)?;
    if head.headers.contains_key(header::UPGRADE) {
        return Err(Why::Upgrade);
    }
    unambiguous(head.headers, head.version)?;
    let rule = egress.and_then(|egress| egress.rule(host)).ok_or(Why::Withdrawn)?;
    request(rule, head.method, head.uri)?;
    Ok(rule.clone())
}

fn plain(head: Head<'_>, rule: &HostRule) -> Result<(), Why> {
    if !rule.plain {
        return Err(Why::Plain);
    }
    if head.headers.contains_key(header::UPGRADE) {
        return Err(Why::Upgrade);
    }
    unambiguous(head.headers, head.version)?;
    request(rule, head.method, head.uri)
}

/// What follows CONNECT belongs to the tunnel.
fn without_body(headers: &HeaderMap) -> Result<(), Why> {
    let empty = headers.get_all(header::CONTENT_LENGTH).iter().all(|length| length == "0");
    if empty && !headers.contains_key(header::TRANSFER_ENCODING) {
        Ok(())
    } else {
        Err(Why::Framing)
    }
}

/// Refuses bodies of which two servers could find different ends.
pub(crate) fn unambiguous(headers: &HeaderMap, version: Version) -> Result<(), Why> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let encoded = match (encodings.next(), encodings.next()) {
        (None, _) => false,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Why::Framing),
    };
    let old = version < Version::HTTP_11;
    if lengths > 1 || (encoded && (lengths > 0 || old)) { Err(Why::Framing) } else { Ok(()) }
}

fn beneath(path: &str, allowed: &str) -> bool {
    let allowed = allowed.strip_suffix('/').unwrap_or(allowed);
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path means what it says: servers differ in what they make of these, so a path under
/// an allowed one could end up elsewhere.
fn direct(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    !["%2e", "%2f", "%5c", "%25", "%00", "\\", "//", ";"].iter().any(|odd| lower.contains(odd))
        && !path.split('/').any(|segment| segment == "." || segment == "..")
}

/// A host's name in the spelling of rules: names only, addresses in no notation.
fn name(host: &str) -> Result<String, Why> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if host.starts_with('[') || number || last.starts_with("0x") {
        return Err(Why::Literal);
    }
    if host.starts_with('*') || host.parse::<HostPattern>().is_err() {
        return Err(Why::Name);
    }
    Ok(host)
}

/// The port as digits only: `Authority::port` also takes what is empty.
fn port(authority: &str, host: &str) -> Result<Option<u16>, Why> {
    match authority.strip_prefix(host) {
        Some("") => Ok(None),
        Some(rest) => match rest.strip_prefix(':') {
            Some(digits)
                if !digits.is_empty() && digits.bytes().all(|one| one.is_ascii_digit()) =>
            {
                digits.parse().map(Some).map_err(|_| Why::Port)
            }
            _ => Err(Why::Port),
        },
        None => Err(Why::Name),
    }
}

/// The `Host` header, where there is one, names the target.
fn one_host(head: Head<'_>, host: &str, port: u16) -> Result<(), Why> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let (Some(first), None) = (named.next(), named.next()) else {
        let none = !head.headers.contains_key(header::HOST);
        return if none { Ok(()) } else { Err(Why::HostHeader) };
    };
    let first = first.to_str().map_err(|_| Why::HostHeader)?;
    let (named, digits) = match first.split_once(':') {
        Some((named, digits)) => (named, Some(digits)),
        None => (first, None),
    };
    let same_port = digits.is_none_or(|digits| digits.parse() == Ok(port));
    if same_port && name(named).is_ok_and(|named| named == host) {
        Ok(())
    } else {
        Err(Why::HostHeader)
    }
}

/// Host and port as asked for, without user and password: they may be credentials and would reach
/// events and the audit file.
pub(crate) fn spelled(uri: &Uri) -> String {
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use protocol::network::NetworkPolicy;

    use super::*;

    fn rule(host: &str) -> HostRule {
        HostRule::new(host.parse().expect("a pattern"))
    }

    fn egress() -> Egress {
        let plain = HostRule { plain: true, ..rule("plain.example") };
        let paths = HostRule {
            plain: true,
            paths: vec!["/pool".to_owned(), "/dists/".to_owned()],
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            ..rule("paths.example")
        };
        let hosts = vec![
            rule("registry.example"),
            rule("*.beneath.example"),
            rule("xn--mnchen-3ya.example"),
            plain,
            paths,
        ];
        Egress { policy: NetworkPolicy { hosts, ..NetworkPolicy::default() }, ..Egress::default() }
    }

    fn ask(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Result<Target, Why> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let uri: Uri = target.parse().expect("a target");
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).expect("a value");
                (header::HeaderName::from_static(name), value)
            })
            .collect();
        let version = Version::HTTP_11;
        let head = Head { method: &method, uri: &uri, headers: &headers, version };
        judge(head, Some(&egress()))
    }

    #[test]
    fn a_listed_name_is_reached_in_every_spelling_of_it() {
        for target in ["registry.example:443", "REGISTRY.example:443", "registry.example.:443"] {
            let found = ask("CONNECT", target, &[]).expect(target);
            assert_eq!((found.host.as_str(), found.port), ("registry.example", 443));
            assert_eq!(found.way, Way::Tunnel);
        }
        for target in ["a.beneath.example:443", "a.b.beneath.example:443"] {
            assert!(ask("CONNECT", target, &[]).is_ok(), "{target}");
        }
        assert!(ask("CONNECT", "xn--mnchen-3ya.example:443", &[]).is_ok());
        assert_eq!(ask("CONNECT", "paths.example:443", &[]).expect("listed").way, Way::Intercepted);
        let plain = ask("GET", "http://plain.example/x?y", &[("host", "plain.example")]);
        assert_eq!(plain.expect("allowed").way, Way::Plain);
        assert!(ask("POST", "http://plain.example:80/x", &[("host", "plain.example")]).is_ok());
    }

    #[test]
    fn everything_else_is_refused_for_what_it_is() {
        let table = [
            ("CONNECT", "other.example:443", Why::NotListed),
            ("CONNECT", "beneath.example:443", Why::NotListed),
            ("CONNECT", "evilregistry.example:443", Why::NotListed),
            ("CONNECT", "registry.example.evil:443", Why::NotListed),
            ("CONNECT", "localhost:443", Why::NotListed),
            ("CONNECT", "registry.example", Why::Port),
            ("CONNECT", "registry.example:22", Why::Port),
            ("CONNECT", "registry.example:25", Why::Port),
            ("CONNECT", "registry.example:80", Why::Port),
            ("CONNECT", "registry.example:", Why::Port),
            ("CONNECT", "user@registry.example:443", Why::UserInfo),
            ("CONNECT", "a:b@registry.example:443", Why::UserInfo),
            ("CONNECT", "10.0.0.1:443", Why::Literal),
            ("CONNECT", "127.1:443", Why::Literal),
            ("CONNECT", "0177.0.0.1:443", Why::Literal),
            ("CONNECT", "0x7f.0.0.1:443", Why::Literal),
            ("CONNECT", "0x7f000001:443", Why::Literal),
            ("CONNECT", "2130706433:443", Why::Literal),
            ("CONNECT", "10.0.0.1.:443", Why::Literal),
            ("CONNECT", "[::1]:443", Why::Literal),
            ("CONNECT", "[::ffff:10.0.0.1]:443", Why::Literal),
            ("CONNECT", "registry..example:443", Why::Name),
            ("CONNECT", "registry.example..:443", Why::Name),
            ("CONNECT", "*.beneath.example:443", Why::Name),
            ("GET", "http://registry.example/", Why::Plain),
            ("GET", "https://registry.example/", Why::Scheme),
            ("GET", "ftp://plain.example/", Why::Scheme),
            ("GET", "http://plain.example:8080/", Why::Port),
            ("GET", "http://plain.example:443/", Why::Port),
            ("GET", "http://169.254.169.254/latest/meta-data", Why::Literal),
            ("GET", "http://user:key@plain.example/", Why::UserInfo),
            ("TRACE", "http://plain.example/", Why::Method { method: "TRACE".to_owned() }),
            ("POST", "http://paths.example/pool/a", Why::Method { method: "POST".to_owned() }),
        ];
        for (method, target, why) in table {
            assert_eq!(ask(method, target, &[]), Err(why), "{method} {target}");
        }
    }

    #[test]
    fn an_unbound_sandbox_reaches_no_host() {
        let uri: Uri = "registry.example:443".parse().expect("a target");
        let (headers, version) = (HeaderMap::new(), Version::HTTP_11);
        let head = Head { method: &Method::CONNECT, uri: &uri, headers: &headers, version };
        assert_eq!(judge(head, None), Err(Why::NotListed));
        assert_eq!(judge(head, Some(&Egress::default())), Err(Why::NotListed));
    }

    #[test]
    fn paths_are_whole_segments_and_mean_what_they_say() {
        for path in ["/pool", "/pool/a/b.deb", "/dists/x", "/dists", "/pool/a?b=../c"] {
            assert!(ask("GET", &format!("http://paths.example{path}"), &[]).is_ok(), "{path}");
        }
        for path in [
            "/",
            "/pools",
            "/pool/../secret",
            "/pool/%2e%2e/secret",
            "/pool/%2E./secret",
            "/pool/..%2fsecret",
            "/pool//secret",
            "/pool/a;b",
            "/pool/%252e%252e/secret",
            "/POOL/a",
        ] {
            let refused = ask("GET", &format!("http://paths.example{path}"), &[]);
            assert!(matches!(refused, Err(Why::Path { .. })), "{path}: {refused:?}");
        }
    }

    #[test]
    fn one_request_has_one_host_and_one_end() {
        let target = "http://plain.example/";
        for (headers, why) in [
            (&[("host", "other.example")] as &[_], Why::HostHeader),
            (&[("host", "plain.example"), ("host", "plain.example")], Why::HostHeader),
            (&[("host", "plain.example:8080")], Why::HostHeader),
            (&[("host", "plain.example@other.example")], Why::HostHeader),
            (&[("upgrade", "websocket")], Why::Upgrade),
            (&[("content-length", "1"), ("transfer-encoding", "chunked")], Why::Framing),
            (&[("content-length", "1"), ("content-length", "2")], Why::Framing),
            (&[("transfer-encoding", "gzip, chunked")], Why::Framing),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "x")], Why::Framing),
        ] {
            assert_eq!(ask("POST", target, headers), Err(why), "{headers:?}");
        }
        assert!(ask("GET", target, &[("host", "PLAIN.example:80")]).is_ok());
        for body in [("content-length", "5"), ("transfer-encoding", "chunked")] {
            let with_body = ask("CONNECT", "registry.example:443", &[body]);
            assert_eq!(with_body, Err(Why::Framing));
        }
        let mismatched = ask("CONNECT", "registry.example:443", &[("host", "other.example:443")]);
        assert_eq!(mismatched, Err(Why::HostHeader));
    }

    #[test]
    fn a_secret_for_a_host_lets_the_gateway_look_inside() {
        let mut egress = egress();
        egress.credentials.push(super::super::Credential {
            name: "TOKEN".parse().expect("a name"),
            placeholder: "placeholder".to_owned(),
            value: "value".to_owned().into(),
            hosts: vec!["registry.example".parse().expect("a pattern")],
        });
        let rule = egress.rule("registry.example").expect("listed");
        assert!(egress.intercepts(rule, "registry.example"));
        assert!(!egress.intercepts(rule, "other.example"));
        assert!(!format!("{egress:?}").contains("\"value\""));
    }
}
