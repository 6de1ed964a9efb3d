//! Rows of requests of people about their data.

use super::{Mac, platform_row};
use crate::domain::{
    canonical::Canonical,
    ids::PlatformId,
    reference::Reference,
    rights::{Case, RefusalReason},
    time::Timestamp,
};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseRow {
    /// Platform.
    pub platform: PlatformId,
    /// The request.
    pub case: Case,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl CaseRow {
    /// What the MAC covers: everything, since a deadline that is edited is a deadline that is kept.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let c = &self.case;
        let image = platform_row("rights_cases", self.platform)
            .bytes(c.id.as_bytes())
            .bytes(c.subject.as_ref().map_or(&[], |id| id.as_bytes().as_slice()))
            .text(c.kind.as_str())
            .text(c.channel.as_str())
            .text(c.site.as_ref().map_or("", |site| site.as_str()))
            .text(c.requester.as_str())
            .text(text(c.representation.as_ref()))
            .text(text(c.reference.as_ref()))
            .int(c.received_at.as_micros())
            .int(c.counts_from.as_micros())
            .int(i64::from(c.working_days))
            .text(&c.clause)
            .bytes(&c.calendar_sha256)
            .int(c.due_at.as_micros())
            .text(c.state.as_str())
            .optional_int(c.begun_at.map(Timestamp::as_micros))
            .optional_int(c.done_at.map(Timestamp::as_micros))
            .int(c.opened_at.as_micros());
        let image = match &c.identity {
            None => image.flag(false),
            Some(identity) => image
                .flag(true)
                .text(identity.method.as_str())
                .text(identity.evidence.as_str())
                .int(identity.at.as_micros()),
        };
        match &c.ending {
            None => image.flag(false),
            Some(ending) => image
                .flag(true)
                .int(ending.at.as_micros())
                .texts(ending.reasons.iter().map(|reason: &RefusalReason| reason.as_str()))
                .text(text(ending.reference.as_ref()))
                .text(ending.channel.as_str())
                .text(ending.language.as_str())
                .bytes(&ending.notice_sha256)
                .bytes(ending.enclosure_sha256.as_ref().map_or(&[], <[u8; 32]>::as_slice)),
        }
    }
}

fn text(reference: Option<&Reference>) -> &str {
    reference.map_or("", Reference::as_str)
}
