//! Builds images: a sandbox clones the repository, and what it wrote becomes a layer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway::{Binding, Egress};
use protocol::agentd::SyncRequest;
use protocol::repository::{Image, ImageState, RepositoryName};
use protocol::sandbox::StartPath;
use protocol::secret::SecretPhase;
use protocol::{ImageId, SandboxId, SessionId};
use sandbox::Spec;

use crate::bases::{self, Ground};
use crate::effective::{Asked, Effective};
use crate::error::BoxError;
use crate::shared::{Shared, elapsed_milliseconds, remote};
use crate::way_out::Claim;
use crate::{Error, clock, secrets};

/// A first clone of a large repository takes minutes.
const CLONE_PATIENCE: Duration = Duration::from_hours(1);

/// One lock for each repository, so that one image of it is built at a time.
#[derive(Debug, Default)]
pub(crate) struct Builds(Mutex<HashMap<RepositoryName, Arc<tokio::sync::Mutex<()>>>>);

impl Builds {
    fn of(&self, repository: &RepositoryName) -> Arc<tokio::sync::Mutex<()>> {
        let mut builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(builds.entry(repository.clone()).or_default())
    }
}

/// The newest ready image and its layers; built now if there is none.
pub(crate) async fn ready(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
) -> Result<(ImageId, Vec<PathBuf>), Error> {
    let latest =
        shared.index.latest_image(repository).await.map_err(|error| {
            Error::failed(format!("looking up the image of {repository}"), error)
        })?;
    let image = match latest.filter(is_ready) {
        Some(image) if has_its_base(shared, repository, &image).await? => image,
        _ => build(shared, repository).await?,
    };
    if let ImageState::Failed { reason } = image.state {
        return Err(Error::Unavailable {
            what: format!("the image of {repository} could not be built: {reason}"),
            hint: "mend the cause; the next prompt builds it again".to_owned(),
        });
    }
    Ok((image.id, vec![layer(shared, image.id).await?]))
}

fn is_ready(image: &Image) -> bool {
    matches!(image.state, ImageState::Ready)
}

/// Whether an image stands on what its repository wants today.
async fn has_its_base(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
    image: &Image,
) -> Result<bool, Error> {
    let effective = shared.effective(repository, &image.commit, Asked::default()).await?;
    let wanted = effective.base.as_deref().unwrap_or(bases::HOST);
    Ok(bases::is_current(shared, &image.base, wanted))
}

fn no_layers() -> Error {
    Error::Unavailable {
        what: "this sandbox backend cannot freeze images".to_owned(),
        hint: "use the container backend".to_owned(),
    }
}

/// Builds an image of the default branch's newest commit, unless there is a ready one of it. A build
/// that failed, or that a dead server left half done, is done again: its cause may be gone.
pub(crate) async fn build(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
) -> Result<Image, Error> {
    let one_at_a_time = shared.builds.of(repository);
    let _building = one_at_a_time.lock().await;
    let commit = shared.resolve(repository, "HEAD").await?;
    let latest = shared.index.latest_image(repository).await;
    let latest = latest
        .map_err(|error| Error::failed(format!("looking up the image of {repository}"), error))?;
    if let Some(image) = latest.as_ref().filter(|image| image.commit == commit && is_ready(image))
        && has_its_base(shared, repository, image).await?
    {
        return Ok(image.clone());
    }
    let effective = shared.effective(repository, &commit, Asked::default()).await?;
    let mut image = Image {
        id: ImageId::new(),
        commit: commit.clone(),
        base: effective.base.clone().unwrap_or_else(|| bases::HOST.to_owned()),
        state: ImageState::Building,
        started_at: clock::now(),
        milliseconds: None,
    };
    record(shared, repository, &image).await?;
    let begun = Instant::now();
    let built = build_on_base(shared, repository, &effective, &mut image).await;
    image.milliseconds = Some(elapsed_milliseconds(begun));
    image.state = match &built {
        Ok(()) => ImageState::Ready,
        Err(error) => ImageState::Failed { reason: error.chain() },
    };
    record(shared, repository, &image).await?;
    if let (Ok(()), Some(mut before)) = (&built, latest) {
        before.state = ImageState::Superseded;
        record(shared, repository, &before).await?;
    }
    match built {
        Err(error @ Error::MachineLacks { .. }) => Err(error),
        _ => Ok(image),
    }
}

async fn record(shared: &Shared, repository: &RepositoryName, image: &Image) -> Result<(), Error> {
    shared.index.put_image(repository, image).await.map_err(|error| {
        Error::failed(format!("recording image {} of {repository}", image.id), error)
    })
}

/// Gets the base first, and records exactly which one it was.
async fn build_on_base(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
    effective: &Effective,
    image: &mut Image,
) -> Result<(), Error> {
    let (ground, name) = bases::resolve(shared, &image.base, !effective.base_is_wish).await?;
    image.base = name;
    bases::note(shared, image.id, &image.base).await?;
    build_in_sandbox(shared, repository, effective, ground, image).await
}

