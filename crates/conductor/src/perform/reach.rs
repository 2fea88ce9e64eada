//! Asks agentd until it answers.

use std::time::Duration;

use sandbox::agentd::Error;

use crate::error::chain;

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Calls agentd again while its connection fails, for at most `patience` in all: what a request
/// asked for may have happened although the answer was lost, and asking again does nothing twice.
/// The error is agentd's refusal, or why there was no answer, in words for people.
pub(super) async fn reach<T, F>(patience: Duration, call: impl Fn() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, Error>>,
{
    let asking = async {
        let mut pause = PAUSES.0;
        loop {
            match call().await {
                Err(error) if error.is_connection() => {
                    tracing::debug!(error = chain(&error), "asking agentd again");
                    tokio::time::sleep(pause).await;
                    pause = PAUSES.1.min(pause * 2);
                }
                Err(error) => return Err(chain(&error)),
                Ok(answer) => return Ok(answer),
            }
        }
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("the sandbox gave no answer within {} s", patience.as_secs())),
    }
}
