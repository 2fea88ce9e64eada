//! Lets the gateway reach the forge, which it does not know.

use std::sync::Arc;

use http_body_util::BodyExt;
use protocol::repository::RepositoryName;

/// The local forge as the gateway's Git host. Pushes were checked by the gateway before.
#[derive(Debug)]
pub(crate) struct ForgeUpstream(pub(crate) Arc<forge::Local>);

#[async_trait::async_trait]
impl gateway::GitUpstream for ForgeUpstream {
    async fn serve(
        &self,
        repository: &RepositoryName,
        service: gateway::Service,
        request: http::Request<gateway::Body>,
    ) -> http::Response<gateway::Body> {
        let access = match service {
            gateway::Service::Fetch => forge::Access::Read,
            gateway::Service::Push => forge::Access::Write,
        };
        self.0
            .serve(repository, access, request)
            .await
            .map(|body| body.map_err(Into::into).boxed_unsync())
    }
}
