//! A session's events for clients without a WebSocket: a page, a page worth waiting for, or SSE.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use conductor::Update;
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::ACCEPT;
use protocol::client::ServerMessage;
use protocol::limits::PAGE_EVENTS;
use protocol::session::Author;
use protocol::{Envelope, SessionId};
use serde::Deserialize;

use crate::Api;
use crate::extract::{Caller, Path, Query};
use crate::feed;
use crate::problem::Failure;

/// The longest wait for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two signs of life of a quiet SSE answer, which proxies would cut otherwise.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    #[serde(default)]
    wait_milliseconds: u64,
}

/// `GET /v1/sessions/{session}/events`
pub(super) async fn events(
    State(api): State<Api>,
    Caller(user): Caller,
    Path(session): Path<SessionId>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.split(',').any(|kind| kind.trim().starts_with("text/event-stream")) {
        let after = last_event_id(&headers)?.unwrap_or(query.after);
        return follow(&api, &user, session, after).await;
    }
    Ok(Json(page(&api, &user, session, &query).await?).into_response())
}

/// What a browser that connects again has already.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(header) = headers.get("last-event-id") else { return Ok(None) };
    header.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        let detail = "the header `Last-Event-ID` is not the number of an event";
        Failure::new(http::StatusCode::BAD_REQUEST, "invalid_query", detail)
    })
}

async fn page(
    api: &Api,
    user: &Author,
    session: SessionId,
    query: &EventsQuery,
) -> Result<Vec<Envelope>, Failure> {
    let limit = query.limit.unwrap_or(PAGE_EVENTS).clamp(1, PAGE_EVENTS);
    let events = api.door.events(user, session, query.after, limit).await?;
    let wait = Duration::from_millis(query.wait_milliseconds).min(LONGEST_WAIT);
    if !events.is_empty() || wait.is_zero() {
        return Ok(events);
    }
    let mut updates = api.door.subscribe(user, session, query.after).await?;
    let one = async {
        while let Some(update) = updates.next().await {
            // Lagging means that something happened as well.
            if matches!(update?, Update::Event(_) | Update::Lagged { .. }) {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    tokio::select! {
        () = api.shutdown.cancelled() => {}
        result = tokio::time::timeout(wait, one) => {
            // Time that ran out is an answer: no events.
            if let Ok(result) = result {
                result?;
            }
        }
    }
    Ok(api.door.events(user, session, query.after, limit).await?)
}

async fn follow(
    api: &Api,
    user: &Author,
    session: SessionId,
    after: u64,
) -> Result<Response, Failure> {
    let updates = api.door.subscribe(user, session, after).await?;
    let events = feed::messages(session, after, updates)
        .map(|message| Ok::<_, Infallible>(event(&message)))
        .take_until(api.shutdown.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Recorded events carry their number, so that a browser names it when it connects again.
fn event(message: &ServerMessage) -> Event {
    let (name, number) = match message {
        ServerMessage::Event(envelope) => ("event", Some(envelope.sequence)),
        ServerMessage::Delta(_) => ("delta", None),
        ServerMessage::CaughtUp { .. } => ("caught_up", None),
        ServerMessage::Lagged { .. } => ("lagged", None),
        ServerMessage::Problem(_) => ("problem", None),
        ServerMessage::Hello { .. } | ServerMessage::Unknown => ("hello", None),
    };
    let event = match Event::default().event(name).json_data(message) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%error, "a message could not be written as JSON");
            Event::default().comment("a message could not be written")
        }
    };
    match number {
        Some(number) => event.id(number.to_string()),
        None => event,
    }
}
