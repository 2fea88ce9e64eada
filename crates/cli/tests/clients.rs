//! Several clients of one real session see the same, whatever their connections do.

mod support;

use protocol::Event;
use support::Server;

fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}

#[tokio::test]
async fn a_client_that_reconnects_has_the_same_list_as_one_that_stayed() {
    let server = Server::start();
    let repository = server.repository("small").await;
    let session = server.session(&repository, "Say more about it").await.summary.id;
    let started = |event: &Event| matches!(event, Event::PromptStarted { .. });
    // One client stays; the other leaves in the middle and comes back with its last number.
    let (stayed, returned) = tokio::join!(server.until(session, 0, finished), async {
        let before = server.until(session, 0, started).await;
        let last = before.last().expect("some").sequence;
        let after = server.until(session, last, finished).await;
        before.into_iter().chain(after).collect::<Vec<_>>()
    });
    assert_eq!(stayed, returned);
    assert!(stayed.iter().map(|envelope| envelope.sequence).eq(1..=stayed.len() as u64));
}

#[tokio::test]
async fn the_list_is_the_same_after_a_restart_of_the_server() {
    let mut server = Server::start();
    let repository = server.repository("small").await;
    let session = server.session(&repository, "Say more about it").await.summary.id;
    let before = server.until(session, 0, finished).await;
    server.end();
    assert_eq!(server.leftovers(), Vec::<String>::new(), "an ended server leaves nothing running");
    server.start_again();
    let after = server.until(session, 0, finished).await;
    assert_eq!(before, after);
    let pull_requests = server.client().pull_requests(&repository).await.expect("listed");
    assert_eq!(pull_requests.len(), 1);
}
