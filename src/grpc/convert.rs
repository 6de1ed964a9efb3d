//! Messages to the vault's types and back. Says which field is wrong, never what stood in it.

use prost_types::Timestamp as PbTimestamp;

use super::pb;
use crate::{
    domain::{
        consent::{Consent, ConsentAct, ConsentState, ConsentTerms},
        names::{FieldName, SenderName},
        outreach::{Channel, Outreach},
        reference::Reference,
        secret::Plaintext,
        subject::{SubjectKind, ValueSource},
        time::Timestamp,
        token::TokenMode,
    },
    policy::model::View,
    vault::{
        consent::NewConsent,
        error::{MAX_VIOLATIONS, VaultError, Violation},
        tokenize::{MAX_CONSENTS, MAX_FIELDS, MAX_REFERENCE_BYTES, NewValue, NewValues},
    },
};

/// Items in one batch.
pub(super) const MAX_BATCH: usize = 1_000;
/// How far a consent may be dated ahead of the vault's clock.
const CONSENT_AHEAD_MICROS: i64 = 5 * 60 * 1_000_000;
/// How far ahead a token may end.
const TOKEN_AHEAD_MICROS: i64 = 366 * 24 * 60 * 60 * 1_000_000;
/// 9999-12-31T23:59:59Z, the last second of a protobuf Timestamp.
const LAST_SECOND: i64 = 253_402_300_799;

/// Collects violations, so that a caller sees all of them at once.
pub(super) struct Checker {
    prefix: String,
    violations: Vec<Violation>,
}

