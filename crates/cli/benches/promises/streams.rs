//! `reconnect_10_of_100000` and `fanout_100`: readers of a session, each over a WebSocket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api::Api;
use api::access::Access;
use cli::client::{Client, News};
use journal::{Journal as _, NewEvent};
use protocol::client::EditPrompt;
use protocol::session::{Actor, PromptOutcome};
use protocol::{Event, PromptId, SessionId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::WAITS;
use crate::samples::{Samples, WARM_UPS, milliseconds};
use crate::world::{World, finished, until};

/// Events of the long session.
const EVENTS: u64 = 100_000;
/// Events the reader has missed.
const MISSED: u64 = 10;
/// Readers at once.
const READERS: usize = 100;
/// Events written at once.
const BATCH: u64 = 1000;
/// Longer than any message takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The API of a world, on a free port.
pub(crate) struct Served {
    client: Client,
    shutdown: CancellationToken,
}

impl Served {
    /// Listens.
    pub(crate) async fn start(world: &World) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = format!("http://{}", listener.local_addr()?);
        let token = api::token::read_or_create(&world.data.join("token"))?;
        let shutdown = CancellationToken::new();
        let api = Api {
            door: Arc::new(world.hangar.clone()),
            access: Arc::new(Access::new(token.clone())),
            hosts: Arc::from([]),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(api::serve(listener, api));
        Ok(Self { client: Client::new(&address, token)?, shutdown })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// From the connection's first packet until the last of ten missed events has been read.
pub(crate) async fn reconnect(
    world: &World,
    served: &Served,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let session = long_session(world).await?;
    for run in 0..WARM_UPS + samples.wanted() {
        let begun = Instant::now();
        let mut stream = served.client.stream(session, EVENTS - MISSED).await?;
        let mut last = 0;
        while last < EVENTS {
            if let News::Event(envelope) = stream.next().await? {
                ensure!(envelope.sequence > EVENTS - MISSED, "more was sent than was missed");
                last = envelope.sequence;
            }
        }
        if run >= WARM_UPS {
            samples.add("reconnect_10_of_100000", milliseconds(begun.elapsed()));
        }
    }
    Ok(())
}

/// A finished session with a long history, written as its task would have.
async fn long_session(world: &World) -> anyhow::Result<SessionId> {
    let (pattern, mut events) = world.session(crate::model::ANSWERS).await?;
    until(&mut events, finished).await?;
    let beginning = world.journal.read(pattern, 0, 2).await?;
    ensure!(matches!(beginning[0].event, Event::SessionCreated { .. }), "{beginning:?}");
    let Event::PromptAccepted { prompt, .. } = beginning[1].event else {
        anyhow::bail!("the second event is {:?}", beginning[1].event)
    };
    let session = SessionId::new();
    world.journal.create(session).await?;
    let at = beginning[0].at;
    let system = |event| NewEvent { at, actor: Actor::System, report: None, event };
    let outcome = PromptOutcome::Completed;
    let mut first: Vec<_> = beginning.into_iter().map(|one| system(one.event)).collect();
    first.push(system(Event::PromptFinished { prompt, outcome }));
    let mut last = first.len() as u64;
    world.journal.append(session, 0, first).await?;
    while last < EVENTS {
        let count = BATCH.min(EVENTS - last);
        let batch = (0..count).map(|number| system(message(prompt, last + number))).collect();
        world.journal.append(session, last, batch).await?;
        last += count;
    }
    Ok(session)
}

fn message(prompt: PromptId, number: u64) -> Event {
    let text = format!("{number}: {}", "as long as some sentences of an agent are. ".repeat(4));
    Event::AgentMessage { prompt, text }
}

/// From the moment an event is recorded until the last of a hundred readers has it.
pub(crate) async fn fan_out(
    world: &mut World,
    served: &Served,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    world.model.forget();
    let (session, mut events) = world.session(WAITS).await?;
    tokio::time::timeout(PATIENCE, world.model.next()).await??;
    // What the events are about: each rewriting of a waiting prompt is one, and does nothing else.
    let waiting = world.prompt(session).await?;
    let (sender, mut received) = mpsc::unbounded_channel();
    for _ in 0..READERS {
        let mut stream = served.client.stream(session, waiting.sequence).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Ok(news) = stream.next().await {
                if let News::Event(envelope) = news
                    && matches!(envelope.event, Event::PromptEdited { .. })
                    && sender.send((envelope.sequence, Instant::now())).is_err()
                {
                    return;
                }
            }
        });
    }
    for run in 0..WARM_UPS + samples.wanted() {
        let edit = EditPrompt { text: format!("Look for the {run}. time.") };
        world.hangar.edit_prompt(&world.user, session, waiting.prompt, edit).await?;
        let mut last = None;
        for _ in 0..READERS {
            let message = tokio::time::timeout(PATIENCE, received.recv()).await?;
            last = last.max(Some(message.context("the readers ended")?));
        }
        let (sequence, at) = last.context("no reader")?;
        let took = at.checked_duration_since(world.journal.recorded(session, sequence)?);
        let took = took.context("an event was received before it was recorded")?;
        if run >= WARM_UPS {
            samples.add("fanout_100", milliseconds(took));
        }
    }
    world.hangar.withdraw_prompt(&world.user, session, waiting.prompt).await?;
    world.hangar.stop(&world.user, session).await?;
    until(&mut events, finished).await.map(drop)
}
