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
pub(crate) struct Claims {
    table: Mutex<Table>,
    /// One at a time, or what was read first could be told last.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    claims: HashMap<SandboxId, Claim>,
    /// How often something was changed.
    changes: u64,
    /// At which change each sandbox that is not bound yet was told what it may reach.
    unbound: HashMap<SandboxId, u64>,
}

impl Claims {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What a sandbox may reach, and what it is given; from now on the former follows every change.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        sandbox: SandboxId,
        claim: Claim,
    ) -> Result<(Egress, Delivered), Error> {
        {
            let mut table = self.claims.table();
            let changes = table.changes;
            table.unbound.insert(sandbox, changes);
            table.claims.insert(sandbox, claim.clone());
        }
        self.terms(sandbox, &claim).await
    }

    /// A claimed sandbox is bound in the gateway: what changed since it was claimed is told now.
    pub(crate) async fn bound(self: &Arc<Self>, sandbox: SandboxId) {
        let claim = {
            let mut table = self.claims.table();
            let told = table.unbound.remove(&sandbox);
            let behind = told.is_some_and(|told| told < table.changes);
            table.claims.get(&sandbox).filter(|_| behind).cloned()
        };
        if let Some(claim) = claim {
            self.refresh(sandbox, &claim).await;
        }
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
        let claims: Vec<(SandboxId, Claim)> = {
            let mut table = self.claims.table();
            table.changes += 1;
            table.claims.iter().map(|(id, claim)| (*id, claim.clone())).collect()
        };
        for (sandbox, claim) in claims {
            self.refresh(sandbox, &claim).await;
        }
    }

    async fn refresh(self: &Arc<Self>, sandbox: SandboxId, claim: &Claim) {
        let _one_at_a_time = self.claims.refreshing.lock().await;
        let egress = match self.terms(sandbox, claim).await {
            Ok((egress, _)) => egress,
            Err(error) => {
                tracing::error!(%sandbox, error = error.chain(), "its way out is closed");
                Egress::default()
            }
        };
        if let Err(error) = self.gateway.set_egress(sandbox, egress) {
            // It ended meanwhile, or is not bound yet and is told once it is.
            tracing::debug!(%sandbox, %error, "its gateway is not changed");
        }
    }

    /// Ends a sandbox's way out.
    pub(crate) fn close_gateway(&self, sandbox: SandboxId) {
        let mut table = self.claims.table();
        table.claims.remove(&sandbox);
        table.unbound.remove(&sandbox);
        drop(table);
        self.gateway.close(sandbox);
    }
}
