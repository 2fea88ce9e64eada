//! Who sits at this machine, as Git knows them: commits are made in their name.

use std::path::Path;
use std::process::Stdio;

use protocol::UserId;
use protocol::session::Author;
use tokio::process::Command;

/// The name and address Git would write on a commit made in `directory`, else the system's.
pub(crate) async fn at(directory: &Path, user: UserId) -> Author {
    let name = configured(directory, "user.name").await;
    let email = configured(directory, "user.email").await;
    let login = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    author(user, name, email, login)
}

fn author(
    user: UserId,
    name: Option<String>,
    email: Option<String>,
    login: Option<String>,
) -> Author {
    let login = login.filter(|login| !login.is_empty()).unwrap_or_else(|| "local".to_owned());
    Author {
        user,
        name: name.unwrap_or_else(|| login.clone()),
        // Not a made-up host: nothing must ever be sent to it.
        email: email.unwrap_or_else(|| format!("{login}@localhost")),
    }
}

async fn configured(directory: &Path, key: &str) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(["config", "--get", key]).stdin(Stdio::null());
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    let value = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId::from_bytes([1; 16]);

    #[test]
    fn git_knows_best() {
        let some = |text: &str| Some(text.to_owned());
        let ada = author(USER, some("Ada"), some("ada@example.org"), some("root"));
        assert_eq!((ada.name.as_str(), ada.email.as_str()), ("Ada", "ada@example.org"));
        let login = author(USER, None, None, some("ada"));
        assert_eq!((login.name.as_str(), login.email.as_str()), ("ada", "ada@localhost"));
        assert_eq!(author(USER, None, None, None).name, "local");
    }

    #[tokio::test]
    async fn the_repository_s_own_setting_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let git = |arguments: &[&str]| {
            let mut command = std::process::Command::new("git");
            let done = command.arg("-C").arg(directory.path()).args(arguments).status();
            assert!(done.expect("git runs").success());
        };
        git(&["init", "--quiet"]);
        git(&["config", "user.name", "Grace"]);
        git(&["config", "user.email", "grace@example.org"]);
        let person = at(directory.path(), USER).await;
        assert_eq!((person.name.as_str(), person.email.as_str()), ("Grace", "grace@example.org"));
    }
}
