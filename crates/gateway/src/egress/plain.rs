//! Unencrypted requests: each carried alone over its own connection, without credentials.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::reach::{Stop, connect, locate, proxy};
use super::{Target, stop};
use crate::account::Account;
use crate::body::{Body, Meter, Metered};
use crate::headers;
use crate::outside::proxy::Stream;
use crate::server::{Shared, Slot};

/// Sends the request on and streams the answer back. Redirects are the client's to follow: it
/// then asks again, and is judged again.
pub(crate) async fn serve(
    shared: &Shared,
    slot: &Arc<Slot>,
    mut account: Account,
    target: Target,
    request: Request<Incoming>,
) -> Response<Body> {
    account.about_host(target.place());
    let located = match locate(shared, slot, &target).await {
        Ok(located) => located,
        Err(why) => return stop(shared, account, &target, why).await,
    };
    account.carries(&located);
    let (outside, address) = match connect(shared, &target, &located).await {
        Ok(connected) => connected,
        Err(why) => return stop(shared, account, &target, why).await,
    };
    account.pinned(address);
    let passage = Arc::clone(&located.passage);
    let ended = located.entry.ended.clone();
    account.holds(located.entry);
    let exchanged = tokio::select! {
        () = ended.cancelled() => Err(Stop::Denied(super::Why::Withdrawn)),
        answer = exchange(shared, &account, &target, request, outside, ended.clone()) => {
            answer.map_err(|reason| passage.over().map_or(Stop::Failed(reason), Stop::Denied))
        }
    };
    match exchanged {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            let patience = shared.limits.host_silence;
            let body = Metered::new(body, Arc::new(Meter::default()), u64::MAX, patience);
            account.answer(head.status, headers::for_sandbox(&head.headers), body.boxed_unsync())
        }
        Err(why) => stop(shared, account, &target, why).await,
    }
}

async fn exchange(
    shared: &Shared,
    account: &Account,
    target: &Target,
    request: Request<Incoming>,
    outside: super::meter::Counted<Box<dyn Stream>>,
    ended: tokio_util::sync::CancellationToken,
) -> Result<Response<Incoming>, String> {
    let failed = |error: hyper::Error| format!("{} gave no answer: {error}", target.host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(outside)).await.map_err(failed)?;
    // Ends by itself once nobody waits for the answer any more.
    tokio::spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            _ = connection => {}
        }
    });
    let outgoing = rewrite(shared, account, target, request);
    let answer = tokio::time::timeout(shared.limits.host_silence, sender.send_request(outgoing));
    let answer = answer
        .await
        .map_err(|_| format!("{} gave no answer in time", target.host))?
        .map_err(failed)?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("{} changed the protocol without being asked to", target.host));
    }
    Ok(answer)
}

fn rewrite(
    shared: &Shared,
    account: &Account,
    target: &Target,
    request: Request<Incoming>,
) -> Request<Metered<Incoming>> {
    let (head, body) = request.into_parts();
    let mut passed = headers::for_hosts(&head.headers);
    // A host that was judged is a header's value.
    if let Ok(host) = HeaderValue::from_str(&target.host) {
        passed.insert(header::HOST, host);
    }
    let body = Metered::new(body, account.meter(), u64::MAX, shared.limits.body_idle);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = head.method;
    // Both come from a target that was parsed, so they make one again.
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let written = match proxy(shared, target) {
        // A proxy is told the whole target.
        Some(proxy) => {
            if let Some(authorization) = proxy.authorization() {
                passed.insert(header::PROXY_AUTHORIZATION, authorization);
            }
            format!("http://{}{path}", target.host)
        }
        None => path.to_owned(),
    };
    *outgoing.uri_mut() = written.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *outgoing.headers_mut() = passed;
    outgoing
}
