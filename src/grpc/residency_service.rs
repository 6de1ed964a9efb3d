//! `sandyq.v1.ResidencyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::as_question,
    convert::time,
    limits::answer,
    pb::{self, residency_service_server},
};
use crate::vault::{
    Vault,
    residency::{Attestation, Finding, Seen, Site},
};

/// Serves where bytes are.
pub struct ResidencyService {
    vault: Arc<Vault>,
}

impl ResidencyService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

fn site_pb(site: &Site) -> pb::StorageSite {
    pb::StorageSite {
        name: site.name.to_string(),
        country: site.country.to_string(),
        networks: site.networks.iter().map(ToString::to_string).collect(),
        here: site.here,
        registered: site.registered,
        attestations: site.attestations.iter().map(attestation_pb).collect(),
    }
}

fn attestation_pb(attestation: &Attestation) -> pb::SiteAttestation {
    pb::SiteAttestation {
        networks: attestation.networks.iter().map(ToString::to_string).collect(),
        mounts: attestation.mounts.iter().map(|mount| mount.display().to_string()).collect(),
        archives: u32::try_from(attestation.archives.len()).unwrap_or(u32::MAX),
        stated_by: attestation.by.to_string(),
        expire_time: Some(time(attestation.until)),
        statement: attestation.statement.clone(),
    }
}

fn finding_pb(finding: &Finding) -> pb::ResidencyFinding {
    let located = finding.outcome.as_ref().ok();
    let state = match finding.seen() {
        Seen::Inside => pb::ResidencyState::Inside,
        Seen::Outside => pb::ResidencyState::Outside,
        Seen::Unseen => pb::ResidencyState::Unseen,
    };
    pb::ResidencyFinding {
        used_for: finding.used_for.to_string(),
        place: finding.place.clone(),
        address: finding.address.map(|address| address.to_string()).unwrap_or_default(),
        state: state.into(),
        site: located.map(|l| l.site.to_string()).unwrap_or_default(),
        country: located.map(|l| l.country.to_string()).unwrap_or_default(),
        basis: located.map(|l| l.basis.as_str().to_owned()).unwrap_or_default(),
        problem: finding.outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl residency_service_server::ResidencyService for ResidencyService {
    async fn get_sites(
        &self,
        request: Request<pb::GetSitesRequest>,
    ) -> Result<Response<pb::GetSitesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.vault.get_sites(&call.caller, call.asker), |(country, sites)| pb::GetSitesResponse {
            country: country.to_string(),
            sites: sites.iter().map(site_pb).collect(),
        })
        .await
    }

    async fn get_residency(
        &self,
        request: Request<pb::GetResidencyRequest>,
    ) -> Result<Response<pb::GetResidencyResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.vault.get_residency(&call.caller, call.asker), |sight| pb::GetResidencyResponse {
            check_time: Some(time(sight.at)),
            findings: sight.findings.iter().map(finding_pb).collect(),
        })
        .await
    }

    async fn get_residency_report(
        &self,
        request: Request<pb::GetResidencyReportRequest>,
    ) -> Result<Response<pb::GetResidencyReportResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        let report = self.vault.residency_report(&call.caller, call.asker);
        answer(report, |note| pb::GetResidencyReportResponse { note }).await
    }
}
