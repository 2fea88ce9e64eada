//! The HTTP and WebSocket door.
//!
//! Thin on purpose: it finds out who asks, calls [`conductor::Hangar`], and writes down the answer.
//! Whether somebody may do something is decided there, so that no other door can forget it.
//! No other crate names axum.
//!
//! ```text
//!   guard ──► routes ──► Door (conductor::Hangar)
//!               │
//!               ├── /v1/…          REST, problem documents
//!               ├── /v1/stream     WebSocket          ┐
//!               ├── …/events       page, wait, SSE    ┴── feed: one subscription as messages
//!               ├── /git/…         clone and fetch
//!               └── /, /sign-in    a page for people
//! ```

pub mod access;
pub mod bind;
pub mod door;
mod extract;
mod feed;
mod guard;
mod problem;
mod routes;
mod stream;
pub mod token;

pub use problem::MACHINE_LACKS;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use access::Access;
use door::Door;

/// Bytes of one request's body: the longest prompt, with every byte escaped, fits, so that it is
/// the session that says what is too long.
pub(crate) const BODY_BYTES: usize = 8 * 1024 * 1024;

/// What every route can use.
#[derive(Debug, Clone)]
pub struct Api {
    /// What is done with requests.
    pub door: Arc<dyn Door>,
    /// Who may come in.
    pub access: Arc<Access>,
    /// Names besides this machine's addresses and `localhost` under which people reach it.
    pub hosts: Arc<[String]>,
    /// Ends long answers, every WebSocket and at last the server.
    pub shutdown: CancellationToken,
}

/// Serves until `shutdown` of the API is cancelled and the running requests are answered.
pub async fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    let shutdown = api.shutdown.clone();
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection may delay small messages");
        }
    });
    axum::serve(listener, router(api)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Every route behind the guard.
pub fn router(api: Api) -> Router {
    routes::all()
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}
