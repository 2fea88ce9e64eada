//! CONNECT: a tunnel to one host, after its TLS greeting has named the same host.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use super::meter::Counted;
use super::reach::{Located, connect, locate};
use super::{Target, Way, Why, hello, stop};
use crate::Denial;
use crate::account::Account;
use crate::body::{Body, empty_body};
use crate::intercept::Intercepted;
use crate::outside::proxy::Stream;
use crate::server::{Afterwards, Shared, Slot};

/// Bytes that wait in each direction of a tunnel.
const BUFFER: usize = 32 * 1024;

/// Answers CONNECT; the tunnel itself runs after the answer, on the same connection.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    slot: &Arc<Slot>,
    mut account: Account,
    target: Target,
    request: Request<Incoming>,
    afterwards: &Afterwards,
) -> Response<Body> {
    account.about_host(target.place());
    let located = match locate(&shared, slot, &target).await {
        Ok(located) => located,
        Err(why) => return stop(&shared, account, &target, why).await,
    };
    account.carries(&located);
    if target.way == Way::Intercepted {
        account.opened();
        let upgrade = hyper::upgrade::on(request);
        let intercepted = Intercepted { target, located, shared, slot: Arc::clone(slot) };
        afterwards.put(intercepted.serve(upgrade, account));
        return Response::new(empty_body());
    }
    let (outside, address) = match connect(&shared, &target, &located).await {
        Ok(connected) => connected,
        Err(why) => return stop(&shared, account, &target, why).await,
    };
    account.pinned(address);
    account.opened();
    let upgrade = hyper::upgrade::on(request);
    afterwards.put(async move {
        let denied = tunnel(&shared, &target, located, upgrade, outside, &mut account).await;
        if let Some(why) = denied {
            account.denied(&target.denial(why));
        }
    });
    Response::new(empty_body())
}

/// Carries bytes until one side ends it, or gives the reason why not.
async fn tunnel(
    shared: &Shared,
    target: &Target,
    located: Located,
    upgrade: OnUpgrade,
    mut outside: Counted<Box<dyn Stream>>,
    account: &mut Account,
) -> Option<Why> {
    let Ok(upgraded) = upgrade.await else { return None };
    let mut inside = TokioIo::new(upgraded);
    let limits = &shared.limits;
    let carried = async {
        let (most, patience) = (limits.greeting_bytes, limits.greeting_time);
        let bytes = match hello::read(&mut inside, &target.host, most, patience).await {
            Ok(bytes) => bytes,
            Err(why) => return Some(refuse(&mut inside, why).await),
        };
        let sent = outside.write_all(&bytes).await;
        let copied = match sent {
            Ok(()) => {
                copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            account.failed(error.to_string());
        } else {
            account.completed();
        }
        located.passage.over()
    };
    tokio::select! {
        () = located.entry.ended.cancelled() => Some(Why::Withdrawn),
        denied = carried => denied,
    }
}

/// Tells a TLS client why its connection ends; others just see the end.
pub(crate) async fn refuse(inside: &mut TokioIo<Upgraded>, why: Why) -> Why {
    if matches!(why, Why::ServerName { .. }) {
        // Whoever does not listen needs no reason.
        let _ = inside.write_all(&hello::UNRECOGNIZED_NAME).await;
    }
    let _ = inside.shutdown().await;
    why
}

impl Target {
    pub(crate) fn denial(&self, why: Why) -> Denial {
        Denial::Host { host: self.place(), why }
    }

    /// Host and port, as audit lines and people read them.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
