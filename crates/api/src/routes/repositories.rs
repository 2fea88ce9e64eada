//! Repositories, their images and their pull requests.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use protocol::client::{Page, PullRequest, RegisterRepository};
use protocol::repository::{Image, Repository, RepositoryName};
use protocol::settings::RepositorySettings;

use super::{PageQuery, to_the_end};
use crate::Api;
use crate::door::Registered;
use crate::extract::{Caller, Json as Body, Path, Query};
use crate::problem::Failure;

type Answer<T> = Result<T, Failure>;

/// A name from its two parts of the path.
pub(super) fn name(owner: &str, name: &str) -> Answer<RepositoryName> {
    RepositoryName::new(owner, name).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, "invalid_repository_name", error.to_string())
    })
}

/// A patch, as Git writes it.
pub(super) fn patch(text: String) -> Response {
    ([(CONTENT_TYPE, "text/x-diff; charset=utf-8")], text).into_response()
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(user): Caller,
) -> Answer<Json<Page<Repository>>> {
    Ok(Json(Page { items: api.door.repositories(&user).await?, next: None }))
}

pub(super) async fn register(
    State(api): State<Api>,
    Caller(user): Caller,
    Body(request): Body<RegisterRepository>,
) -> Answer<(StatusCode, Json<Registered>)> {
    let work = async move { api.door.register_repository(&user, request).await };
    let registered = to_the_end(work).await?;
    Ok((StatusCode::CREATED, Json(registered)))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository)): Path<(String, String)>,
) -> Answer<Json<Repository>> {
    Ok(Json(api.door.repository(&user, &name(&owner, &repository)?).await?))
}

pub(super) async fn settings(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository)): Path<(String, String)>,
) -> Answer<Json<RepositorySettings>> {
    Ok(Json(api.door.repository_settings(&user, &name(&owner, &repository)?).await?))
}

/// Replaces all of them; what the body leaves out is the server's again.
pub(super) async fn put_settings(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository)): Path<(String, String)>,
    Body(settings): Body<RepositorySettings>,
) -> Answer<Json<RepositorySettings>> {
    let name = name(&owner, &repository)?;
    let work = async move { api.door.put_repository_settings(&user, &name, settings).await };
    Ok(Json(to_the_end(work).await?))
}

/// Waits until the image is ready or has failed; the image itself says which.
pub(super) async fn build_image(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository)): Path<(String, String)>,
) -> Answer<Json<Image>> {
    let name = name(&owner, &repository)?;
    let work = async move { api.door.build_image(&user, &name).await };
    Ok(Json(to_the_end(work).await?))
}

pub(super) async fn pull_requests(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<PullRequest>>> {
    let name = name(&owner, &repository)?;
    let limit = query.limit();
    Ok(Json(api.door.pull_requests(&user, &name, query.cursor, limit).await?))
}

pub(super) async fn pull_request(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository, number)): Path<(String, String, u32)>,
) -> Answer<Json<PullRequest>> {
    Ok(Json(api.door.pull_request(&user, &name(&owner, &repository)?, number).await?))
}

pub(super) async fn pull_request_diff(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, repository, number)): Path<(String, String, u32)>,
) -> Answer<Response> {
    let name = name(&owner, &repository)?;
    Ok(patch(api.door.pull_request_diff(&user, &name, number).await?))
}
