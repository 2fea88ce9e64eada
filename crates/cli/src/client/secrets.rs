//! The client's part about secrets.

use anyhow::Context as _;
use protocol::client::Page;
use protocol::secret::{
    PutSecret, SecretDescription, SecretName, SecretPhase, SecretScope, SecretStored,
    SecretsRotated,
};
use reqwest::{Method, RequestBuilder};

use super::{Client, answer, read};

impl Client {
    /// Every secret, or those of one scope, without values.
    pub async fn secrets(
        &self,
        scope: Option<&SecretScope>,
    ) -> anyhow::Result<Vec<SecretDescription>> {
        let mut call = self.request(Method::GET, "/v1/secrets");
        if let Some(scope) = scope {
            call = call.query(&[("scope", scope.to_string())]);
        }
        let page: Page<SecretDescription> = read(call).await.context("listing secrets")?;
        Ok(page.items)
    }

    /// Sets a secret, new or again.
    pub async fn put_secret(
        &self,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
        request: &PutSecret,
    ) -> anyhow::Result<SecretStored> {
        let call = self.secret(Method::PUT, scope, phase, name).json(request);
        read(call).await.with_context(|| format!("setting the secret {name}"))
    }

    /// Removes a secret.
    pub async fn remove_secret(
        &self,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> anyhow::Result<()> {
        let call = self.secret(Method::DELETE, scope, phase, name);
        answer(call).await.map(drop).with_context(|| format!("removing the secret {name}"))
    }

    /// Encrypts every secret with a new key.
    pub async fn rotate_secrets(&self) -> anyhow::Result<SecretsRotated> {
        let call = self.request(Method::POST, "/v1/secrets/rotate");
        read(call).await.context("changing the key of the secrets")
    }

    fn secret(
        &self,
        method: Method,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> RequestBuilder {
        let call = self.request(method, &format!("/v1/secrets/{phase}/{name}"));
        call.query(&[("scope", scope.to_string())])
    }
}
