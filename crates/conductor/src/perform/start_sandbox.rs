//! Starts a session's sandbox, or takes up a start that a server which died had begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::{Binding, Egress};
use protocol::sandbox::{SandboxDescription, StartPath};
use protocol::secret::SecretPhase;
use protocol::session::SessionView;
use protocol::{ImageId, SandboxId};
use sandbox::Spec;
use session::Command;

use crate::effective::Asked;
use crate::error::chain;
use crate::shared::{Shared, elapsed_milliseconds};
use crate::way_out::Claim;
use crate::{Error, wording};

/// agentd answers at once, another kernel beneath it in seconds.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn start_sandbox(
    shared: &Arc<Shared>,
    view: &SessionView,
    sandbox: SandboxId,
    continues: Option<SandboxId>,
    image: Option<ImageId>,
) -> Command {
    let begun = Instant::now();
    match start(shared, view, sandbox, continues, image).await {
        Ok(description) => {
            Command::SandboxStarted { description, milliseconds: elapsed_milliseconds(begun) }
        }
        Err(error) => {
            let reason = error.chain();
            // Half a sandbox is none. Files it took over stay, and go on to the next one.
            let cleaned = match continues {
                Some(_) => shared.backend.stop(sandbox).await,
                None => shared.backend.discard(sandbox).await,
            };
            if let Err(error) = cleaned {
                tracing::warn!(%sandbox, error = chain(&error), "cleaning up a failed start");
            }
            shared.close_gateway(sandbox);
            Command::SandboxFailed { sandbox, reason }
        }
    }
}

async fn start(
    shared: &Arc<Shared>,
    view: &SessionView,
    sandbox: SandboxId,
    continues: Option<SandboxId>,
    image: Option<ImageId>,
) -> Result<SandboxDescription, Error> {
    let spec = spec(shared, view, sandbox, continues, image).await?;
    let failed =
        |error: crate::error::BoxError| Error::failed(format!("starting sandbox {sandbox}"), error);
    shared.backend.prepare(&spec).await.map_err(|error| failed(error.into()))?;
    let (egress, delivered) = shared.claim(sandbox, claim(view)).await?;
    open_gateway(shared, view, sandbox, egress)?;
    shared.bound(sandbox).await;
    let created = shared.backend.create(&spec).await;
    let mut description = created.map_err(|error| failed(error.into()))?;
    first_answer(shared, sandbox).await?;
    crate::secrets::hand_over(shared, sandbox, &delivered).await?;
    description.plain_secrets = delivered.plain_names();
    Ok(description)
}

fn claim(view: &SessionView) -> Claim {
    Claim {
        repository: view.summary.repository.clone(),
        commit: view.base_commit.clone(),
        asked: Asked::of(view),
        phase: SecretPhase::Run,
    }
}

/// What accepts and never answers is no agentd, and nobody waits for it for ever.
async fn first_answer(shared: &Shared, sandbox: SandboxId) -> Result<(), Error> {
    let doing = "waiting for agentd's first answer";
    let client = shared.client(sandbox);
    match tokio::time::timeout(PATIENCE, client.health()).await {
        Ok(answer) => answer.map(drop).map_err(|error| Error::failed(doing, error)),
        Err(late) => Err(Error::failed(doing, late)),
    }
}

async fn spec(
    shared: &Arc<Shared>,
    view: &SessionView,
    sandbox: SandboxId,
    continues: Option<SandboxId>,
    image: Option<ImageId>,
) -> Result<Spec, Error> {
    let repository = &view.summary.repository;
    let effective = shared.effective(repository, &view.base_commit, Asked::of(view)).await?;
    let (image, layers) = match image.filter(|_| continues.is_some()) {
        // What was changed was changed on that image, however new the newest is.
        Some(image) => (image, vec![crate::images::layer(shared, image).await?]),
        None => crate::images::ready(shared, repository).await?,
    };
    let ground = crate::bases::of_image(shared, image).await?;
    Ok(Spec {
        id: sandbox,
        image,
        layers,
        base: ground.base,
        isolation: effective.isolation,
        environment: ground.environment,
        limits: effective.limits,
        upper_from: continues,
        mirror: Some(crate::images::mirror(shared, repository)?),
        toolkit: shared.settings.toolkit.clone(),
        path: if continues.is_some() { StartPath::Restore } else { StartPath::Image },
    })
}

/// Listens for a sandbox and says what it may reach.
fn open_gateway(
    shared: &Shared,
    view: &SessionView,
    sandbox: SandboxId,
    egress: Egress,
) -> Result<(), Error> {
    let session = view.summary.id;
    let socket = shared.backend.gateway_directory(sandbox).join("gateway.sock");
    let failed = |error| Error::failed(format!("opening the gateway of {sandbox}"), error);
    shared.gateway.open(sandbox, &socket).map_err(failed)?;
    let bound = shared.gateway.bind(
        sandbox,
        Binding {
            session,
            repository: view.summary.repository.clone(),
            push_prefix: format!("refs/heads/{}", wording::branch_prefix(session)),
            egress,
        },
    );
    bound.map_err(failed)
}

/// Opens the gateway again for a sandbox that outlived the server.
pub(crate) async fn reattach(
    shared: &Arc<Shared>,
    view: &SessionView,
    sandbox: SandboxId,
) -> Result<(), Error> {
    let egress = match shared.claim(sandbox, claim(view)).await {
        Ok((egress, _)) => egress,
        // The sandbox goes on, and the server starts; other hosts wait until this is mended.
        Err(error) => {
            tracing::error!(%sandbox, error = error.chain(), "its way out is closed");
            Egress::default()
        }
    };
    open_gateway(shared, view, sandbox, egress)?;
    shared.bound(sandbox).await;
    Ok(())
}
