//! Rows of copies of data outside the vault.

use super::{Mac, platform_row};
use crate::domain::{
    canonical::Canonical, data_copy::DataCopy, ids::PlatformId, names::FieldName, reference::Reference,
};

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRow {
    /// Platform.
    pub platform: PlatformId,
    /// The copy.
    pub copy: DataCopy,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl CopyRow {
    /// What the MAC covers: everything, since a day that is edited is one on which nothing is destroyed.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let (copy, facts) = (&self.copy, &self.copy.facts);
        let image = platform_row("data_copies", self.platform)
            .bytes(copy.id.as_bytes())
            .text(facts.kind.as_str())
            .text(facts.purpose.as_str())
            .texts(facts.fields.iter().map(FieldName::as_str))
            .bytes(facts.subject.as_ref().map_or(&[], |id| id.as_bytes().as_slice()))
            .text(facts.holder.as_str())
            .text(facts.reference.as_ref().map_or("", Reference::as_str))
            .int(facts.made_at.as_micros())
            .int(facts.destroy_by.as_micros())
            .int(copy.recorded_at.as_micros());
        match &copy.end {
            None => image.flag(false),
            Some(end) => {
                image.flag(true).int(end.at.as_micros()).text(end.outcome.as_str()).text(end.act.as_str())
            }
        }
    }
}
