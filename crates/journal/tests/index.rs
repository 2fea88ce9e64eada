//! The index keeps what lists are made of, and pages through it.

use journal::index::{Order, SecretRow};
use journal::{Error, Index};
use protocol::repository::{Image, ImageState, Repository, RepositoryName};
use protocol::sandbox::{Isolation, LimitRequest};
use protocol::secret::{SecretDelivery, SecretDescription, SecretPhase};
use protocol::session::{Author, SessionStatus, SessionSummary};
use protocol::settings::RepositorySettings;
use protocol::{ImageId, SessionId, Timestamp, UserId};

fn name(text: &str) -> RepositoryName {
    text.parse().expect("a repository name")
}

fn repository(text: &str) -> Repository {
    Repository {
        name: name(text),
        source: format!("/home/somebody/{text}"),
        default_branch: "main".to_owned(),
        registered_at: Timestamp(5),
        image: None,
    }
}

fn image(started_at: i64, state: ImageState) -> Image {
    Image {
        id: ImageId::new(),
        commit: "a".repeat(40),
        base: "host".to_owned(),
        state,
        started_at: Timestamp(started_at),
        milliseconds: None,
    }
}

fn summary(created: i64, updated: i64) -> SessionSummary {
    SessionSummary {
        id: SessionId::new(),
        title: format!("made at {created}"),
        repository: name("local/hangar"),
        status: SessionStatus::Idle,
        agent: "built-in".to_owned(),
        created_at: Timestamp(created),
        updated_at: Timestamp(updated),
        last_sequence: 1,
    }
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("index.db");
    let author =
        Author { user: UserId::new(), name: "Ada".to_owned(), email: "ada@example.org".to_owned() };
    let session = summary(1, 2);
    let ready = image(10, ImageState::Ready);
    {
        let index = Index::open(&path).expect("a new index");
        index.put_user(&author).await.expect("a user");
        index.put_repository(&repository("local/hangar")).await.expect("a repository");
        index.put_image(&name("local/hangar"), &ready).await.expect("an image");
        index.put_session(&session).await.expect("a session");
        index.set_setting("local_user", "x").await.expect("a setting");
    }
    let index = Index::open(&path).expect("the same index");
    assert_eq!(index.user(author.user).await.expect("read"), Some(author.clone()));
    assert_eq!(index.users().await.expect("read"), [author]);
    assert_eq!(index.session(session.id).await.expect("read"), Some(session));
    assert_eq!(index.setting("local_user").await.expect("read").as_deref(), Some("x"));
    assert_eq!(index.setting("missing").await.expect("read"), None);
    let expected = Repository { image: Some(ready), ..repository("local/hangar") };
    assert_eq!(index.repositories().await.expect("read"), [expected]);
}

#[tokio::test]
async fn a_repository_shows_its_newest_ready_image() {
    let index = Index::memory().expect("an index");
    let hangar = name("local/hangar");
    index.put_repository(&repository("local/hangar")).await.expect("a repository");
    index.put_repository(&repository("local/another")).await.expect("a repository");
    assert_eq!(index.latest_image(&hangar).await.expect("read"), None);

    let older = image(10, ImageState::Ready);
    let mut newer = image(20, ImageState::Building);
    index.put_image(&hangar, &older).await.expect("put");
    index.put_image(&hangar, &newer).await.expect("put");
    assert_eq!(index.latest_image(&hangar).await.expect("read"), Some(older.clone()));

    newer.state = ImageState::Ready;
    index.put_image(&hangar, &newer).await.expect("put");
    assert_eq!(index.latest_image(&hangar).await.expect("read"), Some(newer.clone()));
    let failed = image(30, ImageState::Failed { reason: "no disk".to_owned() });
    index.put_image(&hangar, &failed).await.expect("put");
    assert_eq!(index.latest_image(&hangar).await.expect("read"), Some(newer.clone()));

    let all = index.images(&hangar).await.expect("read");
    assert_eq!(all, [failed, newer.clone(), older]);
    assert_eq!(index.image(newer.id).await.expect("read"), Some((hangar, newer)));
    let names: Vec<_> =
        index.repositories().await.expect("read").into_iter().map(|it| it.name).collect();
    assert_eq!(names, [name("local/another"), name("local/hangar")]);
    assert_eq!(index.repository(&name("local/none")).await.expect("read"), None);
}

#[tokio::test]
async fn registering_again_keeps_the_image_and_the_date() {
    let index = Index::memory().expect("an index");
    index.put_repository(&repository("local/hangar")).await.expect("put");
    let ready = image(10, ImageState::Ready);
    index.put_image(&name("local/hangar"), &ready).await.expect("put");
    let again = Repository {
        default_branch: "trunk".to_owned(),
        registered_at: Timestamp(99),
        ..repository("local/hangar")
    };
    index.put_repository(&again).await.expect("put");
    let found = index.repository(&name("local/hangar")).await.expect("read").expect("there");
    assert_eq!(found.default_branch, "trunk");
    assert_eq!(found.registered_at, Timestamp(5));
    assert_eq!(found.image, Some(ready));
}

