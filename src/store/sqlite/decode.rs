//! Stored columns to typed rows, by checked reads: a row that cannot be is [`Damage`], never a panic.

use sqlx::{Decode, Row as _, Sqlite, Type, sqlite::SqliteRow};

use crate::{
    domain::{
        caller::{Caller, Role},
        consent::{Consent, ConsentTerms, RecordAddress},
        ids::{CallerId, ConsentId, PlatformId, RecordId, SubjectId, TokenRowId},
        names::FieldName,
        secret::Sealed,
        time::Timestamp,
        token::TokenHash,
    },
    store::{
        Counters, Damage, FoundToken,
        rows::{CallerRow, ConsentRow, HeadRow, KeyVersionRow, PolicyRow, RecordRow, SubjectRow, TokenRow},
    },
};

/// Reads the columns of one row from left to right.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) const fn new(row: &'r SqliteRow, table: &'static str, first: usize) -> Self {
        Self { row, table, next: first }
    }

    fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self, column: &'static str) -> Result<T, Damage> {
        let at = self.next;
        self.next += 1;
        self.row.try_get(at).map_err(|_| self.damaged(column))
    }

    const fn damaged(&self, column: &'static str) -> Damage {
        Damage { table: self.table, column }
    }

    pub(super) fn int(&mut self, column: &'static str) -> Result<i64, Damage> {
        self.get(column)
    }

    /// A number that cannot be negative, or too large for its type.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, column: &'static str) -> Result<T, Damage> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| self.damaged(column))
    }

    fn flag(&mut self, column: &'static str) -> Result<bool, Damage> {
        Ok(self.number::<u8>(column)? != 0)
    }

    fn time(&mut self, column: &'static str) -> Result<Timestamp, Damage> {
        self.int(column).map(Timestamp::from_micros)
    }

    fn optional_time(&mut self, column: &'static str) -> Result<Option<Timestamp>, Damage> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_micros))
    }

    pub(super) fn text(&mut self, column: &'static str) -> Result<String, Damage> {
        self.get(column)
    }

    /// A text that parses: a name or a code.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, column: &'static str) -> Result<T, Damage> {
        let text: &str = self.get(column)?;
        text.parse().map_err(|_| self.damaged(column))
    }

    /// Names or codes, separated by commas.
    fn list<T: std::str::FromStr>(&mut self, column: &'static str) -> Result<Vec<T>, Damage> {
        let text: &str = self.get(column)?;
        text.split(',').map(|part| part.parse().map_err(|_| self.damaged(column))).collect()
    }

    fn sealed(&mut self, column: &'static str) -> Result<Sealed, Damage> {
        self.get::<Vec<u8>>(column).map(Sealed::from_bytes)
    }

    fn optional_sealed(&mut self, column: &'static str) -> Result<Option<Sealed>, Damage> {
        Ok(self.get::<Option<Vec<u8>>>(column)?.map(Sealed::from_bytes))
    }

    pub(super) fn bytes(&mut self, column: &'static str) -> Result<Vec<u8>, Damage> {
        self.get(column)
    }

    pub(super) fn array<const N: usize>(&mut self, column: &'static str) -> Result<[u8; N], Damage> {
        let bytes: &[u8] = self.get(column)?;
        bytes.try_into().map_err(|_| self.damaged(column))
    }

    /// `size, config_epoch, tighten_seq, updated_at, root, right_edge, checkpoint, mac`
    pub(super) fn head(&mut self, platform: PlatformId) -> Result<HeadRow, Damage> {
        let counters = Counters {
            size: self.number("size")?,
            config_epoch: self.number("config_epoch")?,
            tighten_seq: self.number("tighten_seq")?,
        };
        Ok(HeadRow {
            platform,
            counters,
            updated_at: self.time("updated_at")?,
            root: self.array("root")?,
            right_edge: self.hashes("right_edge")?,
            checkpoint: self.text("checkpoint")?,
            mac: self.array("mac")?,
        })
    }

    /// Hashes of 32 bytes, one after the other.
    pub(super) fn hashes(&mut self, column: &'static str) -> Result<Vec<[u8; 32]>, Damage> {
        let bytes: &[u8] = self.get(column)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() { Ok(hashes.to_vec()) } else { Err(self.damaged(column)) }
    }

    /// `token_hash, token_id, record_id, mode, state, created_at, mac`, the record, the subject
    pub(super) fn found_token(&mut self, platform: PlatformId) -> Result<FoundToken, Damage> {
        let token = TokenRow {
            platform,
            hash: TokenHash(self.array("token_hash")?),
            id: TokenRowId::from_bytes(self.array("token_id")?),
            record: RecordId::from_bytes(self.array("record_id")?),
            mode: self.parse("mode")?,
            state: self.parse("state")?,
            sealed_token: Sealed::from_bytes(Vec::new()),
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        };
        self.table = "records";
        let record = self.record(platform)?;
        self.table = "subjects";
        let subject = self.subject(platform, record.address.subject)?;
        Ok(FoundToken { token, record, subject })
    }

    /// `record_id, version, subject_id, field, state, sealed_value, created_at, mac`
    pub(super) fn record(&mut self, platform: PlatformId) -> Result<RecordRow, Damage> {
        let record = RecordId::from_bytes(self.array("record_id")?);
        let version = self.number("version")?;
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let field = self.parse("field")?;
        Ok(RecordRow {
            address: RecordAddress { platform, subject, record, field, version },
            state: self.parse("state")?,
            sealed_value: self.sealed("sealed_value")?,
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `index_version, reference_hash, wrapped_key, state, created_at, mac`
    pub(super) fn subject(&mut self, platform: PlatformId, id: SubjectId) -> Result<SubjectRow, Damage> {
        Ok(SubjectRow {
            platform,
            id,
            index_version: self.number("index_version")?,
            reference_hash: self.array("reference_hash")?,
            sealed_reference: Sealed::from_bytes(Vec::new()),
            wrapped_key: self.optional_sealed("wrapped_key")?,
            state: self.parse("state")?,
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `consent_id, subject_id, purpose, fields, state, act, given_at, expires_at, recorded_at, withdrawn_at,
    /// third_party_transfer, cross_border_transfer, publication, policy_version, language, text_sha256, site, mac`
    pub(super) fn consent(&mut self, platform: PlatformId) -> Result<ConsentRow, Damage> {
        let id = ConsentId::from_bytes(self.array("consent_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let purpose = self.parse("purpose")?;
        let fields = self.list::<FieldName>("fields")?;
        let state = self.parse("state")?;
        let act = self.parse("act")?;
        let given_at = self.time("given_at")?;
        let expires_at = self.optional_time("expires_at")?;
        let recorded_at = self.time("recorded_at")?;
        let withdrawn_at = self.optional_time("withdrawn_at")?;
        let terms = ConsentTerms {
            purpose,
            fields,
            act,
            given_at,
            expires_at,
            third_party_transfer: self.flag("third_party_transfer")?,
            cross_border_transfer: self.flag("cross_border_transfer")?,
            publication: self.flag("publication")?,
            policy_version: self.number("policy_version")?,
            language: self.parse("language")?,
            text_sha256: self.array("text_sha256")?,
            site: self.parse("site")?,
        };
        let consent = Consent { id, subject, terms, state, recorded_at, withdrawn_at };
        Ok(ConsentRow {
            platform,
            consent,
            sealed_evidence: Sealed::from_bytes(Vec::new()),
            mac: self.array("mac")?,
        })
    }

    /// `version, text, sha256, created_at, mac`
    pub(super) fn policy(&mut self, platform: PlatformId) -> Result<PolicyRow, Damage> {
        Ok(PolicyRow {
            platform,
            version: self.number("version")?,
            text: self.text("text")?,
            sha256: self.array("sha256")?,
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `spiffe_id, caller_id, name, roles, state, updated_at, mac`
    pub(super) fn caller(&mut self, platform: PlatformId) -> Result<CallerRow, Damage> {
        let spiffe_id = self.parse("spiffe_id")?;
        let id = CallerId::from_bytes(self.array("caller_id")?);
        let name = self.parse("name")?;
        let roles = self.list::<Role>("roles")?;
        let state = self.parse("state")?;
        Ok(CallerRow {
            caller: Caller { id, platform, name, spiffe_id, roles, state },
            updated_at: self.time("updated_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `kind, version, state, wrapped, created_at, mac`
    pub(super) fn key_version(&mut self, platform: PlatformId) -> Result<KeyVersionRow, Damage> {
        Ok(KeyVersionRow {
            platform,
            kind: self.text("kind")?,
            version: self.number("version")?,
            state: self.parse("state")?,
            wrapped: self.optional_sealed("wrapped")?,
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        })
    }
}
