//! Stored columns to typed rows, by checked reads: a row that cannot be is [`Damage`], never a panic.

use crate::{
    domain::{
        caller::{Caller, KeyPin, Person, Role, RoleGrant},
        consent::{Consent, ConsentTerms, RecordAddress},
        event::{AccuracyMark, SubjectEvent, WithdrawalRefusal},
        ids::{
            CallerId, ConsentId, EventId, OperationId, PersonId, PlatformId, ProposalId, RecordId, RequestId,
            SubjectId, TokenRowId,
        },
        names::FieldName,
        operation::{BudgetLimit, BudgetWindow, Cursor, Operation},
        secret::Sealed,
        subject::Restriction,
        time::Timestamp,
        token::TokenHash,
    },
    store::{
        Counters, Damage,
        rows::{
            ConsentRow, EventRow, IndexRow, RecordRow, SubjectRow, TokenRow,
            config::{
                BudgetLimitRow, CallerRow, ClosureRow, KeyVersionRow, PersonRow, PolicyRow, RoleGrantRow,
            },
            log::HeadRow,
            work::{BudgetRow, OperationRow, ProposalRow, ReplicaRow, RequestRow, SealedPlan},
        },
    },
};

/// The column is of another type, or is not there.
pub(in crate::store) struct NotThat;

/// A row of either database. Each answers `None` for NULL.
pub(in crate::store) trait SqlRow: Send + Sync {
    fn int(&self, at: usize) -> Result<Option<i64>, NotThat>;
    fn text(&self, at: usize) -> Result<Option<&str>, NotThat>;
    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, NotThat>;
}

/// Where the columns of a row stand.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// One after the other.
    Sequence(usize),
    /// In groups by type, as rows of different kinds share them in one statement.
    Groups { bytes: usize, texts: usize, ints: usize },
}

/// Columns of the batch read: the kind, then groups of byte strings, texts and numbers.
pub(in crate::store) const GROUPED_BYTES: usize = 8;
pub(in crate::store) const GROUPED_TEXTS: usize = 7;
pub(in crate::store) const GROUPED_INTS: usize = 8;

/// Reads the columns of one row from left to right.
pub(super) struct Columns<'r, R> {
    row: &'r R,
    table: &'static str,
    layout: Layout,
}

impl<R> Clone for Columns<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Columns<'_, R> {}

#[derive(Clone, Copy)]
enum Group {
    Bytes,
    Texts,
    Ints,
}

impl<'r, R: SqlRow> Columns<'r, R> {
    pub(super) const fn new(row: &'r R, table: &'static str) -> Self {
        Self { row, table, layout: Layout::Sequence(0) }
    }

    /// A row of the batch read, past its kind.
    pub(super) const fn grouped(row: &'r R, table: &'static str) -> Self {
        let texts = 1 + GROUPED_BYTES;
        let layout = Layout::Groups { bytes: 1, texts, ints: texts + GROUPED_TEXTS };
        Self { row, table, layout }
    }

    fn next(&mut self, group: Group) -> usize {
        let place = match (&mut self.layout, group) {
            (Layout::Sequence(next), _) => next,
            (Layout::Groups { bytes, .. }, Group::Bytes) => bytes,
            (Layout::Groups { texts, .. }, Group::Texts) => texts,
            (Layout::Groups { ints, .. }, Group::Ints) => ints,
        };
        let at = *place;
        *place += 1;
        at
    }

    pub(super) const fn damaged(&self, column: &'static str) -> Damage {
        Damage { table: self.table, column }
    }

    pub(super) fn optional_int(&mut self, column: &'static str) -> Result<Option<i64>, Damage> {
        let at = self.next(Group::Ints);
        self.row.int(at).map_err(|_| self.damaged(column))
    }

    pub(super) fn int(&mut self, column: &'static str) -> Result<i64, Damage> {
        self.optional_int(column)?.ok_or(self.damaged(column))
    }

