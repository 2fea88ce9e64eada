//! Answers TLS in a host's place, and judges every request inside.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::network::HostRule;
use tokio::io::{AsyncReadExt as _, Chain, Join, ReadHalf, WriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Intercepted;
use super::inject::{self, Changes};
use super::upstream::Kept;
use crate::account::Account;
use crate::body::{Body, Metered};
use crate::egress::connect::refuse;
use crate::egress::reach::Stop;
use crate::egress::{hello, stop};
use crate::handler::{Form, deny};
use crate::{Denial, Egress, Head, Why, egress, headers};

/// The sandbox's side of a connection: its greeting, which was read to judge it, and the rest.
type Inside = TlsStream<
    Join<Chain<io::Cursor<Vec<u8>>, ReadHalf<TokioIo<Upgraded>>>, WriteHalf<TokioIo<Upgraded>>>,
>;

impl Intercepted {
    /// Serves what the sandbox sends after CONNECT, until either side is done or the rules are
    /// against it; the account is that of the whole connection.
    pub(crate) async fn serve(self, upgrade: OnUpgrade, mut account: Account) {
        let Ok(upgraded) = upgrade.await else { return };
        let ended = self.located.entry.ended.clone();
        let serving = async {
            match self.greet(TokioIo::new(upgraded)).await {
                Ok(inside) => Box::pin(self.serve_requests(inside)).await,
                Err(stop) => Some(stop),
            }
        };
        let stopped = tokio::select! {
            () = ended.cancelled() => Some(Stop::Denied(Why::Withdrawn)),
            stopped = serving => stopped,
        };
        match stopped {
            None => account.completed(),
            Some(Stop::Failed(reason)) => account.failed(reason),
            Some(Stop::Denied(why)) => {
                account.denied(&self.target.denial(why));
            }
        }
    }

    async fn greet(&self, mut stream: TokioIo<Upgraded>) -> Result<Inside, Stop> {
        let (host, limits) = (&self.target.host, &self.shared.limits);
        let greeting = hello::read(&mut stream, host, limits.greeting_bytes, limits.greeting_time);
        let greeting = match greeting.await {
            Ok(greeting) => greeting,
            Err(why) => return Err(Stop::Denied(refuse(&mut stream, why).await)),
        };
        let failed = |error: io::Error| {
            Stop::Failed(format!("the program inside and the gateway found no TLS: {error}"))
        };
        let config = self.shared.authority.serve_as(host, SystemTime::now());
        let config = config.map_err(|error| failed(io::Error::other(error)))?;
        let (reader, writer) = tokio::io::split(stream);
        let whole = tokio::io::join(io::Cursor::new(greeting).chain(reader), writer);
        tokio::time::timeout(limits.greeting_time, TlsAcceptor::from(config).accept(whole))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)
    }

    async fn serve_requests(&self, inside: Inside) -> Option<Stop> {
        let limits = &self.shared.limits;
        let kept = Kept::default();
        let service =
            service_fn(async |request| Ok::<_, Infallible>(self.answer(request, &kept).await));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head_bytes.max(8192))
            .serve_connection(TokioIo::new(inside), service)
            .await;
        // A head that hyper refused reached nobody, and is a decision all the same.
        if let Err(error) = served
            && error.is_parse()
        {
            let mut account = self.account("", "");
            account.denied(&Denial::UnreadableHead);
            account.failed(error.to_string());
        }
        self.located.passage.over().map(Stop::Denied)
    }

    /// The account of one request.
    fn account(&self, method: &str, path: &str) -> Account {
        let session = self.slot.binding().map(|binding| binding.session);
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.slot));
        let mut account = Account::open(shared, slot, session, method, path);
        account.about_host(format!("{}:{}", self.target.host, self.target.port));
        account
    }

    async fn answer(&self, request: Request<Incoming>, kept: &Kept) -> Response<Body> {
        let mut account = self.account(request.method().as_str(), request.uri().path());
        let form = Form::of(&request);
        let binding = self.slot.binding();
        let egress = binding.as_deref().map(|binding| &binding.egress);
        let (sent, changes) = match self.judge(&request, egress) {
            Ok(judged) => judged,
            Err(denial) => return deny(&self.shared, account, &denial, form).await,
        };
        account.about_credentials(&changes.used, changes.stripped);
        let limits = &self.shared.limits;
        let meter = account.meter();
        let (head, body) = request.into_parts();
        let body = Metered::new(body, Arc::clone(&meter), u64::MAX, limits.body_idle);
        let mut outgoing = Request::new(body.boxed_unsync());
        *outgoing.method_mut() = head.method;
        *outgoing.uri_mut() = origin(&head.uri);
        *outgoing.headers_mut() = sent;
        match self.send(kept, outgoing, &meter).await {
            Ok((answer, address)) => {
                account.pinned(address);
                let (head, body) = answer.into_parts();
                // A cookie may stand for the credential that was added.
                let passed = if changes.used.is_empty() {
                    headers::of_message(&head.headers)
                } else {
                    headers::for_sandbox(&head.headers)
                };
                let body = Metered::new(body, Arc::default(), u64::MAX, limits.host_silence);
                account.answer(head.status, passed, body.boxed_unsync())
            }
            Err(why) => match meter.denial(u64::MAX) {
                Some(denial) => deny(&self.shared, account, &denial, form).await,
                None => stop(&self.shared, account, &self.target, why).await,
            },
        }
    }

    /// The headers a request passes with, if it may pass: each is judged by the rules of now.
    fn judge(
        &self,
        request: &Request<Incoming>,
        egress: Option<&Egress>,
    ) -> Result<(HeaderMap, Changes), Denial> {
        if !self.shared.audit.healthy() {
            return Err(Denial::NoAudit);
        }
        let head = Head {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            version: request.version(),
        };
        let host = &self.target.host;
        let rule: HostRule =
            egress::inside(head, host, egress).map_err(|why| self.target.denial(why))?;
        let credentials = egress.map(|egress| egress.credentials.as_slice()).unwrap_or_default();
        let headers = headers::of_message(request.headers());
        let query = request.uri().query();
        let (mut sent, changes) = inject::rewrite(&headers, query, host, &rule, credentials)?;
        // The gateway asks for the body itself once there is somebody to send it to.
        sent.remove(header::EXPECT);
        // A host that was judged is a header's value.
        if let Ok(host) = HeaderValue::from_str(host) {
            sent.insert(header::HOST, host);
        }
        Ok((sent, changes))
    }
}

/// The target as it is written to the host itself.
fn origin(uri: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}
