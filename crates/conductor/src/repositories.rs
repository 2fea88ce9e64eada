//! What people do with repositories and pull requests.

use std::path::Path;

use protocol::client::{Page, PullRequest, RegisterRepository};
use protocol::repository::{Image, Repository, RepositoryName};
use protocol::session::Author;

use crate::{Error, Hangar, clock, images};

/// A repository that was registered, with what its owner should know about it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The repository.
    pub repository: Repository,
    /// Things that are there and do not come along: submodules, large files kept elsewhere.
    pub notices: Vec<String>,
}

impl Hangar {
    /// Registers a repository by its path on this machine; again: brings its commits up to date.
    /// Nothing in the directory is changed, and nothing uncommitted is taken.
    pub async fn register_repository(
        &self,
        _author: &Author,
        request: RegisterRepository,
    ) -> Result<Registered, Error> {
        let path = Path::new(&request.path);
        if !path.is_absolute() {
            return Err(Error::Invalid {
                what: format!("`{}` is not an absolute path", request.path),
                hint: "write the whole path, starting with `/`".to_owned(),
            });
        }
        let name = repository_name(path, request.name.as_deref())?;
        let imported =
            self.shared.forge.import(path, &name).await.map_err(|error| Error::Invalid {
                what: crate::error::chain(&error),
                hint: "nothing was changed; see `hangar repository add --help`".to_owned(),
            })?;
        let known = self.known(&name).await?;
        let repository = Repository {
            name: name.clone(),
            source: request.path,
            default_branch: imported.default_branch,
            registered_at: known.as_ref().map_or_else(clock::now, |known| known.registered_at),
            image: known.and_then(|known| known.image),
        };
        self.shared
            .index
            .put_repository(&repository)
            .await
            .map_err(|error| Error::failed(format!("recording the repository {name}"), error))?;
        let notices = imported.notices.iter().map(ToString::to_string).collect();
        Ok(Registered { repository, notices })
    }

    /// Every repository.
    pub async fn repositories(&self, _author: &Author) -> Result<Vec<Repository>, Error> {
        let listed = self.shared.index.repositories().await;
        listed.map_err(|error| Error::failed("listing repositories", error))
    }

    /// One repository.
    pub async fn repository(
        &self,
        _author: &Author,
        name: &RepositoryName,
    ) -> Result<Repository, Error> {
        self.known(name)
            .await?
            .ok_or_else(|| Error::NotFound { what: format!("repository {name}") })
    }

    async fn known(&self, name: &RepositoryName) -> Result<Option<Repository>, Error> {
        let found = self.shared.index.repository(name).await;
        found.map_err(|error| Error::failed(format!("looking up the repository {name}"), error))
    }

    /// Builds the repository's image at the newest commit of its default branch, unless that is
    /// there already; returns when it is ready or failed.
    pub async fn build_image(
        &self,
        author: &Author,
        name: &RepositoryName,
    ) -> Result<Image, Error> {
        self.repository(author, name).await?;
        images::build(&self.shared, name).await
    }

    /// Pull requests of a repository, newest first.
    pub async fn pull_requests(
        &self,
        author: &Author,
        name: &RepositoryName,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<PullRequest>, Error> {
        self.repository(author, name).await?;
        let page = self.shared.forge.pull_requests(name, None, cursor.as_deref(), limit).await;
        page.map_err(|error| Error::failed(format!("listing pull requests of {name}"), error))
    }

    /// One pull request.
    pub async fn pull_request(
        &self,
        author: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Result<PullRequest, Error> {
        self.repository(author, name).await?;
        self.shared.forge.pull_request(name, number).await.map_err(|error| match error {
            forge::Error::NoSuchPullRequest { .. } => {
                Error::NotFound { what: format!("pull request {number} of {name}") }
            }
            error => Error::failed(format!("reading pull request {number} of {name}"), error),
        })
    }

    /// What a pull request changes, as a patch.
    pub async fn pull_request_diff(
        &self,
        author: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Result<String, Error> {
        self.pull_request(author, name, number).await?;
        let diff = self.shared.forge.diff(name, number).await;
        diff.map_err(|error| {
            Error::failed(format!("reading the changes of pull request {number} of {name}"), error)
        })
    }

    /// Serves a repository to a person's Git, for reading.
    pub async fn serve_repository<B>(
        &self,
        author: &Author,
        name: &RepositoryName,
        request: http::Request<B>,
    ) -> Result<http::Response<forge::Body>, Error>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Send,
    {
        self.repository(author, name).await?;
        Ok(self.shared.forge.serve(name, forge::Access::Read, request).await)
    }
}

/// `local/<name>`, from the given name or from the directory's.
fn repository_name(path: &Path, given: Option<&str>) -> Result<RepositoryName, Error> {
    let invalid = |what: String| Error::Invalid {
        what,
        hint: "give a name of letters, digits, `-`, `_` and `.`".to_owned(),
    };
    if let Some(given) = given {
        let parsed = match given.split_once('/') {
            Some((owner, name)) => RepositoryName::new(owner, name),
            None => RepositoryName::new("local", given),
        };
        return parsed.map_err(|error| invalid(error.to_string()));
    }
    let directory = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let directory = directory.unwrap_or_else(|| "repository".to_owned());
    let bare = directory.strip_suffix(".git").unwrap_or(&directory);
    let safe: String = bare
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let safe = if safe.is_empty() { "repository" } else { safe };
    RepositoryName::new("local", &safe[..safe.len().min(100)])
        .map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_directories() {
        for (path, name) in [
            ("/srv/hangar", "local/hangar"),
            ("/srv/hangar.git", "local/hangar"),
            ("/srv/my project", "local/my-project"),
            ("/srv/.dotfiles", "local/dotfiles"),
            ("/srv/…", "local/repository"),
            ("/", "local/repository"),
        ] {
            let found = repository_name(Path::new(path), None).expect("a name can be made");
            assert_eq!(found.to_string(), name, "{path}");
        }
    }

    #[test]
    fn a_given_name_is_taken_or_refused() {
        let path = Path::new("/srv/x");
        assert_eq!(repository_name(path, Some("a")).expect("fine").to_string(), "local/a");
        assert_eq!(repository_name(path, Some("b/a")).expect("fine").to_string(), "b/a");
        assert!(repository_name(path, Some("a b")).is_err());
    }
}
