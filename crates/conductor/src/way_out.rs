//! What each sandbox may reach and with which credentials, kept as people decided last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::Egress;
use protocol::SandboxId;
use protocol::repository::RepositoryName;
use protocol::secret::SecretPhase;

use crate::Error;
use crate::effective::Asked;
use crate::secrets::{Delivered, Holder};
use crate::shared::Shared;

/// On what terms a sandbox has its way out: enough to say again what it may reach.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) repository: RepositoryName,
    pub(crate) commit: String,
    pub(crate) asked: Asked,
    pub(crate) phase: SecretPhase,
}

/// The claims of all sandboxes whose gateway is open.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<SandboxId, Claim>>);

impl Claims {
    fn all(&self) -> MutexGuard<'_, HashMap<SandboxId, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What a sandbox may reach, and what it is given; from now on the former follows every change.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        sandbox: SandboxId,
        claim: Claim,
    ) -> Result<(Egress, Delivered), Error> {
        let said = self.terms(sandbox, &claim).await;
        self.claims.all().insert(sandbox, claim);
        said
    }

    async fn terms(
        self: &Arc<Self>,
        sandbox: SandboxId,
        claim: &Claim,
    ) -> Result<(Egress, Delivered), Error> {
        let Claim { repository, commit, asked, phase } = claim;
        let effective = self.effective(repository, commit, *asked).await?;
        let holder =
            Holder { sandbox, repository: repository.clone(), team: effective.team, phase: *phase };
        let mut delivered = self.secrets.deliver(&holder)?;
        let egress = Egress {
            policy: match phase {
                SecretPhase::Build => effective.network.build,
                SecretPhase::Run => effective.network.run,
            },
            bits_per_second: effective.limits.egress_bits_per_second,
            credentials: std::mem::take(&mut delivered.credentials),
        };
        Ok((egress, delivered))
    }

    /// Tells every open gateway what its sandbox may reach now. One of which that cannot be said
    /// reaches no other host until it can.
    pub(crate) async fn refresh_gateways(self: &Arc<Self>) {
        let claims: Vec<(SandboxId, Claim)> =
            self.claims.all().iter().map(|(id, claim)| (*id, claim.clone())).collect();
        for (sandbox, claim) in claims {
            let egress = match self.terms(sandbox, &claim).await {
                Ok((egress, _)) => egress,
                Err(error) => {
                    tracing::error!(%sandbox, error = error.chain(), "its way out is closed");
                    Egress::default()
                }
            };
            if let Err(error) = self.gateway.set_egress(sandbox, egress) {
                // It ended meanwhile.
                tracing::debug!(%sandbox, %error, "its gateway is not changed");
            }
        }
    }

    /// Ends a sandbox's way out.
    pub(crate) fn close_gateway(&self, sandbox: SandboxId) {
        self.claims.all().remove(&sandbox);
        self.gateway.close(sandbox);
    }
}
