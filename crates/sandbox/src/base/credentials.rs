//! Credentials from the usual Docker configuration, its helpers included.

use std::path::Path;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;

use super::Error;
use super::error::failed;

/// What to say to the registry of an image. May run a credential helper, and wait for it.
pub(super) fn find(file: Option<&Path>, reference: &Reference) -> Result<RegistryAuth, Error> {
    let Some(file) = file else { return Ok(RegistryAuth::Anonymous) };
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RegistryAuth::Anonymous);
        }
        text => text.map_err(failed("read", file))?,
    };
    let resolved = reference.resolve_registry();
    // Helpers know the registry that needs no name only by the address of its first version.
    let first_version = format!("https://{resolved}/v1/");
    for server in [reference.registry(), resolved, &first_version] {
        match get_credential_from_reader(text.as_slice(), server) {
            Ok(DockerCredential::UsernamePassword(name, password)) => {
                return Ok(RegistryAuth::Basic(name, password));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                let why = "an identity token is kept for it, which is not understood; a name with \
                           an access token is";
                return Err(wrong(resolved, why.to_owned()));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                if format!("{stdout}{stderr}").contains("not found") => {}
            // The texts of the others hold no credential.
            Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
                return Err(wrong(resolved, format!("`{helper}` failed")));
            }
            Err(error) => return Err(wrong(resolved, error.to_string())),
        }
    }
    Ok(RegistryAuth::Anonymous)
}

fn wrong(registry: &str, why: String) -> Error {
    Error::Credentials { registry: registry.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, image: &str) -> Result<RegistryAuth, Error> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.json");
        std::fs::write(&file, text).expect("written");
        find(Some(&file), &image.parse().expect("a reference"))
    }

    #[test]
    fn a_registry_gets_its_own_credential_and_no_other() {
        // ada:secret
        let text = r#"{"auths": {"registry.example:5000": {"auth": "YWRhOnNlY3JldA=="}}}"#;
        let basic = RegistryAuth::Basic("ada".into(), "secret".into());
        assert_eq!(found(text, "registry.example:5000/a").expect("read"), basic);
        assert_eq!(found(text, "other.example/a").expect("read"), RegistryAuth::Anonymous);
        assert_eq!(find(None, &"a".parse().expect("read")).expect("none"), RegistryAuth::Anonymous);
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_credential() {
        let text = r#"{"auths": {"r.example": {"identitytoken": "hidden"}}}"#;
        let error = found(text, "r.example/a").expect_err("not understood").to_string();
        assert!(error.contains("identity token") && !error.contains("hidden"), "{error}");
        assert!(found("{", "r.example/a").is_err());
    }
}