#[tokio::test]
async fn settings_of_a_repository_are_kept_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("index.db");
    let hangar = name("local/hangar");
    let mut settings = RepositorySettings {
        isolation: Some(Isolation::Gvisor),
        limits: LimitRequest { pids: Some(64), ..LimitRequest::default() },
        base: Some("registry.example.com/debian:12".to_owned()),
        blocked_commands: vec!["git push".to_owned()],
        ..RepositorySettings::default()
    };
    {
        let index = Index::open(&path).expect("a new index");
        index.put_repository(&repository("local/hangar")).await.expect("a repository");
        assert_eq!(index.repository_settings(&hangar).await.expect("read"), None);
        index.put_repository_settings(&hangar, &settings).await.expect("put");
        settings.team = Some("web".to_owned());
        index.put_repository_settings(&hangar, &settings).await.expect("put again");
        let unknown = index.put_repository_settings(&name("local/none"), &settings).await;
        assert!(unknown.is_err(), "settings of a repository that does not exist");
    }
    let index = Index::open(&path).expect("the same index");
    assert_eq!(index.repository_settings(&hangar).await.expect("read"), Some(settings));
}

#[tokio::test]
async fn a_late_summary_does_not_undo_a_newer_one() {
    let index = Index::memory().expect("an index");
    let old = summary(1, 2);
    let new = SessionSummary { last_sequence: 9, updated_at: Timestamp(7), ..old.clone() };
    index.put_session(&new).await.expect("put");
    index.put_session(&old).await.expect("put");
    assert_eq!(index.session(old.id).await.expect("read"), Some(new));
}

#[tokio::test]
async fn pages_hold_every_session_once_in_order() {
    let index = Index::memory().expect("an index");
    let mut all = Vec::new();
    for number in 0..25 {
        // Many share a moment, so that the id has to decide.
        let session = summary(number / 4, 100 - number % 7);
        index.put_session(&session).await.expect("put");
        all.push(session);
    }
    for order in [Order::Created, Order::Updated] {
        all.sort_by_key(|session| match order {
            Order::Created => (session.created_at, session.id),
            Order::Updated => (session.updated_at, session.id),
        });
        all.reverse();
        for limit in [1, 4, 25, 100] {
            let mut collected = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let page = index.sessions(order, cursor.as_deref(), limit).await.expect("a page");
                assert!(page.items.len() <= limit && !page.items.is_empty());
                collected.extend(page.items);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(collected, all, "{order:?} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_foreign_cursor_is_refused() {
    let index = Index::memory().expect("an index");
    for _ in 0..3 {
        index.put_session(&summary(1, 1)).await.expect("put");
    }
    let next = index.sessions(Order::Created, None, 1).await.expect("a page").next;
    for cursor in [next.as_deref().expect("more"), "", "u", "u1", "u1.ses_", "u1.x' OR 1"] {
        let refused = index.sessions(Order::Updated, Some(cursor), 1).await;
        assert!(matches!(refused, Err(Error::Cursor { .. })), "{cursor}");
    }
    assert!(index.sessions(Order::Updated, None, 10).await.expect("a page").next.is_none());
}

fn secret(scope: &str, text: &str, sealed: &[u8]) -> SecretRow {
    let description = SecretDescription {
        name: text.parse().expect("a name"),
        scope: scope.parse().expect("a scope"),
        phase: SecretPhase::Run,
        delivery: SecretDelivery::Placeholder,
        hosts: Vec::new(),
        key: "k1".to_owned(),
        updated_at: Timestamp(3),
    };
    SecretRow { description, sealed: sealed.to_vec() }
}

#[tokio::test]
async fn secrets_are_told_apart_by_scope_phase_and_name() {
    let index = Index::memory().expect("an index");
    let rows = [
        secret("repository:local/hangar", "TOKEN", b"1"),
        secret("server", "OTHER", b"2"),
        secret("server", "TOKEN", b"3"),
    ];
    for row in rows.iter().rev() {
        index.put_secret(row.clone()).await.expect("kept");
    }
    assert_eq!(index.secrets().await.expect("listed"), rows);
    index.put_secret(secret("server", "TOKEN", b"4")).await.expect("kept");
    let SecretDescription { scope, phase, name, .. } = &rows[1].description;
    index.remove_secret(scope, SecretPhase::Build, name).await.expect("nothing to do");
    index.remove_secret(scope, *phase, name).await.expect("removed");
    let left = index.secrets().await.expect("listed");
    assert_eq!(left, [rows[0].clone(), secret("server", "TOKEN", b"4")]);
    let all =
        vec![secret("server", "TOKEN", b"5"), secret("repository:local/hangar", "TOKEN", b"6")];
    index.put_secrets(all).await.expect("kept");
    let left: Vec<_> = index.secrets().await.expect("listed");
    assert!(left.iter().map(|row| row.sealed.as_slice()).eq([b"6", b"5"]), "{left:?}");
}
