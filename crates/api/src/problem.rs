//! Every answer that is not a success, as a problem document.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use protocol::Refusal;
use protocol::problem::Problem;

use conductor::{Error, chain};

/// The code of a problem that only a change of the server's machine can solve.
pub const MACHINE_LACKS: &str = "machine_lacks";

/// A problem on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) Box<Problem>);

impl Failure {
    /// A problem of a kind with a stable code; the title is the code in words.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let mut title = code.replace('_', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self(Box::new(Problem {
            kind: format!("/errors/{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            hint: None,
        }))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Nobody said who they are.
    pub(crate) fn unauthenticated() -> Self {
        let detail = "this needs a token or a signed-in browser";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).hint(
            "send `Authorization: Bearer <token>` with the text of the file `token` in the data \
             directory, or open the sign-in link that the server printed when it started",
        )
    }

    /// Something in here broke; what exactly is for the log.
    pub(crate) fn internal() -> Self {
        let detail = "the server made a mistake while it answered; nothing more is known here";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            .hint("see the server's log, and try again")
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, axum::Json(&*self.0)).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"Hangar\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "not_found", text),
            Error::Refused(refusal) => refused(&refusal),
            Error::Invalid { hint, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", text).hint(hint)
            }
            Error::Unavailable { hint, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text).hint(hint)
            }
            Error::MachineLacks { hint, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, MACHINE_LACKS, text).hint(hint)
            }
            Error::Failed { doing, source } => {
                let detail = format!("{doing} failed: {}", chain(&*source));
                tracing::error!(%detail, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail)
            }
        }
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let status = match refusal {
        Refusal::EmptyPrompt
        | Refusal::PromptTooLong { .. }
        | Refusal::LimitTooHigh { .. }
        | Refusal::LimitTooLow { .. }
        | Refusal::WeakerIsolation { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::UnknownPrompt { .. } => StatusCode::NOT_FOUND,
        Refusal::NotTheAuthor { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::CONFLICT,
    };
    Failure::new(status, refusal.code(), refusal.to_string())
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            _ => "invalid_json",
        };
        let failure = Self::new(rejection.status(), code, without_values(&rejection.body_text()));
        match code {
            "unsupported_media_type" => failure.hint("send `Content-Type: application/json`"),
            "too_large" => failure.hint(format!("send at most {} bytes", crate::BODY_BYTES)),
            _ => failure,
        }
    }
}

/// The text without the strings it quotes: what stands in the wrong place may be a secret, and
/// problems end up in logs.
fn without_values(text: &str) -> String {
    const BEFORE: &str = "string \"";
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEFORE) {
        told.push_str(&rest[..at]);
        told.push_str("a string");
        rest = &rest[at + BEFORE.len()..];
        let mut escaped = false;
        let end = rest.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        rest = end.map_or("", |end| &rest[end + 1..]);
    }
    told.push_str(rest);
    told
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_path", rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn what_was_sent_is_not_repeated() {
        let text = r#"invalid type: string "a \"secret\" one", expected struct at line 1 column 9"#;
        let told = "invalid type: a string, expected struct at line 1 column 9";
        assert_eq!(without_values(text), told);
        assert_eq!(without_values("missing field `name`"), "missing field `name`");
        assert_eq!(without_values("string \"cut"), "a string");
    }
}
