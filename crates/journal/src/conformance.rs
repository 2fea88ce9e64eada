//! What every [`Journal`] promises, as functions that panic with the promise that was broken.
//!
//! Each takes a function that opens the journal under test. Called again after the value it gave
//! was dropped, that function opens the same journal, so that promises about what stays can be
//! checked; a journal without a disk gives the same value each time.

use std::sync::Arc;

use protocol::session::Actor;
use protocol::{Envelope, Event, SessionId, Timestamp};
use serde_json::json;

use crate::{Error, Journal, NewEvent};

/// Opens the journal under test.
pub type Open<'a> = &'a (dyn Fn() -> Arc<dyn Journal> + Sync);

/// An event that names its number, so that mixing up events shows.
pub fn numbered(number: u64) -> NewEvent {
    NewEvent {
        at: Timestamp(1_700_000_000_000).plus_milliseconds(number.cast_signed()),
        actor: Actor::System,
        report: number.is_multiple_of(3).then_some(number * 7),
        event: Event::Notice { prompt: None, text: format!("event {number}") },
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<NewEvent> {
    range.map(numbered).collect()
}

async fn fresh(journal: &dyn Journal) -> SessionId {
    let session = SessionId::new();
    journal.create(session).await.expect("a new session can be created");
    session
}

/// Panics unless these are the events `numbered(first)` and following, each in its place.
pub fn expect_numbered(session: SessionId, first: u64, events: &[Envelope]) {
    for (offset, envelope) in (0..).zip(events) {
        let number = first + offset;
        let NewEvent { at, actor, report, event } = numbered(number);
        let expected = Envelope { session, sequence: number, at, actor, report, event };
        assert_eq!(*envelope, expected, "event {number} is in its place and unchanged");
    }
}

/// Sequence numbers begin at 1 and have no gaps, over any division into batches.
pub async fn sequences_have_no_gaps(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    assert_eq!(journal.last(session).await.expect("a new session"), 0);
    let mut last = 0;
    for size in [1, 3, 1, 10, 100] {
        let batch = numbers(last + 1..=last + size);
        let placed = journal.append(session, last, batch).await.expect("an append in turn");
        assert_eq!(placed.len() as u64, size);
        expect_numbered(session, last + 1, &placed);
        last += size;
        assert_eq!(journal.last(session).await.expect("a session"), last);
    }
    let all = journal.read(session, 0, usize::MAX).await.expect("a read");
    assert_eq!(all.len() as u64, last);
    expect_numbered(session, 1, &all);
}

/// An empty batch changes nothing and still checks the expected number.
pub async fn an_empty_batch_changes_nothing(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    journal.append(session, 0, numbers(1..=2)).await.expect("an append");
    assert_eq!(journal.append(session, 2, Vec::new()).await.expect("nothing to do"), []);
    assert!(matches!(
        journal.append(session, 1, Vec::new()).await,
        Err(Error::Conflict { expected: 1, actual: 2, .. })
    ));
    assert_eq!(journal.last(session).await.expect("a session"), 2);
}

/// A writer with an out-of-date number is refused, told the right one, and writes nothing.
pub async fn a_stale_writer_is_refused(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    journal.append(session, 0, numbers(1..=5)).await.expect("an append");
    for expected in [0, 4, 6, u64::MAX] {
        match journal.append(session, expected, numbers(6..=8)).await {
            Err(Error::Conflict { session: named, expected: said, actual: 5 }) => {
                assert_eq!((named, said), (session, expected));
            }
            other => panic!("expected {expected} and got {other:?}"),
        }
    }
    assert_eq!(journal.read(session, 0, 100).await.expect("a read").len(), 5);
    journal.append(session, 5, numbers(6..=6)).await.expect("the right number is taken");
}

/// Of writers that race with the same expectation exactly one wins, and its batch is whole.
pub async fn racing_batches_stay_whole(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    for round in 0..10 {
        let last = round * 7;
        let racers = (0..8).map(|_| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                journal.append(session, last, numbers(last + 1..=last + 7)).await
            })
        });
        let mut winners = 0;
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("no panic") {
                Ok(_) => winners += 1,
                Err(Error::Conflict { actual, .. }) => assert_eq!(actual, last + 7),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners, 1);
    }
    let all = journal.read(session, 0, usize::MAX).await.expect("a read");
    assert_eq!(all.len(), 70);
    expect_numbered(session, 1, &all);
}

