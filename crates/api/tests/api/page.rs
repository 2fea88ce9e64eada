//! The page for people: honest, escaped, without scripts.

use http::{Method, StatusCode};

use crate::bench::Bench;

#[tokio::test]
async fn the_page_lists_and_escapes() {
    let bench = Bench::with_title("<img src=x onerror=alert(1)>&\"").await;
    let session = bench.door.new_session();
    let page = bench.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    let text = page.text();
    assert!(text.contains(&session.to_string()), "{text}");
    assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;&amp;&quot;"), "{text}");
    assert!(text.contains("Ada &lt;i&gt;"), "{text}");
    assert!(!text.contains("<img") && !text.contains("<script"), "{text}");
    assert!(text.contains("/v1/repositories/local/x/pulls/1/diff"), "{text}");
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    assert!(!policy.contains("script") && !policy.contains("unsafe"), "{policy}");
    let nonce = policy.split("nonce-").nth(1).and_then(|rest| rest.split('\'').next());
    assert!(text.contains(&format!("<style nonce=\"{}\">", nonce.expect("a nonce"))));
}

#[tokio::test]
async fn a_browser_that_is_not_signed_in_is_told_how() {
    let bench = Bench::start().await;
    bench.door.new_session();
    let page = bench.send(Method::GET, "/", &[], "").await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.text().contains("prints a new link"), "{}", page.text());
    assert!(!page.text().contains("ses_") && !page.text().contains("Ada"), "{}", page.text());
}