    /// A number that cannot be negative, or too large for its type.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, column: &'static str) -> Result<T, Damage> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| self.damaged(column))
    }

    pub(super) fn flag(&mut self, column: &'static str) -> Result<bool, Damage> {
        Ok(self.number::<u8>(column)? != 0)
    }

    pub(super) fn time(&mut self, column: &'static str) -> Result<Timestamp, Damage> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub(super) fn optional_time(&mut self, column: &'static str) -> Result<Option<Timestamp>, Damage> {
        Ok(self.optional_int(column)?.map(Timestamp::from_micros))
    }

    pub(super) fn optional_text(&mut self, column: &'static str) -> Result<Option<&'r str>, Damage> {
        let at = self.next(Group::Texts);
        self.row.text(at).map_err(|_| self.damaged(column))
    }

    pub(super) fn text(&mut self, column: &'static str) -> Result<&'r str, Damage> {
        self.optional_text(column)?.ok_or(self.damaged(column))
    }

    /// A text that parses: a name or a code.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, column: &'static str) -> Result<T, Damage> {
        self.text(column)?.parse().map_err(|_| self.damaged(column))
    }

    pub(super) fn optional_parse<T: std::str::FromStr>(
        &mut self,
        column: &'static str,
    ) -> Result<Option<T>, Damage> {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse().map_err(|_| self.damaged(column))).transpose()
    }

    /// Names or codes, separated by commas.
    pub(super) fn list<T: std::str::FromStr>(&mut self, column: &'static str) -> Result<Vec<T>, Damage> {
        let text = self.text(column)?;
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(|part| part.parse().map_err(|_| self.damaged(column))).collect()
    }

    pub(super) fn optional_bytes(&mut self, column: &'static str) -> Result<Option<&'r [u8]>, Damage> {
        let at = self.next(Group::Bytes);
        self.row.bytes(at).map_err(|_| self.damaged(column))
    }

    pub(super) fn bytes(&mut self, column: &'static str) -> Result<&'r [u8], Damage> {
        self.optional_bytes(column)?.ok_or(self.damaged(column))
    }

    pub(super) fn sealed(&mut self, column: &'static str) -> Result<Sealed, Damage> {
        Ok(Sealed::from_bytes(self.bytes(column)?.to_vec()))
    }

    pub(super) fn optional_sealed(&mut self, column: &'static str) -> Result<Option<Sealed>, Damage> {
        Ok(self.optional_bytes(column)?.map(|bytes| Sealed::from_bytes(bytes.to_vec())))
    }

    pub(super) fn array<const N: usize>(&mut self, column: &'static str) -> Result<[u8; N], Damage> {
        self.bytes(column)?.try_into().map_err(|_| self.damaged(column))
    }

    pub(super) fn optional_array<const N: usize>(
        &mut self,
        column: &'static str,
    ) -> Result<Option<[u8; N]>, Damage> {
        let bytes = self.optional_bytes(column)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| self.damaged(column))).transpose()
    }

    /// Hashes of 32 bytes, one after the other.
    pub(super) fn hashes(&mut self, column: &'static str) -> Result<Vec<[u8; 32]>, Damage> {
        let (hashes, rest) = self.bytes(column)?.as_chunks::<32>();
        if rest.is_empty() { Ok(hashes.to_vec()) } else { Err(self.damaged(column)) }
    }

    /// numbers `size, config_epoch, tighten_seq, change_seq`
    pub(super) fn counters(&mut self) -> Result<Counters, Damage> {
        Ok(Counters {
            size: self.number("size")?,
            config_epoch: self.number("config_epoch")?,
            tighten_seq: self.number("tighten_seq")?,
            change_seq: self.number("change_seq")?,
        })
    }

    /// bytes `root, right_edge, mac`, text `checkpoint`, the counters, number `updated_at`
    pub(super) fn head(&mut self, platform: PlatformId) -> Result<HeadRow, Damage> {
        let (root, right_edge, mac) = (self.array("root")?, self.hashes("right_edge")?, self.array("mac")?);
        let checkpoint = self.text("checkpoint")?.to_owned();
        let counters = self.counters()?;
        let updated_at = self.time("updated_at")?;
        Ok(HeadRow { platform, counters, updated_at, root, right_edge, checkpoint, mac })
    }

    /// bytes `token_hash, token_id, record_id, mac, sealed_token`, texts `mode, state`, numbers `hash_version,
    /// expires_at, created_at`
    pub(super) fn token(&mut self, platform: PlatformId) -> Result<TokenRow, Damage> {
        Ok(TokenRow {
            platform,
            hash: TokenHash(self.array("token_hash")?),
            id: TokenRowId::from_bytes(self.array("token_id")?),
            record: RecordId::from_bytes(self.array("record_id")?),
            mac: self.array("mac")?,
            sealed_token: Sealed::from_bytes(
                self.optional_bytes("sealed_token")?.unwrap_or_default().to_vec(),
            ),
            mode: self.parse("mode")?,
            state: self.parse("state")?,
            hash_version: self.number("hash_version")?,
            expires_at: self.optional_time("expires_at")?,
            created_at: self.time("created_at")?,
        })
    }

    /// bytes `record_id, subject_id, sealed_value, mac`, texts `field, state, source`, numbers `version, created_at`
    pub(super) fn record(&mut self, platform: PlatformId) -> Result<RecordRow, Damage> {
        let record = RecordId::from_bytes(self.array("record_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let sealed_value = self.sealed("sealed_value")?;
        let mac = self.array("mac")?;
        let field = self.parse("field")?;
        let state = self.parse("state")?;
        let source = self.parse("source")?;
        let version = self.number("version")?;
        let created_at = self.time("created_at")?;
        let address = RecordAddress { platform, subject, record, field, version };
        Ok(RecordRow { address, state, source, sealed_value, created_at, mac })
    }

    /// bytes `subject_id, reference_hash, wrapped_key, mac, sealed_reference`, texts `kind, state,
    /// restriction_trigger, restriction_requester`, numbers `index_version, restricted_at, review_at, erased_at,
    /// destroy_at, created_at`
    pub(super) fn subject(&mut self, platform: PlatformId) -> Result<SubjectRow, Damage> {
        let id = SubjectId::from_bytes(self.array("subject_id")?);
        let reference_hash = self.array("reference_hash")?;
        let wrapped_key = self.optional_sealed("wrapped_key")?;
        let mac = self.array("mac")?;
        let sealed_reference =
            Sealed::from_bytes(self.optional_bytes("sealed_reference")?.unwrap_or_default().to_vec());
        let (kind, state) = (self.parse("kind")?, self.parse("state")?);
        let trigger = self.optional_parse("restriction_trigger")?;
        let requester = self.optional_parse("restriction_requester")?;
        let index_version = self.number("index_version")?;
        let since = self.optional_time("restricted_at")?;
        let review_at = self.optional_time("review_at")?;
        let restriction = match (trigger, requester, since, review_at) {
            (None, None, None, None) => None,
            (Some(trigger), Some(requester), Some(since), Some(review_at)) => {
                Some(Restriction { trigger, requester, since, review_at })
            }
            _ => return Err(self.damaged("restriction_trigger")),
        };
        Ok(SubjectRow {
            platform,
            id,
            index_version,
            reference_hash,
            sealed_reference,
            wrapped_key,
            kind,
            state,
            restriction,
            erased_at: self.optional_time("erased_at")?,
            destroy_at: self.optional_time("destroy_at")?,
            created_at: self.time("created_at")?,
            mac,
        })
    }

    /// bytes `consent_id, subject_id, text_sha256, mac`, texts `purpose, fields, state, act, language, site` and
    /// channel and sender as one, numbers `given_at, expires_at, recorded_at, withdrawn_at, third_party_transfer,
    /// cross_border_transfer, publication, policy_version`
    pub(super) fn consent(&mut self, platform: PlatformId) -> Result<ConsentRow, Damage> {
        let id = ConsentId::from_bytes(self.array("consent_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let text_sha256 = self.array("text_sha256")?;
        let mac = self.array("mac")?;
        let purpose = self.parse("purpose")?;
        let fields = self.list::<FieldName>("fields")?;
        if fields.is_empty() {
            return Err(self.damaged("fields"));
        }
        let (state, act) = (self.parse("state")?, self.parse("act")?);
        let (language, site) = (self.parse("language")?, self.parse("site")?);
        let outreach = self.optional_parse("channel")?;
        let given_at = self.time("given_at")?;
        let expires_at = self.optional_time("expires_at")?;
        let recorded_at = self.time("recorded_at")?;
        let withdrawn_at = self.optional_time("withdrawn_at")?;
        let terms = ConsentTerms {
            purpose,
            fields,
            outreach,
            act,
            given_at,
            expires_at,
            third_party_transfer: self.flag("third_party_transfer")?,
            cross_border_transfer: self.flag("cross_border_transfer")?,
            publication: self.flag("publication")?,
            policy_version: self.number("policy_version")?,
            language,
            text_sha256,
            site,
        };
        let consent = Consent { id, subject, terms, state, recorded_at, withdrawn_at };
        Ok(ConsentRow { platform, consent, sealed_evidence: Sealed::from_bytes(Vec::new()), mac })
    }

    /// bytes `event_id, subject_id, mac`, texts `name, withdrawal_bar, ground, field, accuracy`, numbers
    /// `happened_at, recorded_at`
    pub(super) fn event(&mut self, platform: PlatformId) -> Result<EventRow, Damage> {
        let id = EventId::from_bytes(self.array("event_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let mac = self.array("mac")?;
        let event = SubjectEvent { name: self.parse("name")?, at: self.time("happened_at")? };
        let (bar, ground) = (self.optional_parse("withdrawal_bar")?, self.optional_parse("ground")?);
        let (field, accuracy) = (self.optional_parse("field")?, self.optional_parse("accuracy")?);
        let (refusal, mark) = match (bar, ground, field, accuracy) {
            (None, None, None, None) => (None, None),
            (Some(bar), Some(ground), None, None) => (Some(WithdrawalRefusal { bar, ground }), None),
            (None, Some(evidence), Some(field), Some(accuracy)) => {
                (None, Some(AccuracyMark { field, accuracy, evidence }))
            }
            _ => return Err(self.damaged("ground")),
        };
        let recorded_at = self.time("recorded_at")?;
        Ok(EventRow { platform, id, subject, event, refusal, mark, recorded_at, mac })
    }

    /// bytes `value_hash, record_id`, text `field`, numbers `index_version, claims_unique`
    pub(super) fn index_entry(&mut self) -> Result<IndexRow, Damage> {
        Ok(IndexRow {
            hash: self.array("value_hash")?,
            record: RecordId::from_bytes(self.array("record_id")?),
            field: self.parse("field")?,
            index_version: self.number("index_version")?,
            claims_unique: self.flag("claims_unique")?,
        })
    }

    /// bytes `caller_id, request_id, body_mac, outcome, mac`, text `call`, number `created_at`
    pub(super) fn request(&mut self, platform: PlatformId) -> Result<RequestRow, Damage> {
        Ok(RequestRow {
            platform,
            caller: CallerId::from_bytes(self.array("caller_id")?),
            request: RequestId::from_bytes(self.array("request_id")?),
            body_mac: self.array("body_mac")?,
            outcome: self.bytes("outcome")?.to_vec(),
            mac: self.array("mac")?,
            call: self.text("call")?.to_owned(),
            created_at: self.time("created_at")?,
        })
    }

    /// bytes `proposal_id, wrapped_key, sealed_request, plan_sha256, person_id, caller_id, ended_by, mac`, texts `call,
    /// state, reason`, numbers `created_at, expires_at, ended_at`
    pub(super) fn proposal(&mut self, platform: PlatformId) -> Result<ProposalRow, Damage> {
        let id = ProposalId::from_bytes(self.array("proposal_id")?);
        let key = self.optional_sealed("wrapped_key")?;
        let request = self.optional_sealed("sealed_request")?;
        let sealed = key.zip(request).map(|(wrapped_key, request)| SealedPlan { wrapped_key, request });
        self.proposal_but_plan(platform, id, sealed)
    }

    /// The same without `wrapped_key, sealed_request`.
    pub(super) fn listed_proposal(&mut self, platform: PlatformId) -> Result<ProposalRow, Damage> {
        let id = ProposalId::from_bytes(self.array("proposal_id")?);
        self.proposal_but_plan(platform, id, None)
    }

    fn proposal_but_plan(
        &mut self,
        platform: PlatformId,
        id: ProposalId,
        sealed: Option<SealedPlan>,
    ) -> Result<ProposalRow, Damage> {
        Ok(ProposalRow {
            platform,
            id,
            sealed,
            plan_sha256: self.array("plan_sha256")?,
            proposer: PersonId::from_bytes(self.array("person_id")?),
            proposer_caller: CallerId::from_bytes(self.array("caller_id")?),
            ended_by: self.optional_array("ended_by")?.map(PersonId::from_bytes),
            mac: self.array("mac")?,
            call: self.text("call")?.to_owned(),
            state: self.parse("state")?,
            reason: self.optional_text("reason")?.map(str::to_owned),
            created_at: self.time("created_at")?,
            expires_at: self.time("expires_at")?,
            ended_at: self.optional_time("ended_at")?,
        })
    }

    /// bytes `caller_id`, texts `kind, purpose`, numbers `window_start, spent`
    pub(super) fn budget(&mut self) -> Result<BudgetRow, Damage> {
        let caller = CallerId::from_bytes(self.array("caller_id")?);
        let kind = self.parse("kind")?;
        let purpose = match self.text("purpose")? {
            "" => None,
            purpose => Some(purpose.parse().map_err(|_| self.damaged("purpose"))?),
        };
        let start = self.time("window_start")?;
        Ok(BudgetRow { window: BudgetWindow { caller, kind, purpose, start }, spent: self.number("spent")? })
    }

    /// `version, text, sha256, created_at, mac`
    pub(super) fn policy(&mut self, platform: PlatformId) -> Result<PolicyRow, Damage> {
        Ok(PolicyRow {
            platform,
            version: self.number("version")?,
            text: self.text("text")?.to_owned(),
            sha256: self.array("sha256")?,
            created_at: self.time("created_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `spiffe_id, caller_id, name, roles, pins, person_id, state, created_at, updated_at, mac`
    pub(super) fn caller(&mut self, platform: PlatformId) -> Result<CallerRow, Damage> {
        let spiffe_id = self.parse("spiffe_id")?;
        let id = CallerId::from_bytes(self.array("caller_id")?);
        let name = self.parse("name")?;
        let roles = self.list::<Role>("roles")?;
        let pins: Vec<KeyPin> = self.hashes("pins")?;
        let person = self.optional_array("person_id")?.map(PersonId::from_bytes);
        let state = self.parse("state")?;
        Ok(CallerRow {
            caller: Caller { id, platform, name, spiffe_id, roles, pins, person, state },
            created_at: self.time("created_at")?,
            updated_at: self.time("updated_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `person_id, handle, state, created_at, updated_at, mac`
    pub(super) fn person(&mut self) -> Result<PersonRow, Damage> {
        let id = PersonId::from_bytes(self.array("person_id")?);
        let person = Person { id, handle: self.parse("handle")?, state: self.parse("state")? };
        let (created_at, updated_at) = (self.time("created_at")?, self.time("updated_at")?);
        Ok(PersonRow { person, created_at, updated_at, mac: self.array("mac")? })
    }

    /// `person_id, role, scope, state, updated_at, mac`
    pub(super) fn role_grant(&mut self) -> Result<RoleGrantRow, Damage> {
        let grant = RoleGrant {
            person: PersonId::from_bytes(self.array("person_id")?),
            role: self.parse("role")?,
            scope: PlatformId::new(self.number("scope")?),
            state: self.parse("state")?,
        };
        Ok(RoleGrantRow { grant, updated_at: self.time("updated_at")?, mac: self.array("mac")? })
    }

    /// `caller_id, kind, max_spent, window_seconds, updated_at, mac`
    pub(super) fn closure(&mut self, platform: PlatformId) -> Result<ClosureRow, Damage> {
        Ok(ClosureRow {
            platform,
            reason: self.parse("reason")?,
            closed_at: self.time("closed_at")?,
            opened_at: self.optional_time("opened_at")?,
            mac: self.array("mac")?,
        })
    }

    pub(super) fn budget_limit(&mut self, platform: PlatformId) -> Result<BudgetLimitRow, Damage> {
        let caller = self.bytes("caller_id")?;
        let caller = match caller.len() {
            0 => None,
            _ => Some(CallerId::from_bytes(caller.try_into().map_err(|_| self.damaged("caller_id"))?)),
        };
        let kind = self.parse("kind")?;
        let limit = BudgetLimit {
            caller,
            kind,
            limit: self.number("max_spent")?,
            window_seconds: self.number("window_seconds")?,
        };
        Ok(BudgetLimitRow { platform, limit, updated_at: self.time("updated_at")?, mac: self.array("mac")? })
    }

    /// `kind, version, state, wrapped, created_at, mac`
    pub(super) fn key_version(&mut self, platform: PlatformId) -> Result<KeyVersionRow, Damage> {
        Ok(KeyVersionRow {
            platform,
            kind: self.text("kind")?.to_owned(),
            version: self.number("version")?,
            state: self.parse("state")?,
            wrapped: self.optional_sealed("wrapped")?,
            created_at: self.time("created_at")?,
            destroy_at: self.optional_time("destroy_at")?,
            mac: self.array("mac")?,
        })
    }

    /// `platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate, created_at, due_at,
    /// ended_at, fence, lease_until, done, total`
    pub(super) fn operation(&mut self) -> Result<OperationRow, Damage> {
        let platform = PlatformId::new(self.number("platform_id")?);
        let id = OperationId::from_bytes(self.array("operation_id")?);
        let kind = self.parse("kind")?;
        let object = self.array("object_id")?;
        let state = self.parse("state")?;
        let (phase, key_version) = (self.parse("phase")?, self.number("key_version")?);
        let resume_after = match self.bytes("resume_after")? {
            [] => None,
            cursor => Some(Cursor::from_bytes(
                cursor.try_into().map_err(|_| Damage { table: "operations", column: "resume_after" })?,
            )),
        };
        let rate = self.number("rate")?;
        let (created_at, due_at) = (self.time("created_at")?, self.time("due_at")?);
        let ended_at = self.optional_time("ended_at")?;
        let fence = self.number("fence")?;
        let lease_until = self.optional_time("lease_until")?;
        let (done, total) = (self.number("done")?, self.number("total")?);
        let operation = Operation::new(id, platform, kind, object, created_at, total);
        let operation = Operation {
            state,
            phase,
            key_version,
            resume_after,
            rate,
            due_at,
            ended_at,
            fence,
            lease_until,
            done,
            ..operation
        };
        Ok(OperationRow { operation })
    }

    /// `name, started_at, heartbeat_at, schema, keys_loaded_at`
    pub(super) fn replica(&mut self) -> Result<ReplicaRow, Damage> {
        Ok(ReplicaRow {
            name: self.text("name")?.to_owned(),
            started_at: self.time("started_at")?,
            heartbeat_at: self.time("heartbeat_at")?,
            schema: self.int("schema")?,
            keys_loaded_at: self.time("keys_loaded_at")?,
        })
    }

    /// Work on a subject, which has neither phases nor keys: `platform_id, operation_id, kind, object_id, state,
    /// created_at, due_at, ended_at, fence, lease_until, done, total`
    pub(super) fn operation_on_subject(&mut self) -> Result<OperationRow, Damage> {
        let platform = PlatformId::new(self.number("platform_id")?);
        let id = OperationId::from_bytes(self.array("operation_id")?);
        let kind = self.parse("kind")?;
        let object = self.array("object_id")?;
        let state = self.parse("state")?;
        let (created_at, due_at) = (self.time("created_at")?, self.time("due_at")?);
        let ended_at = self.optional_time("ended_at")?;
        let fence = self.number("fence")?;
        let lease_until = self.optional_time("lease_until")?;
        let (done, total) = (self.number("done")?, self.number("total")?);
        let operation = Operation::new(id, platform, kind, object, created_at, total);
        let operation = Operation { state, due_at, ended_at, fence, lease_until, done, ..operation };
        Ok(OperationRow { operation })
    }
}
