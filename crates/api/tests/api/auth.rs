//! Nothing answers without credentials, and nothing that a foreign page can send counts as them.

use http::{Method, StatusCode};
use protocol::{PromptId, SessionId};
use secrecy::ExposeSecret;

use crate::bench::Bench;

/// Every route that wants credentials, and some that do not exist.
fn routes() -> Vec<(Method, String)> {
    let (session, prompt) = (SessionId::new(), PromptId::new());
    let get = [
        "/".to_owned(),
        "/v1/server".to_owned(),
        "/v1/server/levels".to_owned(),
        "/v1/secrets".to_owned(),
        "/v1/stream".to_owned(),
        "/v1/bases".to_owned(),
        "/v1/repositories".to_owned(),
        "/v1/repositories/local/x".to_owned(),
        "/v1/repositories/local/x/pulls".to_owned(),
        "/v1/repositories/local/x/pulls/1".to_owned(),
        "/v1/repositories/local/x/pulls/1/diff".to_owned(),
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}"),
        format!("/v1/sessions/{session}/events"),
        format!("/v1/sessions/{session}/diff"),
        "/git/local/x.git/info/refs?service=git-upload-pack".to_owned(),
        "/nothing".to_owned(),
        "/v1".to_owned(),
        "/sign-in/".to_owned(),
        "/healthz/x".to_owned(),
        "//healthz".to_owned(),
    ];
    let post = [
        "/v1/bases".to_owned(),
        "/v1/secrets/rotate".to_owned(),
        "/v1/repositories".to_owned(),
        "/v1/repositories/local/x/image".to_owned(),
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}/prompts"),
        format!("/v1/sessions/{session}/stop"),
        "/git/local/x.git/git-upload-pack".to_owned(),
        "/git/local/x.git/git-receive-pack".to_owned(),
    ];
    let one = format!("/v1/sessions/{session}/prompts/{prompt}");
    let gets = get.into_iter().map(|path| (Method::GET, path));
    let posts = post.into_iter().map(|path| (Method::POST, path));
    let secret = "/v1/secrets/run/NPM_TOKEN".to_owned();
    let rest = [
        (Method::PUT, secret.clone()),
        (Method::DELETE, secret),
        (Method::PUT, one.clone()),
        (Method::DELETE, one),
        (Method::PATCH, "/v1/sessions".to_owned()),
    ];
    gets.chain(posts).chain(rest).collect()
}

#[tokio::test]
async fn no_route_answers_without_credentials() {
    let bench = Bench::start().await;
    let wrong = "0".repeat(64);
    let (bearer, cookie) = (format!("Bearer {wrong}"), format!("hangar_session={wrong}"));
    let token_as_cookie = format!("hangar_session={}", bench.token.expose_secret());
    let bare = bench.token.expose_secret().to_owned();
    let attempts: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", &bearer)],
        &[("authorization", "Bearer ")],
        &[("authorization", &bare)],
        &[("cookie", &cookie)],
        &[("cookie", &token_as_cookie)],
    ];
    for (method, path) in routes() {
        for headers in attempts {
            let answer = bench.send(method.clone(), &path, headers, "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {headers:?}");
            if path != "/" {
                assert_eq!(answer.problem().code, "unauthenticated");
                assert!(answer.headers.contains_key("www-authenticate"));
            }
        }
    }
    assert_eq!(bench.connect(&[]).await.err(), Some(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn the_token_opens_every_route() {
    let bench = Bench::start().await;
    let bearer = bench.bearer();
    for (method, path) in routes() {
        if path.starts_with("/git/") && method == Method::POST {
            continue;
        }
        let headers = [("authorization", bearer.as_str())];
        let answer = bench.send(method.clone(), &path, &headers, "").await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}

#[tokio::test]
async fn health_says_nothing_but_ok() {
    let bench = Bench::start().await;
    let answer = bench.send(Method::GET, "/healthz", &[], "").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok\n"));
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_sign_in_link_works_once() {
    let bench = Bench::start().await;
    let code = bench.code();
    let link = format!("/sign-in?code={}", code.expose_secret());
    let looked = bench.send(Method::HEAD, &link, &[], "").await;
    assert_eq!(looked.status, StatusCode::METHOD_NOT_ALLOWED, "looking does not use it up");

    let answer = bench.send(Method::GET, &link, &[], "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers["location"], "/");
    let set = answer.headers["set-cookie"].to_str().expect("text").to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(set.starts_with(&format!("hangar_session_{}=", bench.address.port())), "{set}");
    assert!(!set.contains(bench.token.expose_secret()), "a browser never gets the token");
    let cookie = set.split(';').next().expect("a cookie");
    let page = bench.send(Method::GET, "/", &[("cookie", cookie)], "").await;
    assert_eq!(page.status, StatusCode::OK);

    for path in [link.as_str(), "/sign-in", "/sign-in?code=", "/sign-in?code=1"] {
        let again = bench.send(Method::GET, path, &[], "").await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(!again.headers.contains_key("set-cookie"), "{path}");
        assert!(again.text().contains("used already"), "{path}");
    }
}

/// A cookie of a browser that was signed in.
async fn signed_in(bench: &Bench) -> String {
    let link = format!("/sign-in?code={}", bench.code().expose_secret());
    let answer = bench.send(Method::GET, &link, &[], "").await;
    let set = answer.headers["set-cookie"].to_str().expect("text");
    set.split(';').next().expect("a cookie").to_owned()
}

#[tokio::test]
async fn foreign_pages_cannot_use_a_browsers_cookie() {
    let bench = Bench::start().await;
    let cookie = signed_in(&bench).await;
    let own = format!("http://{}", bench.address);
    let neighbour = format!("http://127.0.0.1:{}", bench.address.port().wrapping_add(1));
    let headers = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    assert!(bench.connect(&headers).await.is_ok(), "the own page may");
    for foreign in ["http://evil.example", neighbour.as_str(), "null", "https://localhost"] {
        let headers = [("cookie", cookie.as_str()), ("origin", foreign)];
        assert_eq!(bench.connect(&headers).await.err(), Some(StatusCode::FORBIDDEN), "{foreign}");
        let answer = bench.send(Method::POST, "/v1/sessions", &headers, "{}").await;
        assert_eq!(answer.problem().code, "foreign_origin", "{foreign}");
    }
}

#[tokio::test]
async fn a_rebound_name_is_refused_before_anything_else() {
    let bench = Bench::start().await;
    let bearer = bench.bearer();
    for path in ["/", "/v1/server", "/healthz", "/sign-in?code=1"] {
        let headers = [("authorization", bearer.as_str()), ("host", "evil.example:7878")];
        let answer = bench.send(Method::GET, path, &headers, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.problem().code, "unknown_host");
    }
    for host in ["localhost:1234", "127.0.0.1", "[::1]:7878", "hangar.example.org"] {
        let headers = [("authorization", bearer.as_str()), ("host", host)];
        let answer = bench.send(Method::GET, "/v1/server", &headers, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_not_helped_by_a_cookie() {
    let bench = Bench::start().await;
    let cookie = signed_in(&bench).await;
    let headers = [("cookie", cookie.as_str()), ("authorization", "Bearer x")];
    let answer = bench.send(Method::GET, "/v1/server", &headers, "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
