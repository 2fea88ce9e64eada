//! Every address that is answered.

mod bases;
mod events;
mod git;
pub(crate) mod page;
mod repositories;
mod secrets;
mod sessions;
mod sign_in;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::{any, get, post, put};
use protocol::client::ServerDescription;
use protocol::sandbox::LevelReport;
use serde::Deserialize;

use crate::Api;
use crate::extract::Caller;
use crate::problem::Failure;

/// Rows of a page when nobody says how many.
const PAGE: usize = 50;
/// Rows of a page at most.
const LARGEST_PAGE: usize = 200;

/// The routes, without the guard.
pub(crate) fn all() -> Router<Api> {
    Router::new()
        .route("/", get(page::show))
        .route("/sign-in", any(sign_in::sign_in))
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/server", get(server))
        .route("/v1/server/levels", get(levels))
        .route("/v1/stream", get(crate::stream::open))
        .route("/v1/bases", get(bases::list).post(bases::pull).delete(bases::remove))
        .route("/v1/repositories", get(repositories::list).post(repositories::register))
        .route("/v1/repositories/{owner}/{name}", get(repositories::show))
        .route(
            "/v1/repositories/{owner}/{name}/settings",
            get(repositories::settings).put(repositories::put_settings),
        )
        .route("/v1/repositories/{owner}/{name}/image", post(repositories::build_image))
        .route("/v1/repositories/{owner}/{name}/pulls", get(repositories::pull_requests))
        .route("/v1/repositories/{owner}/{name}/pulls/{number}", get(repositories::pull_request))
        .route(
            "/v1/repositories/{owner}/{name}/pulls/{number}/diff",
            get(repositories::pull_request_diff),
        )
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/rotate", post(secrets::rotate))
        .route("/v1/secrets/{phase}/{name}", put(secrets::put).delete(secrets::remove))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route("/v1/sessions/{session}", get(sessions::show))
        .route("/v1/sessions/{session}/prompts", post(sessions::send))
        .route(
            "/v1/sessions/{session}/prompts/{prompt}",
            put(sessions::edit).delete(sessions::withdraw),
        )
        .route("/v1/sessions/{session}/stop", post(sessions::stop))
        .route("/v1/sessions/{session}/diff", get(sessions::diff))
        .route("/v1/sessions/{session}/events", get(events::events))
        .route("/git/{owner}/{name}/{*rest}", any(git::serve))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
}

/// `?cursor=…&limit=…` of lists.
#[derive(Debug, Deserialize)]
struct PageQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE)
    }
}

/// Carries something out to its end, also when the client goes away in the middle: what was begun
/// for a person is done whole, and asking again with the same request id finds it done.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, conductor::Error>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(Failure::from),
        Err(error) => match error.try_into_panic() {
            // The guard makes an answer of it.
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nothing but the end of the server cancels it.
            Err(_) => Err(Failure::internal()),
        },
    }
}

/// `GET /v1/server`
async fn server(State(api): State<Api>, Caller(user): Caller) -> axum::Json<ServerDescription> {
    axum::Json(api.door.description(&user))
}

/// `GET /v1/server/levels`: each was tried by starting a sandbox, so the first answer takes a moment.
async fn levels(
    State(api): State<Api>,
    Caller(user): Caller,
) -> Result<axum::Json<Vec<LevelReport>>, Failure> {
    // Goes on when the client goes away: the next one who asks finds the answer.
    let door = std::sync::Arc::clone(&api.door);
    to_the_end(async move { Ok(door.levels(&user).await) }).await.map(axum::Json)
}

async fn nothing_here(request: Request) -> Failure {
    let detail = format!("there is nothing at {}", request.uri().path());
    Failure::new(StatusCode::NOT_FOUND, "not_found", detail)
}

async fn wrong_method(request: Request) -> Failure {
    let detail = format!("{} does not answer {}", request.uri().path(), request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        .hint("the header `Allow` names the methods it answers")
}