impl Checker {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), violations: Vec::new() }
    }

    pub(super) fn refuse(&mut self, field: &str, rule: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation::new(format!("{}{field}", self.prefix), rule));
        }
    }

    /// A text that parses.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|e: T::Err| self.refuse(field, &e.to_string())).ok()
    }

    pub(super) fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.refuse(field, "is required");
        }
        value
    }

    pub(super) fn time(&mut self, field: &str, time: PbTimestamp) -> Option<Timestamp> {
        let micros = (0..=LAST_SECOND)
            .contains(&time.seconds)
            .then(|| time.seconds * 1_000_000 + i64::from(time.nanos / 1_000))
            .filter(|_| (0..1_000_000_000).contains(&time.nanos));
        if micros.is_none() {
            self.refuse(field, "is not a time between 1970 and 9999");
        }
        micros.map(Timestamp::from_micros)
    }

    pub(super) fn reference(&mut self, field: &str, text: &str) -> Option<Reference> {
        if text.is_empty() {
            return None;
        }
        Reference::parse(text).map_err(|e| self.refuse(field, &e.to_string())).ok()
    }

    /// A time that must be there.
    pub(super) fn required_time(&mut self, field: &str, given: Option<PbTimestamp>) -> Option<Timestamp> {
        self.require(field, given).and_then(|given| self.time(field, given))
    }

    /// A time that must be there and may lie five minutes ahead at most.
    pub(super) fn past_time(
        &mut self,
        field: &str,
        given: Option<PbTimestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let time = self.required_time(field, given)?;
        if time > now.plus_micros(CONSENT_AHEAD_MICROS) {
            self.refuse(field, "lies more than five minutes ahead");
            return None;
        }
        Some(time)
    }

    /// A code of an enum, where it is one of those that mean something.
    pub(super) fn code<T>(&mut self, field: &str, code: Option<T>) -> Option<T> {
        if code.is_none() {
            self.refuse(field, "is required, as one of its codes");
        }
        code
    }

    /// Refuses the name of a platform where a call is about the caller's own alone.
    pub(super) fn own_platform(&mut self, platform: &str) {
        if !platform.is_empty() {
            self.refuse("platform", "is left out: this call is about the caller's own platform");
        }
    }

    /// A channel with its sender, where one is given.
    pub(super) fn outreach(&mut self, given: Option<&pb::Outreach>) -> Option<Outreach> {
        let given = given?;
        let channel = self.code("outreach.channel", channel(given.channel()));
        let sender = if given.sender.is_empty() { SenderName::OPERATOR } else { &given.sender };
        let sender = self.parse("outreach.sender", sender);
        channel.zip(sender).map(|(channel, sender)| Outreach { channel, sender })
    }

    /// A reference that must be there.
    pub(super) fn required_reference(&mut self, field: &str, text: &str) -> Option<Reference> {
        Reference::parse(text).map_err(|e| self.refuse(field, &e.to_string())).ok()
    }

    pub(super) fn view(&mut self, field: &str, number: i32) -> Option<View> {
        match pb::View::try_from(number) {
            Ok(pb::View::Full) => Some(View::Full),
            Ok(pb::View::Masked) => Some(View::Masked),
            Ok(pb::View::AgeAtLeast) => Some(View::AgeAtLeast),
            Ok(pb::View::BirthDate) => Some(View::BirthDate),
            Ok(pb::View::BirthYear) => Some(View::BirthYear),
            Ok(pb::View::Sex) => Some(View::Sex),
            Ok(pb::View::Unspecified) | Err(_) => {
                self.refuse(field, "must be one of the views, such as VIEW_FULL");
                None
            }
        }
    }

    /// Years are asked with their view, and with no other.
    pub(super) fn age_years(&mut self, view: Option<View>, years: u32) -> Option<u16> {
        let asked = view == Some(View::AgeAtLeast);
        if asked != (1..=150).contains(&years) || (!asked && years != 0) {
            self.refuse("age_years", "is 1 to 150 for VIEW_AGE_AT_LEAST, and 0 for every other view");
            return None;
        }
        u16::try_from(years).ok()
    }

    /// A text that may be missing.
    pub(super) fn parse_optional<T: std::str::FromStr>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    pub(super) fn source(&mut self, field: &str, number: i32) -> Option<ValueSource> {
        match pb::ValueSource::try_from(number) {
            Ok(pb::ValueSource::Unspecified | pb::ValueSource::Subject) => Some(ValueSource::Subject),
            Ok(pb::ValueSource::Partner) => Some(ValueSource::Partner),
            Ok(pb::ValueSource::StateDatabase) => Some(ValueSource::StateDatabase),
            Ok(pb::ValueSource::Public) => Some(ValueSource::Public),
            Err(_) => {
                self.refuse(field, "is no source of values");
                None
            }
        }
    }

    fn subject_kind(&mut self, number: i32) -> Option<SubjectKind> {
        match pb::SubjectKind::try_from(number) {
            Ok(pb::SubjectKind::Unspecified) => None,
            Ok(pb::SubjectKind::Natural) => Some(SubjectKind::Natural),
            Ok(pb::SubjectKind::Legal) => Some(SubjectKind::Legal),
            Ok(pb::SubjectKind::Represented) => Some(SubjectKind::Represented),
            Err(_) => {
                self.refuse("subject_kind", "is no kind of subject");
                None
            }
        }
    }

    /// The mode of a token with the end that it needs.
    fn token_mode(
        &mut self,
        field: &str,
        number: i32,
        end: Option<PbTimestamp>,
        now: Timestamp,
    ) -> Option<(TokenMode, Option<Timestamp>)> {
        let mode = match pb::TokenMode::try_from(number) {
            Ok(pb::TokenMode::Unspecified | pb::TokenMode::Random) => TokenMode::Random,
            Ok(pb::TokenMode::Deterministic) => TokenMode::Deterministic,
            Ok(pb::TokenMode::OneTime) => TokenMode::OneTime,
            Ok(pb::TokenMode::Expiring) => TokenMode::Expiring,
            Ok(pb::TokenMode::Digits) => TokenMode::Digits,
            Err(_) => {
                self.refuse(&format!("{field}.token_mode"), "is no mode of tokens");
                return None;
            }
        };
        let name = format!("{field}.token_expire_time");
        let end = match end {
            Some(end) => Some(self.time(&name, end)?),
            None => None,
        };
        if (mode == TokenMode::Expiring) != end.is_some() {
            self.refuse(&name, "goes with TOKEN_MODE_EXPIRING, and with no other mode");
            return None;
        }
        // Whether it lies in the past is asked of what is new: a retry is answered as before.
        if end.is_some_and(|end| end > now.plus_micros(TOKEN_AHEAD_MICROS)) {
            self.refuse(&name, "lies ahead by at most 366 days");
            return None;
        }
        Some((mode, end))
    }

    pub(super) fn subject_reference(&mut self, text: &str) {
        if text.is_empty() || text.len() > MAX_REFERENCE_BYTES {
            self.refuse("subject_reference", "must have 1 to 256 bytes");
        }
    }

    /// The value, where nothing was refused.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, VaultError> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            Some(_) | None => Err(VaultError::Invalid(self.violations)),
        }
    }
}

