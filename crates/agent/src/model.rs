//! Asks the model: one request at a time, patiently, over plain HTTP to the gateway.

mod attempt;
mod failure;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::conversation::Answer;
use crate::dialect::{Delta, Request};
use crate::settings::{Endpoint, Patience};
use attempt::{Broken, Target};

pub use failure::{Error, chain};

/// A model that can be asked.
#[derive(Debug)]
pub struct Model {
    endpoint: Endpoint,
    target: Target,
    patience: Patience,
}

/// What happens while an answer is awaited.
#[derive(Debug)]
pub enum Happening {
    /// A piece of the answer.
    Delta(Delta),
    /// The request failed and will be sent again.
    Again {
        /// What went wrong.
        why: String,
        /// After how long.
        pause: Duration,
        /// Whether text of the failed answer was already shown.
        shown: bool,
    },
}

/// How asking ended.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// With an answer.
    Answer(Answer),
    /// It was cancelled; this text had arrived.
    Stopped(String),
}

impl Model {
    /// The model at an endpoint; nothing is sent yet.
    pub fn new(endpoint: Endpoint, patience: Patience) -> Result<Self, Error> {
        let target = Target::parse(&endpoint.url)?;
        Ok(Self { endpoint, target, patience })
    }

    /// The name to put into a request.
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Sends a request until it is answered, tells `happened` about each piece at once, and gives
    /// up as [`Patience`] says. Cancelling closes the connection, which stops the model.
    pub async fn ask(
        &self,
        request: &Request<'_>,
        cancel: &CancellationToken,
        mut happened: impl FnMut(Happening),
    ) -> Result<Asked, Error> {
        let body = Bytes::from(self.endpoint.dialect.encode(request).to_string());
        let mut pauses = self.pauses();
        loop {
            let mut decoder = self.endpoint.dialect.decoder();
            let mut shown = false;
            let attempt = attempt::run(
                &self.target,
                self.endpoint.dialect,
                body.clone(),
                self.patience.idle,
                &mut decoder,
                |delta| {
                    shown |= matches!(delta, Delta::Text(_));
                    happened(Happening::Delta(delta));
                },
            );
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                outcome = attempt => Some(outcome),
            };
            let Broken { error, again, after } = match outcome {
                None => return Ok(Asked::Stopped(decoder.stopped())),
                Some(Ok(())) => match decoder.finish() {
                    Ok(answer) => return Ok(Asked::Answer(answer)),
                    Err(source) => Broken::again(Error::Answer { source }),
                },
                Some(Err(broken)) => broken,
            };
            let Some(pause) = pauses.next().filter(|_| again) else { return Err(error) };
            let pause = after.unwrap_or(pause).min(self.patience.longest_pause);
            happened(Happening::Again { why: chain(&error), pause, shown });
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Asked::Stopped(String::new())),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::new()
            .with_min_delay(self.patience.first_pause)
            .with_max_delay(self.patience.longest_pause)
            .with_factor(2.0)
            .with_max_times(self.patience.retries)
            .with_jitter()
            .build()
    }
}
