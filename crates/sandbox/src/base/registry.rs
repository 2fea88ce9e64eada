//! Fetching from a registry.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use super::blobs::Blobs;
use super::image::{DOCUMENT_BYTES, Descriptor, MANIFESTS};
use super::store::{Progress, Step};
use super::{Error, credentials};

/// Attempts at one blob, each going on where the one before ended.
const ATTEMPTS: u32 = 4;
/// For a connection, and between two parts of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How registries are reached. Filled in by whoever reads the environment.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Docker's `config.json` with the credentials.
    pub docker_configuration: Option<PathBuf>,
    /// The proxy for `https://` addresses.
    pub https_proxy: Option<String>,
    /// The proxy for `http://` addresses.
    pub http_proxy: Option<String>,
    /// Hosts that are reached without one.
    pub no_proxy: Option<String>,
    /// Registries spoken to without encryption besides those of this machine: `host:port`.
    pub insecure: Vec<String>,
    /// Authorities trusted besides the system's: files in PEM.
    pub certificates: Vec<Vec<u8>>,
}

/// One image at its registry.
pub(super) struct Remote {
    client: Client,
    reference: oci_client::Reference,
    auth: RegistryAuth,
}

impl Remote {
    pub(super) async fn new(
        registries: &Registries,
        reference: &oci_client::Reference,
    ) -> Result<Self, Error> {
        let registry = reference.resolve_registry();
        let plain =
            is_this_machine(registry) || registries.insecure.iter().any(|it| it == registry);
        let configuration = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: registries
                .certificates
                .iter()
                .flat_map(|file| each(file))
                .collect(),
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(PATIENCE),
            https_proxy: registries.https_proxy.clone(),
            http_proxy: registries.http_proxy.clone(),
            no_proxy: registries.no_proxy.clone(),
            ..ClientConfig::default()
        };
        // The one of whoever came first; all of the house bring the same.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_from(configuration)
            .map_err(|error| explain("the manifest", reference, &error))?;
        let (file, named) = (registries.docker_configuration.clone(), reference.clone());
        let found =
            tokio::task::spawn_blocking(move || credentials::find(file.as_deref(), &named)).await;
        let auth = found.map_err(|error| Error::Credentials {
            registry: registry.to_owned(),
            why: error.to_string(),
        })??;
        client.store_auth_if_needed(registry, &auth).await;
        Ok(Self { client, reference: reference.clone(), auth })
    }

    /// The manifest or index that the reference means, or the one of a digest.
    pub(super) async fn manifest(&self, digest: Option<&str>) -> Result<Vec<u8>, Error> {
        let named = digest.map(|digest| self.reference.clone_with_digest(digest.to_owned()));
        let reference = named.as_ref().unwrap_or(&self.reference);
        let asked = self.client.pull_manifest_raw(reference, &self.auth, &MANIFESTS);
        let answered = tokio::time::timeout(2 * PATIENCE, asked)
            .await
            .map_err(|_| self.failed("the manifest", "it took more than a minute".to_owned()))?;
        let (bytes, _) =
            answered.map_err(|error| explain("the manifest", &self.reference, &error))?;
        if bytes.len() as u64 > DOCUMENT_BYTES {
            let (what, bytes) = ("the manifest".to_owned(), bytes.len() as u64);
            return Err(Error::TooLarge { what, bytes, maximum: DOCUMENT_BYTES });
        }
        Ok(bytes.to_vec())
    }

    /// Fetches a blob into the store, going on with what an earlier attempt left.
    pub(super) async fn blob(
        &self,
        blobs: &Blobs,
        descriptor: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Error> {
        let what = format!("blob {}", descriptor.digest);
        let mut attempt = 1;
        loop {
            match self.attempt(blobs, descriptor, &what, progress).await {
                Err(error @ Error::Registry { .. }) if attempt < ATTEMPTS && is_passing(&error) => {
                    tracing::debug!(%error, attempt, "going on with a download");
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(250) * attempt).await;
                }
                done => return done,
            }
        }
    }

    async fn attempt(
        &self,
        blobs: &Blobs,
        descriptor: &Descriptor,
        what: &str,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut draft = blobs.resume(&descriptor.digest).await?;
        if draft.bytes > descriptor.size {
            draft.restart().await?;
        }
        if draft.bytes < descriptor.size || descriptor.size == 0 {
            let digest = descriptor.digest.as_str();
            let answer = if draft.bytes == 0 {
                self.client.pull_blob_stream(&self.reference, digest).await.map(BlobResponse::Full)
            } else {
                let asked = self.client.pull_blob_stream_partial(
                    &self.reference,
                    digest,
                    draft.bytes,
                    None,
                );
                asked.await
            };
            let answer = answer.map_err(|error| explain(what, &self.reference, &error))?;
            let mut stream = match answer {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    draft.restart().await?;
                    stream
                }
            };
            while let Some(part) = stream.next().await {
                match part {
                    Ok(part) => draft.write(what, &part, descriptor.size).await?,
                    // Ends the download, or is the client's own comparison, which is repeated below.
                    Err(error) => {
                        draft.flush().await?;
                        if draft.bytes < descriptor.size {
                            return Err(self.failed(what, format!("it broke off: {error}")));
                        }
                        break;
                    }
                }
                let (digest, done) = (descriptor.digest.clone(), draft.bytes);
                progress(Step::Fetching { digest, done, whole: descriptor.size });
            }
            if draft.bytes < descriptor.size {
                draft.flush().await?;
                return Err(self.failed(what, "it broke off".to_owned()));
            }
        }
        blobs.finish(what, draft, &descriptor.digest).await
    }

    fn failed(&self, what: &str, why: String) -> Error {
        Error::Registry {
            what: what.to_owned(),
            reference: self.reference.whole(),
            why,
            hint: "try again; what was fetched is kept",
        }
    }
}

