//! Secrets: their values come in here and never go out.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use protocol::client::Page;
use protocol::secret::{
    PutSecret, SecretDescription, SecretName, SecretPhase, SecretScope, SecretStored,
    SecretsRotated,
};
use serde::Deserialize;

use super::to_the_end;
use crate::Api;
use crate::extract::{Caller, Json as Body, Path, Query};
use crate::problem::Failure;

type Answer<T> = Result<T, Failure>;

/// `?scope=server`, `?scope=team:NAME` or `?scope=repository:OWNER/NAME`.
#[derive(Debug, Deserialize)]
pub(super) struct Scope {
    scope: Option<String>,
}

impl Scope {
    fn read(self) -> Answer<Option<SecretScope>> {
        self.scope.map(|text| parse(&text, "invalid_scope")).transpose()
    }

    fn or_server(self) -> Answer<SecretScope> {
        Ok(self.read()?.unwrap_or(SecretScope::Server))
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, code: &str) -> Answer<T> {
    text.parse::<T>()
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, code, error.to_string()))
}

fn address((phase, name): (String, String)) -> Answer<(SecretPhase, SecretName)> {
    Ok((parse(&phase, "invalid_phase")?, parse(&name, "invalid_secret_name")?))
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(user): Caller,
    Query(scope): Query<Scope>,
) -> Answer<Json<Page<SecretDescription>>> {
    let scope = scope.read()?;
    Ok(Json(Page { items: api.door.secrets(&user, scope.as_ref()).await?, next: None }))
}

pub(super) async fn put(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(path): Path<(String, String)>,
    Query(scope): Query<Scope>,
    Body(request): Body<PutSecret>,
) -> Answer<Json<SecretStored>> {
    let ((phase, name), scope) = (address(path)?, scope.or_server()?);
    let work = async move { api.door.put_secret(&user, scope, phase, name, request).await };
    Ok(Json(to_the_end(work).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(path): Path<(String, String)>,
    Query(scope): Query<Scope>,
) -> Answer<StatusCode> {
    let ((phase, name), scope) = (address(path)?, scope.or_server()?);
    let work = async move { api.door.remove_secret(&user, &scope, phase, &name).await };
    to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(
    State(api): State<Api>,
    Caller(user): Caller,
) -> Answer<Json<SecretsRotated>> {
    let work = async move { api.door.rotate_secrets(&user).await };
    Ok(Json(to_the_end(work).await?))
}
