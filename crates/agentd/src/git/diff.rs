//! The patch from a commit to the files as they are, new ones included.

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::{Call, Error, Git, check_commit, tail};
use crate::body::{Body, streamed};

impl Git {
    /// Streams the patch; the repository's own index is not touched.
    pub(crate) async fn diff(&self, base: &str) -> Result<Body, Error> {
        check_commit(base)?;
        if !self.directory().exists() {
            return Err(Error::NotSynced { path: self.workspace() });
        }
        if self.resolve(base).await?.is_none() {
            let remote = self.workspace().display().to_string();
            return Err(Error::Missing { remote, commit: base.to_owned() });
        }
        let turn = self.turn.lock().await;
        let index = self.index_copy("diff").await?;
        let environment = vec![("GIT_INDEX_FILE", index.clone().into())];
        let mut arguments = self.without_filters().await?;
        let filters = arguments.clone();
        arguments.extend(["add", "--all", "--intent-to-add", "--ignore-errors"].map(Into::into));
        // Files that cannot be read are left out; the commit says so.
        self.attempt(Call { arguments, environment: environment.clone(), ..Call::default() })
            .await?;
        let mut arguments = filters;
        arguments.extend(
            ["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "-M", base, "--"]
                .map(Into::into),
        );
        let mut running = self.start(&Call { arguments, environment, ..Call::default() }).await?;
        drop(turn);
        let (writer, body) = streamed();
        let stdout = running.child.stdout.take();
        let stderr = running.child.stderr.take();
        drop(running.child.stdin.take());
        tokio::spawn(tail(stderr));
        tokio::spawn(async move {
            let Some(mut stdout) = stdout else { return };
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
                if writer.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    return;
                }
            }
            let _ = running.wait().await;
            running.finish();
        });
        Ok(body)
    }
}
