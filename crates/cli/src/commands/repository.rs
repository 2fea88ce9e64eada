//! `hangar repository`: tell the server which repositories to work on.

use std::path::Path;

use anyhow::Context as _;
use protocol::client::RegisterRepository;
use protocol::repository::{Image, ImageState, Repository, RepositoryName};

use crate::arguments::RepositoryCommand;
use crate::client::Client;
use crate::commands::settings;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{escape, format};

/// Carries out `hangar repository …`.
pub(crate) async fn repository(
    context: &Context,
    command: RepositoryCommand,
) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        RepositoryCommand::Settings(options) => {
            settings::settings(context, &client, *options).await
        }
        RepositoryCommand::Add { path, name } => {
            let mut repository = register(context, &client, &path, name).await?;
            repository.image = Some(build(context, &client, &repository.name).await?);
            if context.output.is_json() {
                return Ok(context.output.document(&repository)?);
            }
            Ok(context.output.lines(&list_lines(&[repository]))?)
        }
        RepositoryCommand::List => {
            let repositories = client.repositories().await?;
            if context.output.is_json() {
                return Ok(context.output.document(&repositories)?);
            }
            if repositories.is_empty() {
                let lines = ["no repository yet", "hint: hangar repository add ."];
                return Ok(context.output.talk(&lines)?);
            }
            Ok(context.output.lines(&list_lines(&repositories))?)
        }
    }
}

/// Imports the repository at `path`, or brings it up to date.
pub(crate) async fn register(
    context: &Context,
    client: &Client,
    path: &Path,
    name: Option<String>,
) -> anyhow::Result<Repository> {
    let path = std::path::absolute(path)
        .with_context(|| format!("finding the absolute path of {}", path.display()))?;
    let Some(text) = path.to_str() else {
        let text = format!("the path {} is not UTF-8", path.display());
        let failure = Failure::new(Exit::Usage, text);
        return Err(failure.hint("give it another name, or reach it through a link").into());
    };
    context.output.wait("importing the repository");
    let request = RegisterRepository { path: text.to_owned(), name };
    let registered = client.register(&request).await;
    context.output.wait_for(None);
    let registered = registered?;
    let notice = |notice: &String| format!("! {}", escape::line(notice));
    context.output.talk(&registered.notices.iter().map(notice).collect::<Vec<_>>())?;
    Ok(registered.repository)
}

/// Builds the image and waits for it; a failed build is an error with its reason.
pub(crate) async fn build(
    context: &Context,
    client: &Client,
    repository: &RepositoryName,
) -> anyhow::Result<Image> {
    context.output.wait("building the image");
    let built = client.build_image(repository).await;
    context.output.wait_for(None);
    let image = built?;
    if let ImageState::Failed { reason } = &image.state {
        let text = format!("the image of {repository} could not be built: {reason}");
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(image)
}

/// One line for each repository.
pub(crate) fn list_lines(repositories: &[Repository]) -> Vec<String> {
    let row = |repository: &Repository| {
        vec![
            repository.name.to_string(),
            escape::line(&repository.default_branch),
            repository.image.as_ref().map_or("no image yet".to_owned(), image),
            escape::line(&repository.source),
        ]
    };
    format::table(&repositories.iter().map(row).collect::<Vec<_>>())
}

fn image(image: &Image) -> String {
    let commit = format::commit(&image.commit);
    let time = image.milliseconds.map(|time| format!(" in {}", format::duration(time)));
    match &image.state {
        ImageState::Building => format!("image of {commit} is being built"),
        ImageState::Ready => format!("image of {commit} built{}", time.unwrap_or_default()),
        ImageState::Failed { reason } => format!("image failed: {}", escape::line(reason)),
        ImageState::Superseded => format!("image of {commit}, no longer used"),
    }
}
