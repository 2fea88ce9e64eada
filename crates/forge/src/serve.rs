//! Git's smart HTTP, answered by the real `git http-backend` and streamed both ways.
//!
//! ```text
//!   request ──► which service? ──► allowed? ──► repository? ──► a free place? ──► http-backend
//!                  │ 404              │ 403         │ 404            │ 503             │
//!                  └──────────────────┴─────────────┴────────────────┘          head, then body
//!                           text that git shows to the person
//! ```
//!
//! Nothing is buffered beyond one pipe and one head. When the client goes away its answer is
//! dropped, and with it every process that worked for it.

mod answer;
mod backend;
mod head;
pub(crate) mod inspect;

use std::time::Duration;

use http::{Method, StatusCode};
use protocol::repository::RepositoryName;

pub use answer::Body;
pub use inspect::{Inspection, Inspector};

use crate::Local;

/// How long a request waits for a free place.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a client may do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Clone and fetch.
    Read,
    /// Push as well.
    Write,
}

/// The two programs behind smart HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    UploadPack,
    ReceivePack,
}

/// What a request asks for, and the only paths that are ever passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Advertise(Service),
    Call(Service),
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.name() == name)
    }
}

impl Endpoint {
    /// Reads the end of the path only: whoever calls has found the repository in its beginning.
    fn of(method: &Method, path: &str, query: Option<&str>) -> Option<Self> {
        if path.ends_with("/info/refs") && method == Method::GET {
            let service = query?.split('&').find_map(|pair| pair.strip_prefix("service="))?;
            return Service::from_name(service).map(Self::Advertise);
        }
        let service = Service::from_name(path.rsplit('/').next()?)?;
        (method == Method::POST).then_some(Self::Call(service))
    }

    const fn service(self) -> Service {
        match self {
            Self::Advertise(service) | Self::Call(service) => service,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Advertise(_) => "info/refs",
            Self::Call(service) => service.name(),
        }
    }

    fn query(self) -> String {
        match self {
            Self::Advertise(service) => format!("service={}", service.name()),
            Self::Call(_) => String::new(),
        }
    }
}

impl Local {
    /// Answers one request of a git client for `name`.
    ///
    /// Of the request's path only the end counts (`/info/refs`, `/git-upload-pack`,
    /// `/git-receive-pack`). Refusals are answers too: a status and one line of text, which git
    /// shows. Dropping the returned future or the answer's body ends every process that worked for
    /// it.
    pub async fn serve<B>(
        &self,
        name: &RepositoryName,
        access: Access,
        request: http::Request<B>,
    ) -> http::Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Send,
    {
        let uri = request.uri();
        let Some(endpoint) = Endpoint::of(request.method(), uri.path(), uri.query()) else {
            let text = "only Git's smart HTTP is served here: use git 1.6.6 or newer";
            return refuse(StatusCode::NOT_FOUND, text);
        };
        if endpoint.service() == Service::ReceivePack && access == Access::Read {
            return refuse(StatusCode::FORBIDDEN, &format!("{name} may only be read here"));
        }
        if let Err(error) = self.repository(name) {
            return refuse(StatusCode::NOT_FOUND, &error.to_string());
        }
        let waiting = std::sync::Arc::clone(&self.inner.served).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(PATIENCE, waiting).await else {
            let text = "the forge is busy with other clients: try again in a minute";
            return refuse(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        match self.start_backend(name, endpoint, request, place).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%name, %error, "git http-backend gave no answer");
                let text = "the forge could not run git: its log says why";
                refuse(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}

fn refuse(status: StatusCode, text: &str) -> http::Response<Body> {
    let mut response = http::Response::new(Body::text(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(http::header::CONTENT_TYPE, plain);
    let never = http::HeaderValue::from_static("no-cache");
    headers.insert(http::header::CACHE_CONTROL, never);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_smart_http_has_endpoints() {
        let of = |method: &Method, path, query| Endpoint::of(method, path, query);
        let advertise = of(&Method::GET, "/x.git/info/refs", Some("service=git-upload-pack"));
        assert_eq!(advertise, Some(Endpoint::Advertise(Service::UploadPack)));
        let call = of(&Method::POST, "/git/local/o/x.git/git-receive-pack", None);
        assert_eq!(call, Some(Endpoint::Call(Service::ReceivePack)));
        for (method, path, query) in [
            (Method::GET, "/x.git/info/refs", None),
            (Method::GET, "/x.git/info/refs", Some("service=git-upload-archive")),
            (Method::GET, "/x.git/HEAD", None),
            (Method::GET, "/x.git/objects/info/packs", None),
            (Method::GET, "/x.git/git-upload-pack", None),
            (Method::POST, "/x.git/info/refs", Some("service=git-upload-pack")),
            (Method::POST, "/x.git/git-upload-archive", None),
            (Method::PUT, "/x.git/git-receive-pack", None),
        ] {
            assert_eq!(of(&method, path, query), None, "{method} {path} {query:?}");
        }
    }
}
