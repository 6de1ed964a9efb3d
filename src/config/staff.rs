//! `[staff]`: whether a person's certificate counts only where its key lives on hardware.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, read_bytes};
use crate::{
    domain::{caller::Governance, staff_key::HardwareKeys},
    grpc::attestation::AttestationRoots,
};

/// The second factor of staff.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StaffConfig {
    /// `required` or `declared_absent`.
    pub hardware_keys: String,
    /// Subjects up to which `declared_absent` holds; beyond it keys are required all the same.
    #[serde(default = "default_absent_up_to")]
    pub absent_up_to_subjects: u64,
    /// Root certificates of device vendors, PEM, by which attestations of keys are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_roots: Option<PathBuf>,
}

/// The end of the smallest class of operators: Law 94-V, Article 25-1, as of Law 326-VIII.
const fn default_absent_up_to() -> u64 {
    10_000
}

impl Config {
    /// The declared rule, held against how many people there are to attest.
    pub(super) fn hardware_keys(&self, governance: Governance) -> Result<HardwareKeys, ConfigError> {
        let rule = self.staff.hardware_keys.parse::<HardwareKeys>().map_err(|_| {
            self.rule(
                "staff.hardware_keys must be \"required\", or \"declared_absent\" where staff has no hardware keys",
            )
        })?;
        if rule == HardwareKeys::Required && governance == Governance::SingleOfficer {
            let rule = "staff.hardware_keys = \"required\" needs governance.mode = \"two-person\": two others attest a key";
            return Err(self.rule(rule));
        }
        Ok(rule)
    }

    /// The roots of device vendors.
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read, or holds something else.
    pub fn attestation_roots(&self) -> Result<Option<AttestationRoots>, ConfigError> {
        let Some(file) = &self.staff.attestation_roots else { return Ok(None) };
        let roots = AttestationRoots::parse(&read_bytes(&self.resolve(file))?);
        roots.map(Some).map_err(|error| self.rule(&format!("staff.attestation_roots {error}")))
    }
}
