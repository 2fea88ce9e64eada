//! The installation's own certificate authority, which only its sandboxes trust.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lru::LruCache;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_hours(24);
const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3652);
/// An authority that ends sooner is replaced when the server starts.
const REPLACED_BEFORE: Duration = Duration::from_hours(24 * 30);
const HOST_LIFE: Duration = Duration::from_hours(24 * 7);
/// Clocks in microVMs may be behind.
const BACKDATED: Duration = Duration::from_hours(1);
/// Hosts whose certificates are kept ready.
const HOSTS: NonZeroUsize = NonZeroUsize::new(512).expect("more than none");

/// What can go wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file cannot be read or written.
    #[error("keeping the certificate authority of this installation in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file holds something else.
    #[error(
        "the certificate authority in {} is damaged: move the file away, and the server makes a \
         new one when it starts",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("making a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate cannot be used.
    #[error("using a certificate for TLS")]
    Tls(#[from] rustls::Error),
}

/// What the file holds. It is the only place of the private key, so nothing here can be printed.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    current: Dated,
    /// Earlier authorities, until they end: programs that run may still meet their certificates.
    #[serde(default)]
    former: Vec<Dated>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Dated {
    certificate: String,
    /// Seconds since 1970.
    ends: u64,
}

/// Signs certificates of the hosts that are intercepted.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ends: SystemTime,
    certificates: String,
    /// One key for all hosts, new with every server and kept in memory only.
    host_key: KeyPair,
    provider: Arc<CryptoProvider>,
    hosts: Mutex<LruCache<String, Ready>>,
}

struct Ready {
    until: SystemTime,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Authority {
    /// Takes up the authority kept in a file, or makes one.
    pub(crate) fn open(path: &Path, now: SystemTime) -> Result<Self, Error> {
        let stored = match fs::read_to_string(path) {
            Ok(text) => Some(
                serde_json::from_str::<Stored>(&text)
                    .map_err(|_| Error::Damaged { path: path.to_owned() })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::File { path: path.to_owned(), source }),
        };
        let stored = match stored {
            Some(stored) if seconds(now + REPLACED_BEFORE) < stored.current.ends => stored,
            former => {
                let stored = create(former, now)?;
                write(path, &stored)
                    .map_err(|source| Error::File { path: path.to_owned(), source })?;
                stored
            }
        };
        let damaged = |_| Error::Damaged { path: path.to_owned() };
        let key = KeyPair::from_pem(&stored.key).map_err(damaged)?;
        let former = stored.former.iter().filter(|former| former.ends > seconds(now));
        let certificates = std::iter::once(&stored.current).chain(former);
        Ok(Self {
            issuer: Issuer::new(parameters(&key), key),
            ends: UNIX_EPOCH + Duration::from_secs(stored.current.ends),
            certificates: certificates.map(|dated| dated.certificate.as_str()).collect(),
            host_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            provider: Arc::new(aws_lc_rs::default_provider()),
            hosts: Mutex::new(LruCache::new(HOSTS)),
        })
    }

    /// The certificates that sandboxes trust, in PEM.
    pub(crate) fn certificates(&self) -> &str {
        &self.certificates
    }

    /// How to answer TLS as a host.
    pub(crate) fn serve_as(&self, host: &str, now: SystemTime) -> Result<Arc<ServerConfig>, Error> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = hosts.get(host)
            && now < ready.until
        {
            return Ok(Arc::clone(&ready.config));
        }
        let ends = self.ends.min(now + HOST_LIFE);
        let config = Arc::new(self.sign(host, now, ends)?);
        // Never one that ends while a connection that begins now is likely to live.
        let ready = Ready { until: ends - DAY, config: Arc::clone(&config) };
        hosts.put(host.to_owned(), ready);
        Ok(config)
    }

