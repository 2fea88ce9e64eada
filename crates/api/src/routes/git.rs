//! Repositories for people's own Git: `git clone http://<host>/git/<owner>/<name>.git`, reading only.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::repositories::name;
use crate::Api;
use crate::extract::{Caller, Path};
use crate::problem::Failure;

/// `/git/{owner}/{name}.git/…`
pub(super) async fn serve(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((owner, directory, _)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let Some(repository) = directory.strip_suffix(".git") else {
        let detail = format!("there is no repository at /git/{owner}/{directory}");
        return Err(Failure::new(StatusCode::NOT_FOUND, "not_found", detail)
            .hint("the address of a repository ends with `.git`"));
    };
    Ok(api.door.serve_repository(&user, &name(&owner, repository)?, request).await?)
}
