//! Platforms: one operator under one privacy policy each.

use super::{canonical::Canonical, ids::PlatformId, names::PlatformName, time::Timestamp};

/// A platform of the installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Platform {
    /// Number.
    pub id: PlatformId,
    /// Short name.
    pub name: PlatformName,
    /// Registered name of the operator; empty for the vault's own.
    pub legal_name: String,
    /// BIN of the operator, 12 digits; empty for the vault's own.
    pub bin: String,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Platform {
    /// What the entry of its creation hashes.
    #[must_use]
    pub fn image(&self) -> Canonical {
        Canonical::new("platforms")
            .int(i64::from(self.id.get()))
            .text(self.name.as_str())
            .text(&self.legal_name)
            .text(&self.bin)
            .int(self.created_at.as_micros())
    }
}
