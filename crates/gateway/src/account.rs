//! Follows one request to its end, whatever that is, and then writes it down exactly once.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use protocol::repository::RepositoryName;
use protocol::secret::SecretName;
use protocol::{SessionId, Timestamp};

use crate::audit::Line;
use crate::body::{Body, BoxError, Meter};
use crate::egress::live::Entry;
use crate::egress::meter::Passage;
use crate::egress::reach::Located;
use crate::git::Service;
use crate::model::Scanner;
use crate::server::{Shared, Slot};
use crate::{Denial, Observation, Observed, Outcome, ProviderName};

/// The status in audit lines when the sandbox went away before there was an answer.
const CLIENT_GONE: u16 = 499;

/// One request from its head to the end of its answer. Dropping it concludes it: an answer that
/// nobody waits for any more is written down like any other.
#[derive(Debug)]
pub(crate) struct Account {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    session: Option<SessionId>,
    at: Timestamp,
    arrived: Instant,
    host: String,
    method: String,
    path: String,
    meter: Arc<Meter>,
    bytes_out: u64,
    status: u16,
    denial: Option<Denial>,
    credential: Option<String>,
    address: Option<IpAddr>,
    /// The connection to a host, which counts for itself.
    passage: Option<Arc<Passage>>,
    entry: Option<Entry>,
    stripped: Vec<String>,
    subject: Subject,
    outcome: Outcome,
}

#[derive(Debug)]
enum Subject {
    Other,
    Model {
        request: u64,
        provider: ProviderName,
        scanner: Scanner,
        first_byte: Option<Duration>,
        first_token: Option<Duration>,
    },
    Git {
        service: Service,
        repository: RepositoryName,
    },
}

impl Account {
    pub(crate) fn open(
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        session: Option<SessionId>,
        method: &str,
        path: &str,
    ) -> Self {
        Self {
            shared,
            slot,
            session,
            at: Timestamp::from_system(SystemTime::now()),
            arrived: Instant::now(),
            host: "gateway".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            meter: Arc::default(),
            bytes_out: 0,
            status: CLIENT_GONE,
            denial: None,
            credential: None,
            address: None,
            passage: None,
            entry: None,
            stripped: Vec::new(),
            subject: Subject::Other,
            outcome: Outcome::ClientGone,
        }
    }

    pub(crate) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Names the host a request is for.
    pub(crate) fn about_host(&mut self, host: String) {
        self.host = host;
    }

    /// What passes to and from a host from now on is this request's.
    pub(crate) fn carries(&mut self, located: &Located) {
        self.passage = Some(Arc::clone(&located.passage));
    }

    /// The connection went to this address of the host.
    pub(crate) fn pinned(&mut self, address: Option<IpAddr>) {
        self.address = address;
    }

    /// The connection to a host stays on the sandbox's list as long as this request lasts.
    pub(crate) fn holds(&mut self, entry: Entry) {
        self.entry = Some(entry);
    }

    /// A tunnel was granted.
    pub(crate) fn opened(&mut self) {
        self.status = StatusCode::OK.as_u16();
    }

    /// Names the secrets that were added to a request, and the headers that were taken from it.
    pub(crate) fn about_credentials(&mut self, used: &[SecretName], stripped: Vec<String>) {
        let names: Vec<_> = used.iter().map(SecretName::as_str).collect();
        self.credential = (!names.is_empty()).then(|| names.join(", "));
        self.stripped = stripped;
    }

    /// The request goes to a model; tells the observer so.
    pub(crate) fn about_model(
        &mut self,
        provider: ProviderName,
        host: String,
        credential: Option<String>,
    ) {
        let request = self.shared.next_request();
        self.host = host;
        self.credential = credential;
        self.subject = Subject::Model {
            request,
            provider,
            scanner: Scanner::Ignoring,
            first_byte: None,
            first_token: None,
        };
        self.tell(Observed::ModelRequestStarted { request, provider, arrived: self.arrived });
    }

    /// The request goes to the forge.
    pub(crate) fn about_git(&mut self, service: Service, repository: RepositoryName) {
        "local".clone_into(&mut self.host);
        self.subject = Subject::Git { service, repository };
    }

