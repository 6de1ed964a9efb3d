//! A correction that a person asks for: whether one was made since, and who has the former value (Law 94-V, Articles 13,
//! 25(2)(8); rule R35).
//!
//! The value is corrected by the platform's service, which takes the evidence; here the register finds it made, so that nobody
//! is told of a correction that never was.

use std::collections::BTreeMap;

use crate::{
    domain::{
        consent::RecordAddress,
        ids::{PlatformId, SubjectId},
        names::FieldName,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::rows::RecordState,
    vault::{
        Vault,
        act::Scene,
        error::VaultError,
        rights::CaseView,
        subjects::{Disclosure, MAX_PAGE},
    },
};

/// A request as it stands when what it asks is done.
#[derive(Debug)]
pub struct Fulfilled {
    /// The request.
    pub view: CaseView,
    /// Of a correction: the last release of each former value to each recipient, whom the operator tells.
    pub former: Vec<Disclosure>,
}

/// Fields whose content was corrected, and when that was.
pub(super) type Corrected = BTreeMap<FieldName, Timestamp>;

/// What of a subject was corrected at an instant or later: values, and sides of documents.
pub(super) fn corrected_since(
    scene: &Scene<'_>,
    subject: SubjectId,
    since: Timestamp,
) -> Result<Corrected, Denial> {
    let mut corrected = Corrected::new();
    let mut look = |address: &RecordAddress, stored_at: Timestamp| {
        if address.version > 1 && stored_at >= since {
            let last = corrected.entry(address.field.clone()).or_insert(stored_at);
            *last = stored_at.max(*last);
        }
    };
    for record in scene.records_of(subject)? {
        look(&record.address, record.created_at);
    }
    for side in scene.documents_of(subject)?.iter().filter(|side| side.state == RecordState::Current) {
        look(&side.address.record, side.created_at);
    }
    Ok(corrected)
}

impl Vault {
    /// The last release of each field to each recipient before the field was corrected.
    pub(super) async fn releases_before(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        corrected: &Corrected,
    ) -> Result<Vec<Disclosure>, VaultError> {
        let (mut last, mut from) = (BTreeMap::new(), (!corrected.is_empty()).then_some(0));
        while let Some(next) = from {
            let (page, more) = self.disclosures_of(platform, subject, next, MAX_PAGE).await?;
            for release in page {
                let (Some(recipient), Some(field)) = (&release.says.recipient, &release.says.field) else {
                    continue;
                };
                if corrected.get(field.as_str()).is_some_and(|at| release.at < *at) {
                    last.insert((recipient.clone(), field.clone()), release);
                }
            }
            from = more;
        }
        Ok(last.into_values().collect())
    }
}
