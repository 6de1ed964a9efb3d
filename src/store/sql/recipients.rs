//! Recipients of a platform's values, and their keys.

use super::{
    SqlRow,
    config_writes::{only_if, put},
    decode::Columns,
    statement::Statement,
    writes::micros,
};
use crate::{
    domain::{
        ids::{PlatformId, RecipientId},
        names::PurposeName,
        recipient::{Abroad, Recipient},
        reference::Reference,
    },
    store::{
        Damage,
        rows::{
            Mac,
            config::{OfferedKey, RecipientRow},
        },
    },
};

pub(super) fn put_recipient<'a>(row: &'a RecipientRow, was: Option<&'a Mac>) -> Statement<'a> {
    let r = &row.recipient;
    let (statement, was) = put(
        "/* write::insert_recipient */ INSERT INTO recipients (platform_id, recipient_id, name, kind, country, purposes, \
         valid_from, valid_until, state, legal_name, contract, public_key, created_at, updated_at, mac, key_proved_at, \
         offered_key, offer_statement, offer_sealed, offer_answer_sha256, offer_expires_at, offer_wrong, safeguard, \
         safeguard_reference, conditions) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
         $23, $24, $25)",
        "/* write::update_recipient */ UPDATE recipients SET name = $3, kind = $4, country = $5, purposes = $6, \
         valid_from = $7, valid_until = $8, state = $9, legal_name = $10, contract = $11, public_key = $12, \
         created_at = $13, updated_at = $14, mac = $15, key_proved_at = $16, offered_key = $17, offer_statement = $18, \
         offer_sealed = $19, offer_answer_sha256 = $20, offer_expires_at = $21, offer_wrong = $22, \
         safeguard = $23, safeguard_reference = $24, conditions = $25 \
         WHERE platform_id = $1 AND recipient_id = $2 AND mac = $26",
        was,
    );
    let (offered, abroad) = (row.offered.as_ref(), row.abroad.as_ref());
    let statement = statement
        .int(row.platform.get())
        .bytes(r.id.as_bytes())
        .text(r.name.as_str())
        .text(r.kind.as_str())
        .text(r.country.as_str())
        .own_text(r.purposes.iter().map(PurposeName::as_str).collect::<Vec<_>>().join(","))
        .int(r.valid_from.as_micros())
        .opt_int(micros(r.valid_until))
        .text(r.state.as_str())
        .text(&row.legal_name)
        .text(&row.contract)
        .opt_bytes(row.public_key.as_ref().map(<[u8; 32]>::as_slice))
        .int(row.created_at.as_micros())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac)
        .opt_int(micros(row.key_proved_at))
        .opt_bytes(offered.map(|key| key.public_key.as_slice()))
        .opt_text(offered.map(|key| key.statement.as_str()))
        .opt_bytes(offered.map(|key| key.sealed.as_slice()))
        .opt_bytes(offered.map(|key| key.answer_sha256.as_slice()))
        .opt_int(offered.map(|key| key.expires_at.as_micros()))
        .opt_int(offered.map(|key| key.wrong.into()))
        .opt_text(abroad.map(|abroad| abroad.safeguard.as_str()))
        .opt_text(abroad.and_then(|abroad| abroad.reference.as_ref()).map(Reference::as_str))
        .own_text(row.conditions.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(","));
    only_if((statement, was))
}

impl<R: SqlRow> Columns<'_, R> {
    /// `recipient_id, name, kind, country, purposes, valid_from, valid_until, state, legal_name, contract, public_key,
    /// created_at, updated_at, mac, key_proved_at, safeguard, safeguard_reference, conditions, offered_key, offer_statement,
    /// offer_sealed, offer_answer_sha256, offer_expires_at, offer_wrong`
    pub(super) fn recipient(&mut self, platform: PlatformId) -> Result<RecipientRow, Damage> {
        let id = RecipientId::from_bytes(self.array("recipient_id")?);
        let (name, kind, country) = (self.parse("name")?, self.parse("kind")?, self.parse("country")?);
        let purposes = self.list::<PurposeName>("purposes")?;
        let (valid_from, valid_until) = (self.time("valid_from")?, self.optional_time("valid_until")?);
        let state = self.parse("state")?;
        let (legal_name, contract) = (self.text("legal_name")?.to_owned(), self.text("contract")?.to_owned());
        let public_key = self.optional_array("public_key")?;
        let has_key = public_key.is_some();
        let recipient =
            Recipient { id, name, kind, country, purposes, valid_from, valid_until, state, has_key };
        let (created_at, updated_at) = (self.time("created_at")?, self.time("updated_at")?);
        let (mac, key_proved_at) = (self.array("mac")?, self.optional_time("key_proved_at")?);
        Ok(RecipientRow {
            platform,
            recipient,
            legal_name,
            contract,
            public_key,
            created_at,
            updated_at,
            mac,
            key_proved_at,
            abroad: self.abroad()?,
            conditions: self.list("conditions")?,
            // The last: where there is none, its columns are not read.
            offered: self.offered_key()?.map(Box::new),
        })
    }

    /// `safeguard, safeguard_reference`
    fn abroad(&mut self) -> Result<Option<Abroad>, Damage> {
        let safeguard = self.optional_parse("safeguard")?;
        let reference = self.optional_parse("safeguard_reference")?;
        match (safeguard, reference) {
            (None, None) => Ok(None),
            (Some(safeguard), reference) => Ok(Some(Abroad { safeguard, reference })),
            (None, Some(_)) => Err(self.damaged("safeguard")),
        }
    }

    /// `offered_key, offer_statement, offer_sealed, offer_answer_sha256, offer_expires_at, offer_wrong`
    fn offered_key(&mut self) -> Result<Option<OfferedKey>, Damage> {
        let Some(public_key) = self.optional_array("offered_key")? else { return Ok(None) };
        Ok(Some(OfferedKey {
            public_key,
            statement: self.text("offer_statement")?.to_owned(),
            sealed: self.array("offer_sealed")?,
            answer_sha256: self.array("offer_answer_sha256")?,
            expires_at: self.time("offer_expires_at")?,
            wrong: self.number("offer_wrong")?,
        }))
    }
}