    /// The request is denied; tells the observer unless it was told of the same host just now.
    /// Returns how many denials this sandbox had within a minute.
    pub(crate) fn denied(&mut self, denial: &Denial) -> u64 {
        self.denial = Some(denial.clone());
        let key = match denial {
            Denial::Host { host, .. } => host,
            other => other.code(),
        };
        let advice = self.slot.note_denial(key, Instant::now());
        if let Some(count) = advice.tell {
            self.tell(Observed::Denied {
                denial: denial.clone(),
                method: self.method.clone(),
                count,
            });
        }
        advice.in_window
    }

    /// The other side failed before there was an answer of its own.
    pub(crate) fn failed(&mut self, reason: String) {
        self.outcome = Outcome::Failed(reason);
    }

    /// Sends an answer; from here on the account travels with the answer's body.
    pub(crate) fn answer(
        mut self,
        status: StatusCode,
        headers: HeaderMap,
        body: Body,
    ) -> Response<Body> {
        self.status = status.as_u16();
        if let Subject::Model { scanner, .. } = &mut self.subject {
            *scanner = Scanner::of(headers.get(header::CONTENT_TYPE));
        }
        // The server does not ask for pieces of an empty body, or for those of an answer to HEAD.
        if body.is_end_stream() || self.method == "HEAD" {
            self.completed();
        }
        let expected = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .or_else(|| body.size_hint().exact());
        let accounted = Accounted { inner: body, expected, account: self };
        let mut response = Response::new(accounted.boxed_unsync());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn passed(&mut self, data: &Bytes) {
        self.bytes_out += data.len() as u64;
        let Subject::Model { request, scanner, first_byte, first_token, .. } = &mut self.subject
        else {
            return;
        };
        let after = self.arrived.elapsed();
        first_byte.get_or_insert(after);
        if scanner.scan(data) && first_token.is_none() {
            *first_token = Some(after);
            let request = *request;
            self.tell(Observed::ModelFirstToken { request, after });
        }
    }

    /// It ended as it should, if nothing was said about it before.
    pub(crate) fn completed(&mut self) {
        if self.outcome == Outcome::ClientGone {
            self.outcome = Outcome::Completed;
        }
    }

    fn tell(&self, what: Observed) {
        self.shared.observer.observed(Observation {
            sandbox: self.slot.sandbox,
            session: self.session,
            at: Timestamp::from_system(SystemTime::now()),
            what,
        });
    }

    fn conclusion(&mut self) -> Option<Observed> {
        let (status, outcome) = (self.status, self.outcome.clone());
        match std::mem::replace(&mut self.subject, Subject::Other) {
            Subject::Other => None,
            Subject::Model { request, provider, scanner, first_byte, first_token } => {
                let (usage, model) = scanner.finish();
                let total = self.arrived.elapsed();
                Some(Observed::ModelAnswered {
                    request,
                    provider,
                    status,
                    model,
                    usage,
                    first_byte,
                    first_token,
                    total,
                    outcome,
                })
            }
            Subject::Git { service, repository } => Some(Observed::Git {
                service,
                repository,
                status,
                bytes_in: self.meter.bytes(),
                bytes_out: self.bytes_out,
                outcome,
            }),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let passed = self.passage.as_ref().map(|passage| passage.bytes());
        let (bytes_in, bytes_out) = passed.unwrap_or((self.meter.bytes(), self.bytes_out));
        self.shared.audit.write(&Line {
            time: self.at,
            session: self.session,
            sandbox: self.slot.sandbox,
            host: std::mem::take(&mut self.host),
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            status: self.status,
            address: self.address,
            bytes_in,
            bytes_out,
            milliseconds: u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
            verdict: self.denial.as_ref().map_or("allowed", Denial::code),
            reason: self.denial.as_ref().map(ToString::to_string),
            credential: self.credential.take(),
            stripped: std::mem::take(&mut self.stripped),
            outcome: self.outcome.clone(),
        });
        if let Some(observed) = self.conclusion() {
            self.tell(observed);
        }
    }
}

/// An answer's body on its way into the sandbox. Each piece is passed on as it came, at once.
#[derive(Debug)]
struct Accounted {
    inner: Body,
    /// The length that was announced: the server stops asking once it is reached.
    expected: Option<u64>,
    account: Account,
}

impl HttpBody for Accounted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.account.completed(),
            Poll::Ready(Some(Err(error))) => this.account.failed(error.to_string()),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.account.passed(data);
                }
                if this.expected == Some(this.account.bytes_out) || this.inner.is_end_stream() {
                    this.account.completed();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
