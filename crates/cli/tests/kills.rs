//! Twenty kills of the server at random moments lose nothing, double nothing and leave nothing.
//!
//! The moments come from a printed seed: `HANGAR_SEED=… cargo test -p cli --test kills` repeats them.

#![expect(clippy::print_stdout, reason = "the seed and the moments repeat a failure")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::client::SendPrompt;
use protocol::session::{Delivery, PromptOutcome};
use protocol::{Envelope, Event, PromptId, RequestId, SessionId};
use support::{PATIENCE, Server, git};

const KILLS: u32 = 20;
const SESSIONS: usize = 2;
/// A kill comes at most so long after the server answers: longer than a whole prompt takes.
const LONGEST_LIFE_MILLISECONDS: u64 = 700;

/// Numbers that look random and are the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("HANGAR_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::from(now.subsec_nanos()) | 1
    })
}

/// What a person sends until it is acknowledged, with the same request id each time.
struct Wish {
    session: SessionId,
    send: SendPrompt,
    acknowledged: Option<PromptId>,
}

fn wish(session: SessionId, number: usize) -> Wish {
    let text = format!(
        "@@ write file-{number}.txt number {number} ;; bash cat file-{number}.txt ;; say done {number} @@END"
    );
    let send = SendPrompt { request: RequestId::new(), text, delivery: Delivery::Queue };
    Wish { session, send, acknowledged: None }
}

/// Sends what was not acknowledged yet, one after the other, until the server is gone.
async fn send_all(server: &Server, wishes: &mut [Wish]) {
    let client = server.client();
    for wish in wishes.iter_mut().filter(|wish| wish.acknowledged.is_none()) {
        match client.send(wish.session, &wish.send).await {
            Ok(accepted) => wish.acknowledged = Some(accepted.prompt),
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn twenty_kills_lose_and_double_nothing() {
    let seed = seed();
    println!("HANGAR_SEED={seed}");
    let mut random = Random(seed);
    let mut server = Server::start();
    let repository = server.repository("small").await;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let first = format!("@@ write first-{number}.txt first ;; say begun @@END");
        sessions.push(server.session(&repository, &first).await.summary.id);
    }
    let mut wishes: Vec<Wish> = Vec::new();
    let mut seen: BTreeMap<SessionId, Vec<Envelope>> = BTreeMap::new();
    for kill in 0..KILLS {
        let session = sessions[usize::try_from(random.below(SESSIONS as u64)).expect("small")];
        wishes.push(wish(session, wishes.len()));
        let life = Duration::from_millis(random.below(LONGEST_LIFE_MILLISECONDS));
        let begun = Instant::now();
        let sending = async {
            send_all(&server, &mut wishes).await;
            // What a watcher was shown before the kill has to be there after it.
            for session in &sessions {
                let shown = server.client().events(*session, 0).await.unwrap_or_default();
                seen.insert(*session, shown);
            }
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(life, sending).await;
        server.kill();
        println!("kill {kill} after {} ms", begun.elapsed().as_millis());
        server.start_again();
    }
    send_all(&server, &mut wishes).await;
    check(&server, &sessions, &wishes, &seen).await;

    // One open pull request for each session, one commit for each prompt.
    let pull_requests = server.client().pull_requests(&repository).await.expect("listed");
    assert_eq!(pull_requests.len(), SESSIONS, "{pull_requests:#?}");
    let forge = server.data().join("forge/local/small.git");
    for wish in &wishes {
        let prompt = wish.acknowledged.expect("acknowledged in the end");
        let grep = format!("--grep=Hangar-Prompt: {prompt}");
        let commits = git(&forge, &["log", "--all", "--format=%H", &grep]);
        assert_eq!(commits.lines().count(), 1, "{prompt} has one commit: {commits:?}");
    }

    server.end();
    assert_eq!(server.leftovers(), Vec::<String>::new());
}

/// Every acknowledged prompt is carried out once and in order; every event shown is still there.
async fn check(
    server: &Server,
    sessions: &[SessionId],
    wishes: &[Wish],
    seen: &BTreeMap<SessionId, Vec<Envelope>>,
) {
    for session in sessions {
        let events = wait_until_idle(server, *session).await;
        assert!(events.iter().map(|envelope| envelope.sequence).eq(1..=events.len() as u64));
        if let Some(shown) = seen.get(session) {
            assert_eq!(shown[..], events[..shown.len()], "what was shown is still there");
        }
        let mut accepted = Vec::new();
        let mut finished = Vec::new();
        for envelope in &events {
            match &envelope.event {
                Event::PromptAccepted { prompt, .. } => accepted.push(*prompt),
                Event::PromptFinished { prompt, outcome } => {
                    assert_eq!(*outcome, PromptOutcome::Completed, "{prompt}: {events:#?}");
                    finished.push(*prompt);
                }
                _ => {}
            }
        }
        assert_eq!(accepted, finished, "each once, in the order of acceptance");
        let acknowledged: Vec<PromptId> = wishes
            .iter()
            .filter(|wish| wish.session == *session)
            .map(|wish| wish.acknowledged.expect("acknowledged in the end"))
            .collect();
        assert_eq!(
            accepted[1..],
            acknowledged,
            "nothing acknowledged is missing, nothing else came"
        );
    }
}

/// The events of a session when nothing is left to do in it.
async fn wait_until_idle(server: &Server, session: SessionId) -> Vec<Envelope> {
    let begun = Instant::now();
    let mut events = Vec::new();
    loop {
        let after = events.len() as u64;
        events.extend(server.client().events(session, after).await.expect("readable"));
        let count = |fits: fn(&Event) -> bool| events.iter().filter(|one| fits(&one.event)).count();
        let accepted = count(|event| matches!(event, Event::PromptAccepted { .. }));
        let finished = count(|event| matches!(event, Event::PromptFinished { .. }));
        if accepted == finished {
            return events;
        }
        assert!(begun.elapsed() < PATIENCE, "not idle: {events:#?}\nit said: {}", server.said());
        let last = events.len() as u64;
        server.until(session, last, |event| matches!(event, Event::PromptFinished { .. })).await;
    }
}
