//! Base images: what sandboxes stand on.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use protocol::client::{BaseImage, Page, PullBase};
use serde::Deserialize;

use super::to_the_end;
use crate::Api;
use crate::extract::{Caller, Json as Body, Query};
use crate::problem::Failure;

/// `?reference=…`: a reference has slashes, so it is no part of a path.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    reference: String,
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(user): Caller,
) -> Result<Json<Page<BaseImage>>, Failure> {
    Ok(Json(Page { items: api.door.bases(&user).await?, next: None }))
}

/// Waits until it is unpacked.
pub(super) async fn pull(
    State(api): State<Api>,
    Caller(user): Caller,
    Body(request): Body<PullBase>,
) -> Result<Json<BaseImage>, Failure> {
    let work = async move { api.door.pull_base(&user, &request.reference).await };
    Ok(Json(to_the_end(work).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(user): Caller,
    Query(which): Query<Which>,
) -> Result<StatusCode, Failure> {
    let work = async move { api.door.remove_base(&user, &which.reference).await };
    to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}