/// Everything acknowledged is there when the journal is opened again.
pub async fn acknowledged_events_survive_reopening(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    let empty = fresh(&*journal).await;
    for last in 0..20 {
        journal.append(session, last, numbers(last + 1..=last + 1)).await.expect("an append");
    }
    drop(journal);
    let journal = open();
    assert_eq!(journal.last(empty).await.expect("an empty session stays"), 0);
    assert_eq!(journal.last(session).await.expect("a session stays"), 20);
    let all = journal.read(session, 0, 100).await.expect("a read");
    assert_eq!(all.len(), 20);
    expect_numbered(session, 1, &all);
    journal.append(session, 20, numbers(21..=21)).await.expect("it goes on");
}

/// Reads give exactly what follows a number, up to the limit.
pub async fn reads_follow_after_and_limit(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    journal.append(session, 0, numbers(1..=50)).await.expect("an append");
    for (after, limit, length) in [
        (0, 50, 50),
        (0, 10, 10),
        (10, 10, 10),
        (45, 10, 5),
        (50, 10, 0),
        (51, 10, 0),
        (u64::MAX, 10, 0),
        (0, 0, 0),
        (3, usize::MAX, 47),
    ] {
        let events = journal.read(session, after, limit).await.expect("a read");
        assert_eq!(events.len(), length, "after {after}, at most {limit}");
        expect_numbered(session, after.saturating_add(1), &events);
    }
}

/// Events of a newer version come back as they were written, also after reopening.
pub async fn unknown_kinds_are_preserved(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    let value = json!({"type": "teleported", "to": ["a", {"b": null}], "text": "\u{0}\u{1f680}\n"});
    let event = Event::Unknown(value);
    let new = NewEvent { event: event.clone(), ..numbered(1) };
    journal.append(session, 0, vec![new]).await.expect("an append");
    drop(journal);
    let read = open().read(session, 0, 10).await.expect("a read");
    assert_eq!(read[0].event, event);
}

/// Sessions that are written at once do not disturb each other.
pub async fn sessions_are_independent(open: Open<'_>) {
    let journal = open();
    let writers = (0..24).map(|_| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let session = fresh(&*journal).await;
            for last in 0..10 {
                let batch = numbers(last + 1..=last + 1);
                journal.append(session, last, batch).await.expect("an append");
            }
            session
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        let session = writer.await.expect("no panic");
        let all = journal.read(session, 0, 100).await.expect("a read");
        assert_eq!(all.len(), 10);
        expect_numbered(session, 1, &all);
    }
}

/// A session is created once; one that was not created is named in every refusal.
pub async fn sessions_are_created_once(open: Open<'_>) {
    let journal = open();
    let session = fresh(&*journal).await;
    journal.append(session, 0, numbers(1..=1)).await.expect("an append");
    let again = journal.create(session).await;
    assert!(matches!(again, Err(Error::Exists { session: named }) if named == session));
    assert_eq!(journal.last(session).await.expect("its events stay"), 1);

    let missing = SessionId::new();
    let refusals = [
        journal.append(missing, 0, numbers(1..=1)).await.err(),
        journal.read(missing, 0, 1).await.err(),
        journal.last(missing).await.err(),
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Some(Error::UnknownSession { session }) if session == missing),
            "{refusal:?}"
        );
    }
    assert!(!journal.sessions().await.expect("a list").contains(&missing));
}

/// Every session is listed, oldest first, also after reopening.
pub async fn sessions_are_listed(open: Open<'_>) {
    let journal = open();
    let mut created = Vec::new();
    for _ in 0..5 {
        created.push(fresh(&*journal).await);
    }
    let listed = |all: Vec<SessionId>| -> Vec<SessionId> {
        all.into_iter().filter(|session| created.contains(session)).collect()
    };
    assert_eq!(listed(journal.sessions().await.expect("a list")), created);
    drop(journal);
    assert_eq!(listed(open().sessions().await.expect("a list")), created);
}
