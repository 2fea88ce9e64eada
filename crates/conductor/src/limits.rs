//! Hears from the backend which sandboxes hit their limits, and tells whoever they work for.
//!
//! One task looks at all of them, builds included; it holds no sandbox up and costs next to nothing
//! while they are idle. A session decides what follows and has it recorded; whatever belongs to
//! nobody is simply stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use protocol::sandbox::Consequence;
use protocol::{SandboxId, SessionId};
use sandbox::Exceeded;
use session::{Command, LimitHit};

use crate::Error;
use crate::directory::Directory;
use crate::perform::stop_surely;
use crate::shared::Shared;
use crate::task::Message;

/// Between two looks: a fast disk takes less than its reserve in this time.
const EVERY: Duration = Duration::from_millis(500);

/// Who sandboxes work for.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    /// The newest sandbox of each session; kept after its end, because the reason may come later.
    sessions: Mutex<HashMap<SessionId, SandboxId>>,
    /// Builds, and the limit that ended them.
    builds: Mutex<HashMap<SandboxId, Option<Exceeded>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    /// A sandbox works for a session.
    pub(crate) fn of_session(&self, sandbox: SandboxId, session: SessionId) {
        lock(&self.sessions).insert(session, sandbox);
    }

    /// A sandbox builds an image, until [`Self::end_of_build`].
    pub(crate) fn of_build(&self, sandbox: SandboxId) {
        lock(&self.builds).insert(sandbox, None);
    }

    /// The limit that ended a build, if one did.
    pub(crate) fn end_of_build(&self, sandbox: SandboxId) -> Option<Error> {
        let exceeded = lock(&self.builds).remove(&sandbox).flatten()?;
        Some(Error::Unavailable {
            what: session::limit_reason(&hit(exceeded)),
            hint: "see `hangar repository settings --help` about limits".to_owned(),
        })
    }

    fn session(&self, sandbox: SandboxId) -> Option<SessionId> {
        let sessions = lock(&self.sessions);
        sessions.iter().find(|(_, its)| **its == sandbox).map(|(session, _)| *session)
    }

    /// Notes why a build ends; false for what is no build.
    fn note(&self, exceeded: &Exceeded) -> bool {
        match lock(&self.builds).get_mut(&exceeded.sandbox) {
            None => false,
            Some(noted) => {
                if exceeded.consequence == Consequence::Ended {
                    *noted = Some(exceeded.clone());
                }
                true
            }
        }
    }
}

/// Looks for as long as Hangar is there.
pub(crate) async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        match shared.backend.exceeded().await {
            Ok(all) => {
                for one in all {
                    // Not waited for: a busy session must not keep the others from being heard.
                    tokio::spawn(tell(Arc::clone(&shared), one));
                }
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::error!(error, "the limits of sandboxes cannot be watched");
            }
        }
    }
}

async fn tell(shared: Arc<Shared>, exceeded: Exceeded) {
    let (sandbox, consequence) = (exceeded.sandbox, exceeded.consequence);
    let Exceeded { limit, what, .. } = &exceeded;
    tracing::info!(%sandbox, %limit, what, "a limit was exceeded");
    let session = shared.workers.session(sandbox);
    if let Some(session) = session
        && let Ok(handle) = Directory::get(&shared, session).await
    {
        let command = Command::LimitHit(hit(exceeded));
        if handle.send(Message::Command { command, report: None, reply: None }).await {
            return;
        }
    } else {
        shared.workers.note(&exceeded);
    }
    if consequence == Consequence::Ended {
        stop_surely(&shared, sandbox).await;
    }
}

fn hit(exceeded: Exceeded) -> LimitHit {
    let Exceeded { sandbox, limit, usage, maximum, consequence, what } = exceeded;
    LimitHit { sandbox, limit, usage, maximum, consequence, what }
}