async fn build_in_sandbox(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
    effective: &Effective,
    ground: Ground,
    image: &Image,
) -> Result<(), Error> {
    let sandbox = SandboxId::new();
    shared.workers.of_build(sandbox);
    let built = run_build(shared, repository, effective, ground, image, sandbox).await;
    let ended = shared.workers.end_of_build(sandbox);
    let built = built.map_err(|error| ended.unwrap_or(error));
    shared.close_gateway(sandbox);
    if let Err(error) = shared.backend.discard(sandbox).await {
        tracing::warn!(%sandbox, error = crate::error::chain(&error), "a build's sandbox stays behind");
    }
    built
}

async fn run_build(
    shared: &Arc<Shared>,
    repository: &RepositoryName,
    effective: &Effective,
    ground: Ground,
    image: &Image,
    sandbox: SandboxId,
) -> Result<(), Error> {
    let failed = |doing: &str, error: BoxError| {
        Error::failed(format!("{doing} for the image of {repository}"), error)
    };
    let spec = Spec {
        id: sandbox,
        image: image.id,
        layers: Vec::new(),
        base: ground.base,
        isolation: effective.isolation,
        environment: ground.environment,
        limits: effective.limits,
        upper_from: None,
        mirror: Some(mirror(shared, repository)?),
        toolkit: shared.settings.toolkit.clone(),
        path: StartPath::Image,
    };
    let backend = &shared.backend;
    backend.prepare(&spec).await.map_err(|error| failed("preparing a sandbox", error.into()))?;
    let socket = backend.gateway_directory(sandbox).join("gateway.sock");
    let opened = shared.gateway.open(sandbox, &socket);
    opened.map_err(|error| failed("opening the gateway", error.into()))?;
    let claim = Claim {
        repository: repository.clone(),
        commit: image.commit.clone(),
        asked: Asked::default(),
        phase: SecretPhase::Build,
    };
    let (egress, delivered) = shared.claim(sandbox, claim).await?;
    let bound = shared.gateway.bind(sandbox, build_binding(repository, image.id, egress));
    bound.map_err(|error| failed("opening the gateway", error.into()))?;
    shared.bound(sandbox).await;
    backend.create(&spec).await.map_err(|error| match error {
        sandbox::Error::Unsupported { what, hint } => Error::MachineLacks { what, hint },
        error => failed("starting a sandbox", error.into()),
    })?;
    secrets::hand_over(shared, sandbox, &delivered).await?;
    let known = shared.index.repository(repository).await;
    let known = known.map_err(|error| failed("looking up the repository", error.into()))?;
    let default_branch = known.map_or_else(|| "main".to_owned(), |known| known.default_branch);
    let request = SyncRequest {
        remote: remote(repository),
        branch: default_branch,
        commit: image.commit.clone(),
        identity: shared.settings.user.clone(),
    };
    let client = shared.client(sandbox);
    let synced = tokio::time::timeout(CLONE_PATIENCE, client.sync(&request)).await;
    let synced = synced.map_err(|late| failed("cloning", late.into()))?;
    synced.map_err(|error| failed("cloning", error.into()))?;
    backend.stop(sandbox).await.map_err(|error| failed("stopping the sandbox", error.into()))?;
    let layers = backend.layers().ok_or_else(no_layers)?;
    let changed = layers.changed(sandbox);
    if let Some(files) = changed.map_err(|error| failed("looking for the files", error.into()))?
        && !delivered.plain.is_empty()
    {
        secrets::refuse_known(files, &delivered.plain).await?;
    }
    let frozen = layers.freeze(sandbox, image.id).await;
    let layer = frozen.map_err(|error| failed("freezing the files", error.into()))?;
    let noted = shared.index.set_setting(&layer_key(image.id), &layer.to_string_lossy()).await;
    noted.map_err(|error| failed("recording the layer", error.into()))
}

fn layer_key(image: ImageId) -> String {
    format!("layer_of_{image}")
}

/// Where the backend keeps an image's layer.
pub(crate) async fn layer(shared: &Shared, image: ImageId) -> Result<PathBuf, Error> {
    let path = shared
        .index
        .setting(&layer_key(image))
        .await
        .map_err(|error| Error::failed(format!("looking up the layer of {image}"), error))?;
    path.map(PathBuf::from).ok_or_else(|| Error::NotFound { what: format!("layer of {image}") })
}

/// The repository's objects on the forge, to clone from without copying.
pub(crate) fn mirror(shared: &Shared, repository: &RepositoryName) -> Result<PathBuf, Error> {
    shared
        .forge
        .objects_directory(repository)
        .map_err(|error| Error::failed(format!("looking for the objects of {repository}"), error))
}

/// A build may read its repository and push nothing. Audit lines carry the image's number where
/// a session's would stand; no session has it.
fn build_binding(repository: &RepositoryName, image: ImageId, egress: Egress) -> Binding {
    Binding {
        session: SessionId::from_bytes(*image.as_bytes()),
        repository: repository.clone(),
        push_prefix: "refs/none".to_owned(),
        egress,
    }
}
