//! What a client gets of one subscription, with time standing still between updates.

use std::sync::Arc;

use protocol::client::{Delta, DeltaKind};
use protocol::session::Actor;
use protocol::{Envelope, Event, PromptId, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use conductor::Error;

struct Bench {
    session: SessionId,
    prompt: PromptId,
    updates: mpsc::UnboundedSender<Result<Update, Error>>,
    messages: Messages,
}

fn bench() -> Bench {
    let (updates, receiver) = mpsc::unbounded_channel();
    let session = SessionId::new();
    let messages = messages(session, 0, UnboundedReceiverStream::new(receiver).boxed());
    Bench { session, prompt: PromptId::new(), updates, messages }
}

impl Bench {
    fn send(&self, update: Update) {
        self.updates.send(Ok(update)).expect("the feed listens");
    }

    fn delta(&self, kind: DeltaKind, text: &str) {
        let (session, prompt) = (self.session, self.prompt);
        self.send(Update::Delta(Arc::new(Delta { session, prompt, kind, text: text.to_owned() })));
    }

    fn event(&self, sequence: u64, event: Event) {
        self.send(Update::Event(Arc::new(Envelope {
            session: self.session,
            sequence,
            at: Timestamp(0),
            actor: Actor::Agent,
            report: None,
            event,
        })));
    }

    async fn text(&mut self) -> String {
        match self.messages.next().await {
            Some(ServerMessage::Delta(delta)) => delta.text,
            other => panic!("expected text and got {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn text_comes_at_most_twenty_times_a_second_and_whole() {
    let mut bench = bench();
    let begin = Instant::now();
    let mut expected = String::new();
    let mut collected = String::new();
    let mut frames = 0;
    bench.delta(DeltaKind::Message, "first ");
    collected.push_str(&bench.text().await);
    assert_eq!(begin.elapsed(), Duration::ZERO, "the first piece does not wait");
    expected.push_str("first ");
    for number in 0..2000 {
        let piece = format!("{number} ");
        bench.delta(DeltaKind::Message, &piece);
        expected.push_str(&piece);
        if number % 10 == 0 {
            tokio::time::advance(Duration::from_millis(5)).await;
            if let Ok(text) = tokio::time::timeout(Duration::from_millis(1), bench.text()).await {
                collected.push_str(&text);
                frames += 1;
            }
        }
    }
    while collected.len() < expected.len() {
        collected.push_str(&bench.text().await);
        frames += 1;
    }
    assert_eq!(collected, expected, "nothing is missing or sent twice");
    let most = begin.elapsed().as_millis() / DELTA_INTERVAL.as_millis() + 1;
    assert!(frames <= most, "{frames} pieces in {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn text_that_an_event_replaces_is_not_sent() {
    let mut bench = bench();
    bench.delta(DeltaKind::Message, "a");
    assert_eq!(bench.text().await, "a");
    bench.delta(DeltaKind::Message, "b");
    bench.delta(DeltaKind::Thought, "hm");
    let text = "ab".to_owned();
    bench.event(1, Event::AgentMessage { prompt: bench.prompt, text });
    bench.delta(DeltaKind::Message, "c");
    assert!(matches!(bench.messages.next().await, Some(ServerMessage::Event(_))));
    assert_eq!(bench.text().await, "hm");
    assert_eq!(bench.text().await, "c");
}

#[tokio::test(start_paused = true)]
async fn events_do_not_wait_for_text() {
    let mut bench = bench();
    bench.delta(DeltaKind::ToolOutput, "a");
    assert_eq!(bench.text().await, "a");
    bench.delta(DeltaKind::ToolOutput, "b");
    bench.event(1, Event::Notice { prompt: None, text: "x".to_owned() });
    let begin = Instant::now();
    assert!(matches!(bench.messages.next().await, Some(ServerMessage::Event(_))));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(bench.text().await, "b");
}

#[tokio::test(start_paused = true)]
async fn a_flood_waits_where_it_is_bounded() {
    let mut bench = bench();
    for _ in 0..100 {
        bench.delta(DeltaKind::ToolOutput, &"x".repeat(10_000));
    }
    let mut total = 0;
    let mut longest = 0;
    while total < 1_000_000 {
        let length = bench.text().await.len();
        longest = longest.max(length);
        total += length;
    }
    assert_eq!(total, 1_000_000);
    assert!(longest < 80_000, "{longest}");
}

#[tokio::test(start_paused = true)]
async fn every_end_tells_where_to_go_on() {
    let end = |bench: &Bench| bench.event(7, Event::Notice { prompt: None, text: String::new() });
    for lag in [true, false] {
        let mut bench = bench();
        end(&bench);
        if lag {
            bench.send(Update::Lagged { after: 7 });
        } else {
            let (updates, _) = mpsc::unbounded_channel();
            bench.updates = updates;
        }
        assert!(matches!(bench.messages.next().await, Some(ServerMessage::Event(_))));
        let last = bench.messages.next().await;
        assert_eq!(last, Some(ServerMessage::Lagged { session: bench.session, after: 7 }));
        assert_eq!(bench.messages.next().await, None);
    }
    let mut bench = bench();
    end(&bench);
    let error = Error::failed("reading events", "the disk is gone");
    bench.updates.send(Err(error)).expect("the feed listens");
    bench.messages.next().await;
    let problem = bench.messages.next().await;
    assert!(
        matches!(&problem, Some(ServerMessage::Problem(problem)) if problem.code == "failed"),
        "{problem:?}"
    );
    let last = bench.messages.next().await;
    assert_eq!(last, Some(ServerMessage::Lagged { session: bench.session, after: 7 }));
    assert_eq!(bench.messages.next().await, None);
}
