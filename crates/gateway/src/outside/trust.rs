//! Whom connections to the outside trust: the system's certificates and the operator's.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "reading the certificates to trust in {}: {why}; name a file with certificates in PEM",
    path.display()
)]
pub struct UnreadableTrust {
    /// The operator's file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// The certificates of authorities, for the gateway itself and for programs in sandboxes.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    pem: String,
}

impl Trust {
    /// The system's store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` put in its place, and the
    /// certificates of the operator's file.
    pub(crate) fn read(extra: Option<&Path>) -> Result<Self, UnreadableTrust> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a part of the system's certificates is not trusted");
        }
        let mut certificates = found.certs;
        if let Some(path) = extra {
            certificates.extend(certificates_in(path)?);
        }
        if certificates.is_empty() {
            tracing::warn!(
                "no certificates are trusted, so no host can be reached over TLS: install the \
                 system's (Debian: ca-certificates)"
            );
        }
        let mut roots = RootCertStore::empty();
        let (_, refused) = roots.add_parsable_certificates(certificates.iter().cloned());
        if refused > 0 {
            tracing::debug!(refused, "certificates that are of no use as authorities");
        }
        let mut pem = String::with_capacity(certificates.len() * 2048);
        for certificate in &certificates {
            write_pem(&mut pem, certificate);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(Self { roots: Arc::new(roots), provider, pem })
    }

    /// How to speak TLS to the outside, with the protocols to offer.
    pub(crate) fn client(&self, protocols: &[&[u8]]) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// What programs in sandboxes trust: the same, and Hangar's own authority.
    pub(crate) fn bundle(&self, authority: &str) -> String {
        format!("{}{authority}", self.pem)
    }
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, UnreadableTrust> {
    let unreadable = |why: String| UnreadableTrust { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|error| unreadable(error.to_string()))?;
    if read.is_empty() {
        return Err(unreadable("it holds none".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &read {
        roots.add(certificate.clone()).map_err(|error| unreadable(error.to_string()))?;
    }
    Ok(read)
}

fn write_pem(text: &mut String, certificate: &CertificateDer<'_>) {
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(certificate);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

/// What the bundle is called in a sandbox's directory.
pub(crate) fn file_name() -> &'static str {
    let inside = protocol::layout::TRUST_BUNDLE;
    inside.rsplit('/').next().unwrap_or(inside)
}

/// Writes the bundle into a sandbox's directory, whole or not at all, readable by everybody.
///
/// The sandbox may be able to write to the directory: no link in it is followed.
pub(crate) fn write_bundle(directory: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    let beside = format!(".{name}.new");
    match rustix::fs::unlinkat(&directory, &beside, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, &beside, flags, Mode::from_raw_mode(0o644))?;
    // Whatever the server's umask is: the sandbox's root is an unprivileged user here.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, text.as_bytes())?;
    rustix::fs::renameat(&directory, &beside, &directory, name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn the_bundle_is_read_back_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, operators) = (authority(), authority());
        let file = directory.path().join("company.pem");
        std::fs::write(&file, operators.pem()).expect("written");
        let trust = Trust::read(Some(&file)).expect("readable");
        let bundle = trust.bundle(&own.pem());
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect();
        let found = found.expect("PEM");
        assert!(found.contains(operators.der()) && found.contains(own.der()));
        let handle = std::fs::File::open(directory.path()).expect("a directory");
        for _ in 0..2 {
            write_bundle(&handle, "trust.pem", &bundle).expect("written");
        }
        let written = std::fs::read_to_string(directory.path().join("trust.pem"));
        assert_eq!(written.expect("there"), bundle);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "untouched").expect("written");
        for name in ["trust.pem", ".trust.pem.new"] {
            let link = directory.path().join(name);
            std::os::unix::fs::symlink(&victim, link).expect("linked");
        }
        let handle = std::fs::File::open(directory.path()).expect("a directory");
        write_bundle(&handle, "trust.pem", "bundle").expect("written");
        assert_eq!(std::fs::read_to_string(&victim).expect("there"), "untouched");
        let path = directory.path().join("trust.pem");
        assert!(path.symlink_metadata().expect("there").is_file());
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("company.pem");
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).expect("written");
            let error = Trust::read(Some(&path)).expect_err("no certificates");
            assert!(error.to_string().contains("company.pem"), "{error}");
        }
        std::fs::remove_file(&path).expect("removed");
        Trust::read(Some(&path)).expect_err("no file");
    }
}
