//! Rows of breaches of the security of personal data.

use super::{Mac, platform_row};
use crate::domain::{
    breach::{Breach, Held, Told},
    canonical::Canonical,
    ids::PlatformId,
    names::{FieldName, PurposeName, RecipientName},
    reference::Reference,
    time::Timestamp,
};

/// A breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachRow {
    /// Platform.
    pub platform: PlatformId,
    /// The breach.
    pub breach: Breach,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl BreachRow {
    /// What the MAC covers: everything, since a day that is edited, or people that are left out, are what a breach is told by.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let b = &self.breach;
        let facts = &b.facts;
        let callers: Vec<_> = facts.reach.callers.iter().map(ToString::to_string).collect();
        let (everyone, version) = held(facts.reach.held);
        let image = platform_row("breaches", self.platform)
            .bytes(b.id.as_bytes())
            .text(facts.kind.as_str())
            .text(facts.certainty.as_str())
            .text(facts.cause.as_str())
            .optional_int(facts.began_at.map(Timestamp::as_micros))
            .optional_int(facts.ended_at.map(Timestamp::as_micros))
            .texts(callers.iter().map(String::as_str))
            .flag(everyone)
            .optional_int(version)
            .texts(facts.consequences.iter().map(|code| code.as_str()))
            .texts(facts.measures.iter().map(|code| code.as_str()))
            .text(facts.reference.as_ref().map_or("", Reference::as_str))
            .int(b.found_at.as_micros())
            .int(i64::from(b.working_days))
            .text(&b.clause)
            .bytes(&b.calendar_sha256)
            .int(b.due_at.as_micros())
            .int(b.opened_at.as_micros());
        let image = match &b.scope {
            None => image.flag(false),
            Some(scope) => image
                .flag(true)
                .int(scope.at.as_micros())
                .int(i64::try_from(scope.log_size).unwrap_or(i64::MAX))
                .int(i64::try_from(scope.entries).unwrap_or(i64::MAX))
                .int(i64::try_from(scope.subjects).unwrap_or(i64::MAX))
                .bytes(&scope.subjects_sha256)
                .texts(scope.fields.iter().map(FieldName::as_str))
                .texts(scope.purposes.iter().map(PurposeName::as_str))
                .texts(scope.recipients.iter().map(RecipientName::as_str)),
        };
        let image = told(told(image, b.authority.as_ref()), b.subjects.as_ref());
        match &b.end {
            None => image.flag(false),
            Some(end) => image
                .flag(true)
                .int(end.at.as_micros())
                .text(end.outcome.as_str())
                .text(end.ground.as_ref().map_or("", Reference::as_str)),
        }
    }
}

/// Whether everybody is reached, and the key version under which those are who are.
#[must_use]
pub(in crate::store) fn held(held: Option<Held>) -> (bool, Option<i64>) {
    match held {
        None => (false, None),
        Some(Held::Everyone) => (true, None),
        Some(Held::UnderKey(version)) => (false, Some(i64::from(version))),
    }
}

fn told(image: Canonical, told: Option<&Told>) -> Canonical {
    let Some(told) = told else { return image.flag(false) };
    image
        .flag(true)
        .int(told.at.as_micros())
        .text(told.channel.as_str())
        .text(told.reference.as_ref().map_or("", Reference::as_str))
        .text(told.language.as_str())
        .bytes(&told.notice_sha256)
        .bytes(told.enclosure_sha256.as_ref().map_or(&[], <[u8; 32]>::as_slice))
}