/// The client takes one certificate at a time; files hold many.
fn each(file: &[u8]) -> Vec<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(file);
    let certificates = text.split_inclusive(END).filter(|part| part.contains(END));
    certificates
        .map(|part| Certificate { encoding: CertificateEncoding::Pem, data: part.into() })
        .collect()
}

/// Whether another attempt may do better.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Registry { hint, .. } if hint.starts_with("try again"))
}

/// `localhost:5000`, `127.0.0.1`, `[::1]:5000`: nobody is in between.
fn is_this_machine(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn explain(what: &str, reference: &oci_client::Reference, error: &OciDistributionError) -> Error {
    let log_in = "see the name, and log in with `docker login` if the image is private";
    let try_again = "try again; what was fetched is kept";
    let has = |codes: &[OciErrorCode]| {
        matches!(error, OciDistributionError::RegistryError { envelope, .. }
            if envelope.errors.iter().any(|one| codes.contains(&one.code)))
    };
    let hint = match error {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => log_in,
        _ if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) => log_in,
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => "see the name and the tag",
        _ if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown]) => {
            "see the name and the tag"
        }
        OciDistributionError::RequestError(error) if error.is_connect() => {
            "see that the registry can be reached from here, or set HTTPS_PROXY; a registry without \
             TLS must be named as insecure"
        }
        _ => try_again,
    };
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = cause.source();
    }
    // What a registry says is shown to people: bounded, and without control characters.
    let why: String = why.chars().filter(|letter| !letter.is_control()).take(500).collect();
    Error::Registry { what: what.to_owned(), reference: reference.whole(), why, hint }
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        assert!(
            ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "127.9.9.9"]
                .iter()
                .all(|registry| is_this_machine(registry))
        );
        assert!(
            ["localhost.example", "10.0.0.1:5000", "registry", "127.0.0.1.example:80"]
                .iter()
                .all(|registry| !is_this_machine(registry))
        );
    }
}
