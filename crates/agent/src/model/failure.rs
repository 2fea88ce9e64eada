//! What can go wrong between the agent and its model, in words for people.

use std::io;

use serde_json::Value;

use crate::dialect;
use crate::text::title;

/// Why the model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error(
        "HANGAR_MODEL_URL is {url:?}, but it must look like http://127.0.0.1:7070/model/NAME: plain \
         http to an IP address, since models are reached through the gateway"
    )]
    Address {
        /// What it is.
        url: String,
    },
    /// Nobody answers there.
    #[error("could not connect to the model at {url}; the gateway may be restarting")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer did.
    #[error("the connection to the model at {url} was dropped")]
    Dropped {
        /// Where.
        url: String,
        /// How.
        #[source]
        source: hyper::Error,
    },
    /// Nothing came for too long.
    #[error("the model at {url} sent nothing for {seconds} seconds")]
    Silent {
        /// Where.
        url: String,
        /// How long the agent waited.
        seconds: u64,
    },
    /// The server answered with an error.
    #[error("the model's server refused the request with status {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// Success, but not the stream that was asked for.
    #[error(
        "the model's server answered with {found} instead of an event stream; check \
         HANGAR_MODEL_URL and HANGAR_MODEL_DIALECT"
    )]
    NotAStream {
        /// The content type.
        found: String,
    },
    /// More than any sensible answer.
    #[error("the model's answer is longer than {megabytes} MB")]
    TooLong {
        /// The limit.
        megabytes: usize,
    },
    /// The stream made no answer.
    #[error("the model's answer could not be used")]
    Answer {
        /// Why.
        #[source]
        source: dialect::Error,
    },
}

/// An error and everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What an error body says: model servers nest a message, the gateway says what it denied.
pub(super) fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        let text = title(&text, 500);
        return if text.is_empty() { "no reason given".to_owned() } else { text };
    };
    let string = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(denied) = string(&json["denied"]) {
        let hint = string(&json["hint"]).map(|hint| format!(" ({hint})")).unwrap_or_default();
        return format!("denied by the gateway: {denied}{hint}");
    }
    string(&json["error"]["message"])
        .or_else(|| string(&json["error"]))
        .or_else(|| string(&json["message"]))
        .unwrap_or_else(|| title(&text, 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_wherever_servers_put_them() {
        for (body, expected) in [
            (r#"{"type":"error","error":{"type":"x","message":"bad key"}}"#, "bad key"),
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"message":"top"}"#, "top"),
            (
                r#"{"denied":"no budget","hint":"ask Ada"}"#,
                "denied by the gateway: no budget (ask Ada)",
            ),
            ("<html>nginx</html>", "<html>nginx</html>"),
            ("", "no reason given"),
        ] {
            assert_eq!(reason(body.as_bytes()), expected);
        }
    }
}
