//! Takes up, after a start of the server, what an earlier one left: sessions and sandboxes.

use std::collections::HashSet;
use std::sync::Arc;

use protocol::SandboxId;

use crate::directory::Directory;
use crate::shared::Shared;
use crate::{Error, task};

/// Opens every session that may have work to do, and stops every sandbox that belongs to none.
///
/// The gateways of surviving sandboxes are opened before their sessions' tasks start: an agent that
/// kept working waits at the socket.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<(), Error> {
    let mut wanted: HashSet<SandboxId> = HashSet::new();
    for session in shared.open.all().await {
        let replayed = match Directory::replay(shared, session).await {
            Ok(replayed) => replayed,
            // Listed a moment before its file was made: nobody was told of it.
            Err(Error::NotFound { .. }) => {
                shared.open.remove(session).await?;
                continue;
            }
            Err(error) => {
                // One damaged file must not keep the others from starting.
                tracing::error!(%session, error = error.chain(), "a session cannot be opened");
                continue;
            }
        };
        if replayed.state.sequence() == 0 {
            // Created and never acknowledged: nobody knows of it.
            shared.open.remove(session).await?;
            continue;
        }
        if let Some(sandbox) = replayed.state.current_sandbox() {
            wanted.insert(sandbox);
            if let Some(sandbox) = task::running_sandbox(&replayed.state)
                && let Some(view) = replayed.state.view()
            {
                crate::perform::reattach(shared, &view, sandbox).await?;
            }
        }
        wanted.extend(replayed.state.files());
        Directory::start(shared, session, replayed);
    }
    reap(shared, wanted).await;
    Ok(())
}

/// Stops what runs and belongs to no session that is open. No files are deleted: sleeping sessions
/// continue from theirs.
async fn reap(shared: &Shared, wanted: HashSet<SandboxId>) {
    let wanted: Vec<SandboxId> = wanted.into_iter().collect();
    match shared.backend.reap(&wanted).await {
        Ok(stopped) if stopped.is_empty() => {}
        Ok(stopped) => tracing::info!(?stopped, "sandboxes that belong to no session were stopped"),
        // One that cannot be stopped must not keep the sessions from starting.
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::error!(error, "a sandbox that belongs to no session could not be stopped");
        }
    }
}
