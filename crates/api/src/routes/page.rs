//! One page for people, without scripts: what sessions and pull requests there are.

use std::fmt::Write;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use protocol::Timestamp;
use protocol::client::{Page, PullRequest};
use protocol::repository::Repository;
use protocol::session::{PullRequestState, SessionStatus, SessionSummary};
use secrecy::ExposeSecret;

use super::PAGE;
use crate::Api;
use crate::access::new_secret;
use crate::extract::Caller;
use crate::problem::Failure;

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
body{max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
code{font-family:ui-monospace,monospace}.quiet{opacity:.7}";

/// `GET /`
pub(super) async fn show(
    State(api): State<Api>,
    Caller(user): Caller,
) -> Result<Response, Failure> {
    let sessions = api.door.sessions(&user, None, PAGE).await?;
    let mut repositories = Vec::new();
    for repository in api.door.repositories(&user).await? {
        let pulls = api.door.pull_requests(&user, &repository.name, None, PAGE).await?;
        repositories.push((repository, pulls));
    }
    let now = Timestamp::from_system(std::time::SystemTime::now());
    let mut body = String::from("<h1>Hangar</h1>");
    let release = api.door.description(&user).release;
    put(
        &mut body,
        format_args!(
            "<p class=\"quiet\">Release {}, signed in as {}. ",
            Escaped(&release),
            Escaped(&user.name)
        ),
    );
    body.push_str("This page only lists what there is; work with sessions through the <code>hangar</code> program.</p>");
    session_table(&mut body, &sessions, now);
    for (repository, pulls) in &repositories {
        repository_section(&mut body, repository, pulls, now);
    }
    if repositories.is_empty() {
        body.push_str("<h2>Repositories</h2><p>None yet. Add one with <code>hangar repository add &lt;path&gt;</code>.</p>");
    }
    Ok(document(StatusCode::OK, &body))
}

/// What people see whose browser is not signed in.
pub(crate) fn signed_out(status: StatusCode) -> Response {
    document(
        status,
        "<h1>Hangar</h1><p>This browser is not signed in, or the sign-in link was used already or \
         is older than 15 minutes.</p><p>The server prints a new link each time it starts.</p>",
    )
}

fn session_table(body: &mut String, sessions: &Page<SessionSummary>, now: Timestamp) {
    body.push_str("<h2>Sessions</h2>");
    if sessions.items.is_empty() {
        body.push_str("<p>None yet. Start one with <code>hangar run</code>.</p>");
        return;
    }
    body.push_str("<table><tr><th>Session<th>Status<th>Repository<th>Agent<th>Changed</tr>");
    for session in &sessions.items {
        put(
            body,
            format_args!(
                "<tr><td><a href=\"/v1/sessions/{id}\">{}</a><br><code class=\"quiet\">{id}</code>\
                 <td>{}<td>{}<td>{}<td>{}</tr>",
                Escaped(&session.title),
                status(session.status),
                Escaped(&session.repository.to_string()),
                Escaped(&session.agent),
                Escaped(&age(session.updated_at, now)),
                id = session.id,
            ),
        );
    }
    body.push_str("</table>");
    if sessions.next.is_some() {
        put(
            body,
            format_args!("<p class=\"quiet\">The {PAGE} that changed last; there are more.</p>"),
        );
    }
}

fn repository_section(
    body: &mut String,
    repository: &Repository,
    pulls: &Page<PullRequest>,
    now: Timestamp,
) {
    let name = repository.name.to_string();
    put(body, format_args!("<h2>{}</h2>", Escaped(&name)));
    if pulls.items.is_empty() {
        body.push_str("<p>No pull requests yet.</p>");
        return;
    }
    body.push_str("<table><tr><th>Pull request<th>State<th>Changes<th>Author<th>Changed</tr>");
    for pull in &pulls.items {
        put(
            body,
            format_args!(
                "<tr><td>#{number} <a href=\"/v1/repositories/{name}/pulls/{number}/diff\">{}</a>\
                 <br><code class=\"quiet\">{}</code><td>{}<td>{} files, +{} −{}<td>{}<td>{}</tr>",
                Escaped(&pull.title),
                Escaped(&pull.branch),
                match pull.state {
                    PullRequestState::Open => "open",
                    PullRequestState::Merged => "merged",
                    PullRequestState::Closed => "closed",
                },
                pull.diff_stat.files,
                pull.diff_stat.added,
                pull.diff_stat.removed,
                Escaped(&pull.author.name),
                Escaped(&age(pull.updated_at, now)),
                number = pull.number,
                name = Escaped(&name),
            ),
        );
    }
    body.push_str("</table>");
    if pulls.next.is_some() {
        put(body, format_args!("<p class=\"quiet\">The newest {PAGE}; there are more.</p>"));
    }
}

const fn status(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Idle => "idle",
        SessionStatus::Preparing => "preparing",
        SessionStatus::Running => "running",
        SessionStatus::Stopping => "stopping",
        SessionStatus::Publishing => "publishing",
        SessionStatus::Failed => "failed",
    }
}

fn age(then: Timestamp, now: Timestamp) -> String {
    let minutes = now.milliseconds_since(then) / 60_000;
    match minutes {
        ..=0 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} hours ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}

/// A whole document; only this one's style sheet is allowed, by a number that nobody can guess.
fn document(status: StatusCode, body: &str) -> Response {
    let nonce = new_secret();
    let nonce = nonce.as_ref().map_or("", |secret| secret.expose_secret());
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Hangar</title>\
         <style nonce=\"{nonce}\">{STYLE}</style><main>{body}</main></html>"
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'; \
         form-action 'none'"
    );
    let mut response = (status, Html(page)).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = body.write_fmt(text);
}

/// Text that somebody else wrote, harmless between tags and in attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                character if character.is_control() => formatter.write_str("\u{fffd}")?,
                character => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_text() {
        let text = "<script>alert('x')</script>\" onload=\u{7}&amp;";
        let escaped = Escaped(text).to_string();
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=\u{fffd}&amp;amp;"
        );
    }
}
