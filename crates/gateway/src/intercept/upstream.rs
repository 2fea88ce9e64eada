//! The far side of an intercepted connection: verified TLS to the real host, kept for as long as
//! the near side lives.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::Intercepted;
use crate::body::{Body, Meter};
use crate::egress::reach::{Stop, connect};

/// How long a kept connection may need for what came before.
const SETTLING: Duration = Duration::from_secs(1);

/// The connection to the host. It belongs to one connection of one sandbox, so nothing that a host
/// ties to a connection is ever shared.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<Connected>>);

#[derive(Debug)]
struct Connected {
    sender: SendRequest<Body>,
    address: Option<IpAddr>,
}

type Answer = (Response<Incoming>, Option<IpAddr>);

impl Intercepted {
    /// Sends a request and gives the head of its answer, and the address it came from.
    pub(super) async fn send(
        &self,
        kept: &Kept,
        request: Request<Body>,
        meter: &Meter,
    ) -> Result<Answer, Stop> {
        // What the policy's bytes cut off is denied, whatever it looks like from here.
        let over = |stop| self.located.passage.over().map_or(stop, Stop::Denied);
        let (answer, address) = self.exchange(kept, request, meter).await.map_err(over)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed("changed the protocol without being asked to"));
        }
        Ok((answer, address))
    }

    async fn exchange(
        &self,
        kept: &Kept,
        mut request: Request<Body>,
        meter: &Meter,
    ) -> Result<Answer, Stop> {
        let mut kept = kept.0.lock().await;
        if let Some(mut connected) = kept.take()
            && settled(&mut connected.sender).await
        {
            match self.patiently(meter, connected.sender.try_send_request(request)).await? {
                Ok(answer) => {
                    let address = kept.insert(connected).address;
                    return Ok((answer, address));
                }
                // The host closed the kept connection just then, and has seen nothing of it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.failed(&readable(&error.into_error()))),
                },
            }
        }
        let connected = kept.insert(self.connect().await?);
        let answer = self.patiently(meter, connected.sender.send_request(request)).await?;
        Ok((answer.map_err(|error| self.failed(&readable(&error)))?, connected.address))
    }

    /// Waits for as long as something of the request still moves.
    async fn patiently<T>(
        &self,
        meter: &Meter,
        answer: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let silence = self.shared.limits.host_silence;
        tokio::pin!(answer);
        loop {
            let before = meter.bytes();
            if let Ok(answer) = tokio::time::timeout(silence, &mut answer).await {
                return Ok(answer);
            }
            if meter.bytes() == before {
                return Err(self.failed("gave no answer in time"));
            }
        }
    }

    async fn connect(&self) -> Result<Connected, Stop> {
        let (stream, address) = connect(&self.shared, &self.target, &self.located).await?;
        let name = ServerName::try_from(self.target.host.clone())
            .map_err(|error| self.failed(&format!("cannot be named in TLS: {error}")))?;
        let greeting = TlsConnector::from(Arc::clone(&self.shared.tls)).connect(name, stream);
        let stream = tokio::time::timeout(self.shared.limits.greeting_time, greeting)
            .await
            .map_err(|_| self.failed("did not answer the TLS greeting in time"))?
            .map_err(|error| self.failed(&untrusted(&error)))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(&readable(&error)))?;
        let ended = self.located.entry.ended.clone();
        // Ends with the sender, when the host closes it, or when the rules are against it.
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                _ = connection => {}
            }
        });
        Ok(Connected { sender, address })
    }

    /// Never holds more of a request than its host.
    fn failed(&self, what: &str) -> Stop {
        Stop::Failed(format!("{} {what}", self.target.host))
    }
}

async fn settled(sender: &mut SendRequest<Body>) -> bool {
    matches!(tokio::time::timeout(SETTLING, sender.ready()).await, Ok(Ok(())))
}

fn untrusted(error: &std::io::Error) -> String {
    let about = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if matches!(about, Some(rustls::Error::InvalidCertificate(_))) {
        format!(
            "has a certificate that is not trusted ({error}); if a company's own authority signed \
             it, an admin has to start this server with `--trust FILE`"
        )
    } else {
        format!("and the gateway found no TLS: {error}")
    }
}

/// The error's whole chain as a sentence about the host.
fn readable(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("gave no answer: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
