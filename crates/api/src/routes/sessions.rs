//! Sessions and their prompts.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use protocol::client::{CreateSession, EditPrompt, Page, PromptAccepted, SendPrompt};
use protocol::session::{SessionSummary, SessionView};
use protocol::{PromptId, SessionId};

use super::repositories::patch;
use super::{PageQuery, to_the_end};
use crate::Api;
use crate::extract::{Caller, Json as Body, Path, Query};
use crate::problem::Failure;

type Answer<T> = Result<T, Failure>;

pub(super) async fn list(
    State(api): State<Api>,
    Caller(user): Caller,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<SessionSummary>>> {
    let limit = query.limit();
    Ok(Json(api.door.sessions(&user, query.cursor, limit).await?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(user): Caller,
    Body(request): Body<CreateSession>,
) -> Answer<(StatusCode, Json<SessionView>)> {
    let work = async move { api.door.create_session(&user, request).await };
    let view = to_the_end(work).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(session): Path<SessionId>,
) -> Answer<Json<SessionView>> {
    Ok(Json(api.door.session(&user, session).await?))
}

/// Accepted, not done: the agent gets to it.
pub(super) async fn send(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(session): Path<SessionId>,
    Body(request): Body<SendPrompt>,
) -> Answer<(StatusCode, Json<PromptAccepted>)> {
    let work = async move { api.door.send_prompt(&user, session, request).await };
    let accepted = to_the_end(work).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

pub(super) async fn edit(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((session, prompt)): Path<(SessionId, PromptId)>,
    Body(request): Body<EditPrompt>,
) -> Answer<StatusCode> {
    to_the_end(async move { api.door.edit_prompt(&user, session, prompt, request).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn withdraw(
    State(api): State<Api>,
    Caller(user): Caller,
    Path((session, prompt)): Path<(SessionId, PromptId)>,
) -> Answer<StatusCode> {
    to_the_end(async move { api.door.withdraw_prompt(&user, session, prompt).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepted, not done: the events tell when the prompt has ended.
pub(super) async fn stop(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(session): Path<SessionId>,
) -> Answer<StatusCode> {
    to_the_end(async move { api.door.stop(&user, session).await }).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn diff(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(session): Path<SessionId>,
) -> Answer<Response> {
    Ok(patch(api.door.session_diff(&user, session).await?))
}