    fn sign(&self, host: &str, now: SystemTime, ends: SystemTime) -> Result<ServerConfig, Error> {
        let mut wanted = CertificateParams::new([host.to_owned()])?;
        wanted.distinguished_name = DistinguishedName::new();
        // The field holds 64 characters; programs look at the list of names.
        let name = if host.len() <= 64 { host } else { "a host behind Hangar" };
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.not_before = (now - BACKDATED).into();
        wanted.not_after = ends.into();
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wanted.use_authority_key_identifier_extension = true;
        let certificate = wanted.signed_by(&self.host_key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.host_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nothing of one sandbox's connections stays for another's.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// What every certificate of an authority with this key says. Its name follows from the key, so
/// that programs can tell a new authority from an old one.
fn parameters(key: &KeyPair) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let digits = parameters.key_identifier(key);
    let digits = digits.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Hangar");
    parameters
        .distinguished_name
        .push(DnType::CommonName, format!("Hangar sandboxes {digits:08x}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn create(before: Option<Stored>, now: SystemTime) -> Result<Stored, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut wanted = parameters(&key);
    let ends = now + AUTHORITY_LIFE;
    wanted.not_before = (now - BACKDATED).into();
    wanted.not_after = ends.into();
    let certificate = wanted.self_signed(&key)?.pem();
    let mut former = Vec::new();
    if let Some(before) = before {
        former.push(before.current);
        former.extend(before.former);
        former.retain(|dated| dated.ends > seconds(now));
    }
    let current = Dated { certificate, ends: seconds(ends) };
    Ok(Stored { key: key.serialize_pem(), current, former })
}

/// Whole or not at all, for the server's user only.
fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let text = serde_json::to_vec(stored)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn client(bundle: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("an authority");
        }
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    async fn greets(authority: &Authority, bundle: &str, served: &str, asked: &str) -> bool {
        let config = authority.serve_as(served, SystemTime::now()).expect("a certificate");
        let (near, far) = tokio::io::duplex(65536);
        let accepting = tokio_rustls::TlsAcceptor::from(config).accept(far);
        let name = ServerName::try_from(asked.to_owned()).expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client(bundle)));
        let (_, connected) = tokio::join!(accepting, connector.connect(name, near));
        connected.is_ok()
    }

    #[tokio::test]
    async fn a_host_is_believed_by_those_who_trust_the_authority_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let open = |name: &str| Authority::open(&directory.path().join(name), now).expect("opens");
        let (own, other) = (open("authority.json"), open("other.json"));
        let long = format!("{}.example", vec!["a".repeat(60); 4].join("."));
        for host in ["registry.example", long.as_str()] {
            assert!(greets(&own, own.certificates(), host, host).await, "{host}");
        }
        let host = "registry.example";
        assert!(!greets(&own, other.certificates(), host, host).await);
        assert!(!greets(&own, own.certificates(), host, "other.example").await);
        let again = open("authority.json");
        assert!(greets(&again, own.certificates(), host, host).await, "kept over a restart");
    }

    #[test]
    fn the_key_is_private_and_nothing_prints_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        let authority = Authority::open(&path, SystemTime::now()).expect("opens");
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(!authority.certificates().contains("PRIVATE"));
        let shown = format!("{authority:?}");
        let stored: Stored =
            serde_json::from_str(&fs::read_to_string(&path).expect("there")).expect("JSON");
        let line = stored.key.lines().nth(1).expect("a line of the key");
        assert!(!shown.contains(line), "{shown}");
    }

    #[test]
    fn one_that_ends_soon_is_replaced_and_trusted_until_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        let now = SystemTime::now();
        let first = Authority::open(&path, now).expect("opens").certificates().to_owned();
        let soon = now + AUTHORITY_LIFE - REPLACED_BEFORE;
        let kept = Authority::open(&path, soon - DAY).expect("opens");
        assert_eq!(kept.certificates(), first);
        let replaced = Authority::open(&path, soon).expect("opens");
        let both = replaced.certificates().to_owned();
        assert!(both.len() > first.len() && both.ends_with(&first), "{both}");
        let later = Authority::open(&path, soon + REPLACED_BEFORE + DAY).expect("opens");
        assert!(!later.certificates().contains(&first), "the ended one is gone");
        assert!(both.starts_with(later.certificates()));
    }

    #[test]
    fn certificates_are_kept_ready_until_they_are_old() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let authority = Authority::open(&directory.path().join("a.json"), now).expect("opens");
        let at = |host: &str, days| authority.serve_as(host, now + DAY * days).expect("signs");
        let first = at("a.example", 0);
        assert!(Arc::ptr_eq(&first, &at("a.example", 5)));
        assert!(!Arc::ptr_eq(&first, &at("a.example", 6)));
        for number in 0..=HOSTS.get() {
            at(&format!("host-{number}.example"), 0);
        }
        assert_eq!(authority.hosts.lock().expect("unpoisoned").len(), HOSTS.get());
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        fs::write(&path, "{}").expect("written");
        let error = Authority::open(&path, SystemTime::now()).expect_err("damaged");
        assert!(error.to_string().contains("move the file away"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "{}");
    }
}