/// One subject's values, from Tokenize or from an item of its batch.
pub(super) fn new_values(
    prefix: &str,
    subject_reference: String,
    subject_kind: i32,
    fields: Vec<pb::FieldValue>,
    consents: Vec<pb::ConsentGrant>,
    now: Timestamp,
) -> Result<NewValues, VaultError> {
    let mut check = Checker::new(prefix);
    let subject_kind = check.subject_kind(subject_kind);
    check.subject_reference(&subject_reference);
    if fields.is_empty() && consents.is_empty() {
        check.refuse("fields", "a call stores at least one value or consent");
    }
    // Too long a list is not walked: what it costs to say what is wrong must not grow with the request.
    if fields.len() > MAX_FIELDS {
        return Err(VaultError::invalid(format!("{prefix}fields"), "at most 64"));
    }
    if consents.len() > MAX_CONSENTS {
        return Err(VaultError::invalid(format!("{prefix}consents"), "at most 32"));
    }
    let mut values = Vec::new();
    for (i, field) in fields.into_iter().enumerate() {
        let value = Plaintext::new(field.value);
        let place = format!("fields[{i}]");
        let source = check.source(&format!("{place}.source"), field.source);
        let source_reference = check.reference(&format!("{place}.source_reference"), &field.source_reference);
        let mode = check.token_mode(&place, field.token_mode, field.token_expire_time, now);
        let name = check.parse::<FieldName>(&format!("{place}.field"), &field.field);
        if let (Some(field), Some(source), Some((mode, expires_at))) = (name, source, mode) {
            values.push(NewValue { field, value, mode, expires_at, source, source_reference });
        }
    }
    let mut grants = Vec::new();
    for (i, grant) in consents.into_iter().enumerate() {
        match new_consent(&format!("{prefix}consents[{i}]."), grant, now) {
            Ok(grant) => grants.push(grant),
            Err(VaultError::Invalid(more)) => check.violations.extend(more),
            Err(other) => return Err(other),
        }
    }
    check.finish(Some(NewValues {
        subject_reference,
        subject_kind,
        fields: values,
        consents: grants,
        keep_held_consents: false,
    }))
}

/// A consent as the subject gave it.
pub(super) fn new_consent(
    prefix: &str,
    grant: pb::ConsentGrant,
    now: Timestamp,
) -> Result<NewConsent, VaultError> {
    let mut check = Checker::new(prefix);
    let purpose = check.parse("purpose", &grant.purpose);
    if grant.fields.len() > MAX_FIELDS {
        return Err(VaultError::invalid(format!("{prefix}fields"), "at most 64"));
    }
    let fields: Vec<FieldName> = grant
        .fields
        .iter()
        .enumerate()
        .filter_map(|(i, name)| check.parse(&format!("fields[{i}]"), name))
        .collect();
    let act = match pb::ConsentAct::try_from(grant.act) {
        Ok(pb::ConsentAct::Tick) => Some(ConsentAct::Tick),
        Ok(pb::ConsentAct::Written) => Some(ConsentAct::Written),
        Ok(pb::ConsentAct::ElectronicSignature) => Some(ConsentAct::ElectronicSignature),
        Ok(pb::ConsentAct::OneTimeCode) => Some(ConsentAct::OneTimeCode),
        Ok(pb::ConsentAct::Unspecified) | Err(_) => {
            check.refuse("act", "is required: use, cookies or supplying data are no consent (rule R4)");
            None
        }
    };
    let given_at = check.require("give_time", grant.give_time).and_then(|t| check.time("give_time", t));
    if given_at.is_some_and(|t| t > now.plus_micros(CONSENT_AHEAD_MICROS)) {
        check.refuse("give_time", "lies more than five minutes ahead");
    }
    let expires_at = grant.expire_time.and_then(|t| check.time("expire_time", t));
    let third_party_transfer = check.require("third_party_transfer", grant.third_party_transfer);
    let cross_border_transfer = check.require("cross_border_transfer", grant.cross_border_transfer);
    let publication = check.require("publication", grant.publication);
    let language = check.parse("language", &grant.language);
    let site = check.parse("site", &grant.site);
    let outreach = check.outreach(grant.outreach.as_ref());
    let text_sha256 = <[u8; 32]>::try_from(grant.text_sha256.as_slice()).ok();
    if text_sha256.is_none() {
        check.refuse("text_sha256", "must have 32 bytes");
    }
    let subject_name = Plaintext::new(grant.subject_name);
    let terms = (|| {
        Some(ConsentTerms {
            purpose: purpose?,
            fields,
            outreach,
            act: act?,
            given_at: given_at?,
            expires_at,
            third_party_transfer: third_party_transfer?,
            cross_border_transfer: cross_border_transfer?,
            publication: publication?,
            policy_version: grant.policy_version,
            language: language?,
            text_sha256: text_sha256?,
            site: site?,
        })
    })();
    let terms = check.finish(terms)?;
    Ok(NewConsent { terms, subject_name })
}

