//! Git requests: to the forge, for the session's repository only, with pushes judged by their refs.

mod commands;
mod report;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::repository::RepositoryName;
use serde::Serialize;

use crate::account::Account;
use crate::body::{Body, BoxError, Meter, Metered, Prefixed, full_body};
use crate::handler::{Form, deny};
use crate::server::Shared;
use crate::{Binding, Denial, GitRoute, headers};
use commands::{Commands, Reading};

/// Bytes of a push's list of refs at most: some thousand refs.
const COMMAND_BYTES: usize = 256 * 1024;

/// What a git request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// `git-upload-pack`: fetch and clone.
    Fetch,
    /// `git-receive-pack`: push.
    Push,
}

/// The forge, as the gateway sees it.
#[async_trait]
pub trait GitUpstream: Send + Sync + fmt::Debug {
    /// Answers a smart HTTP request whose repository and refs were judged already.
    ///
    /// The request's target is the path inside the repository with its query:
    /// `/info/refs?service=…`, `/git-upload-pack` or `/git-receive-pack`.
    async fn serve(
        &self,
        repository: &RepositoryName,
        service: Service,
        request: Request<Body>,
    ) -> Response<Body>;
}

/// Serves a git request that is allowed so far.
pub(crate) async fn serve(
    shared: &Shared,
    mut account: Account,
    route: GitRoute,
    binding: &Binding,
    request: Request<Incoming>,
) -> Response<Body> {
    account.about_git(route.service, route.repository.clone());
    let (head, body) = request.into_parts();
    let (limit, meter) = (shared.limits.git_bytes, account.meter());
    let body = Metered::new(body, Arc::clone(&meter), limit, shared.limits.body_idle);
    let body = if route.path == "/git-receive-pack" {
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            let denial = Denial::GitUnreadable { what: "its list of refs is compressed" };
            return deny(shared, account, &denial, Form::Text).await;
        }
        match judge(body, &meter, limit, &binding.push_prefix).await {
            Ok(body) => body,
            Err(Refused::Outright(denial)) => {
                return deny(shared, account, &denial, Form::Text).await;
            }
            Err(Refused::Reported(denial, commands)) => return refuse(account, &denial, &commands),
        }
    } else {
        body.boxed_unsync()
    };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    // Both parts come from a request that was parsed, so they make a target again.
    *request.uri_mut() = format!("{}{query}", route.path).parse().unwrap_or_default();
    *request.headers_mut() = headers::for_git(&head.headers);
    let answer = shared.git.serve(&route.repository, route.service, request).await;
    let (head, body) = answer.into_parts();
    account.answer(head.status, headers::for_sandbox(&head.headers), body)
}

enum Refused {
    /// Before the list of refs could be read.
    Outright(Denial),
    /// In git's own words, about each ref.
    Reported(Denial, Commands),
}

/// Reads the list of refs at the start of a push, and gives back the whole body if it may pass.
async fn judge(
    mut body: Metered<Incoming>,
    meter: &Meter,
    limit: u64,
    prefix: &str,
) -> Result<Body, Refused> {
    let mut read = BytesMut::new();
    let commands = loop {
        match commands::read(&read) {
            Reading::Complete(commands) => break commands,
            Reading::Refused(what) => {
                return Err(Refused::Outright(Denial::GitUnreadable { what }));
            }
            Reading::Incomplete if read.len() >= COMMAND_BYTES => {
                let denial = Denial::GitUnreadable { what: "its list of refs is too long" };
                return Err(Refused::Outright(denial));
            }
            Reading::Incomplete => {}
        }
        let piece = next_piece(&mut body)
            .await
            .map_err(|_| Refused::Outright(meter.denial(limit).unwrap_or(Denial::BodyStalled)))?;
        let Some(piece) = piece else {
            let denial = Denial::GitUnreadable { what: "its list of refs ends early" };
            return Err(Refused::Outright(denial));
        };
        read.extend_from_slice(&piece);
    };
    match commands.judge(prefix) {
        Ok(()) => Ok(Prefixed { prefix: Some(read.freeze()), rest: body }.boxed_unsync()),
        Err(denial) => {
            // git writes its whole pack before it reads an answer.
            while let Ok(Some(_)) = next_piece(&mut body).await {}
            Err(Refused::Reported(denial, commands))
        }
    }
}

async fn next_piece(body: &mut Metered<Incoming>) -> Result<Option<Bytes>, BoxError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Tells git which refs were not taken and why. The status is 200 because git shows the reason
/// only from a report, never from an error's body.
fn refuse(mut account: Account, denial: &Denial, commands: &Commands) -> Response<Body> {
    account.denied(denial);
    let headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-git-receive-pack-result")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]);
    account.answer(StatusCode::OK, headers, full_body(report::write(denial, commands)))
}