/// A consent for an answer.
pub(super) fn consent(consent: &Consent) -> pb::Consent {
    let state = match consent.state {
        ConsentState::Granted => pb::ConsentState::Granted,
        ConsentState::Withdrawn => pb::ConsentState::Withdrawn,
    };
    pb::Consent {
        consent_id: consent.id.to_string(),
        purpose: consent.terms.purpose.to_string(),
        fields: consent.terms.fields.iter().map(ToString::to_string).collect(),
        state: state.into(),
        give_time: Some(time(consent.terms.given_at)),
        expire_time: consent.terms.expires_at.map(time),
        withdraw_time: consent.withdrawn_at.map(time),
        policy_version: consent.terms.policy_version,
        outreach: consent.terms.outreach.as_ref().map(|outreach| pb::Outreach {
            channel: channel_pb(outreach.channel).into(),
            sender: outreach.sender.to_string(),
        }),
    }
}

const fn channel(channel: pb::Channel) -> Option<Channel> {
    match channel {
        pb::Channel::Unspecified => None,
        pb::Channel::Sms => Some(Channel::Sms),
        pb::Channel::Call => Some(Channel::Call),
        pb::Channel::Messenger => Some(Channel::Messenger),
        pb::Channel::Email => Some(Channel::Email),
        pb::Channel::Push => Some(Channel::Push),
        pb::Channel::Post => Some(Channel::Post),
        pb::Channel::Display => Some(Channel::Display),
    }
}

const fn channel_pb(channel: Channel) -> pb::Channel {
    match channel {
        Channel::Sms => pb::Channel::Sms,
        Channel::Call => pb::Channel::Call,
        Channel::Messenger => pb::Channel::Messenger,
        Channel::Email => pb::Channel::Email,
        Channel::Push => pb::Channel::Push,
        Channel::Post => pb::Channel::Post,
        Channel::Display => pb::Channel::Display,
    }
}

/// A time for an answer.
pub(super) fn time(time: Timestamp) -> PbTimestamp {
    let micros = time.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    PbTimestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A view for an answer.
pub(super) const fn view(view: View) -> pb::View {
    match view {
        View::Full => pb::View::Full,
        View::Masked => pb::View::Masked,
        // The contract has no number for them yet, and nobody can ask for them.
        View::AgeAtLeast | View::BirthDate | View::BirthYear | View::Sex => pb::View::Unspecified,
    }
}

/// A source for an answer.
pub(super) const fn source(source: ValueSource) -> pb::ValueSource {
    match source {
        ValueSource::Subject => pb::ValueSource::Subject,
        ValueSource::Partner => pb::ValueSource::Partner,
        ValueSource::StateDatabase => pb::ValueSource::StateDatabase,
        ValueSource::Public => pb::ValueSource::Public,
    }
}

/// Items on a page: 0 asks for as many as there may be.
pub(super) fn page_size(asked: i32, most: usize) -> Result<usize, VaultError> {
    match usize::try_from(asked) {
        Ok(0) => Ok(most),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(VaultError::invalid("page_size", "must not be negative")),
    }
}

/// Where a page begins.
pub(super) fn page_token(token: &str) -> Result<u64, VaultError> {
    if token.is_empty() {
        return Ok(0);
    }
    token.parse().map_err(|_| VaultError::invalid("page_token", "not a page of this list"))
}

/// The view of a code in the log; questions that release no value have codes of their own.
pub(super) fn view_code(code: &str) -> pb::View {
    let views = [View::Full, View::Masked, View::AgeAtLeast, View::BirthDate, View::BirthYear, View::Sex];
    views.into_iter().find(|v| v.as_str() == code).map_or(pb::View::Unspecified, view)
}
