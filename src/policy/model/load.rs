//! From the text of a policy file to its parts. A part that is refused is noted and stood in for, so that one mistake
//! does not hide the next: nothing of a file with a problem is ever used.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{civil::Date, tz::Offset};
use toml::de::DeTable;

use super::{
    MAX_POLICY_BYTES, Policy, Standing,
    cards::is_card_or_password,
    parts::{
        Acceptance, AcceptanceKind, Agreement, Ban, BanKind, Category, CompletedBy, ConsentRules, Event,
        Field, ImageLimits, InForce, Operator, PromisedTerm, Represented, Responsible, SubjectRules,
    },
    problem::{Findings, Problem},
    purpose::{self, ReadPurpose},
    rules,
    table::{At, Table},
    terms::{self, Expiry, Start, Term},
};
use crate::domain::{
    consent::{ConsentAct, Language},
    document::MAX_DOCUMENT_BYTES,
    event::RESERVED,
    field::FieldType,
    iin,
    names::{CallerName, EventName, FieldName, PlatformName, PurposeName, SiteName},
    rights::RightKind,
    subject::{SubjectKind, ValueSource},
    time::Timestamp,
};

/// Kazakhstan's time: UTC+5 everywhere since 1 March 2024; dates before it are counted so too.
pub(in crate::policy) const KAZAKHSTAN: Offset = Offset::constant(5);
const MICROS_A_DAY: i64 = 86_400_000_000;
/// What is withdrawn is destroyed within 15 working days (Law 94-V, Article 8(7)), which are never fewer than 19 days.
const MAX_WITHDRAWAL_DAYS: u32 = 14;

/// A declared field with the lines that rules need.
pub(super) struct ReadField {
    pub(super) name: At<FieldName>,
    pub(super) place: String,
    /// The line that makes it what it is: its category, or its type.
    pub(super) kind_line: usize,
    /// The fields that it is computed from.
    pub(super) derived_from: Vec<At<FieldName>>,
    /// `None` where its type was refused.
    pub(super) field: Option<Field>,
}

/// A declared ban with its line.
pub(super) struct ReadBan {
    pub(super) line: usize,
    pub(super) ban: Ban,
}

/// Everything that rules look at.
pub(super) struct Parts {
    pub(super) responsible: Option<Responsible>,
    pub(super) subject: SubjectRules,
    pub(super) consent: ConsentRules,
    pub(super) completed_line: usize,
    pub(super) bans: Vec<ReadBan>,
    pub(super) caps: Vec<At<Term>>,
    pub(super) expiry: Option<Expiry>,
    pub(super) events: Vec<(At<EventName>, Event)>,
    pub(super) rights: BTreeMap<RightKind, PromisedTerm>,
    pub(super) fields: Vec<ReadField>,
    pub(super) purposes: Vec<ReadPurpose>,
}

pub(super) fn policy(text: &str, standing: Standing) -> Result<Policy, Vec<Problem>> {
    let findings = Findings::new(text);
    if text.len() > MAX_POLICY_BYTES {
        findings.add(1, "file", "a policy has at most 1 MiB");
        findings.finish()?;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| findings.line(&span));
        findings.add(line, "file", format!("not TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        findings.finish()?;
    }
    let policy = file(&findings, Table::new(&findings, "file", &(0..0), root.into_inner()), standing);
    findings.finish()?;
    policy.ok_or_else(|| vec![Problem { line: 1, place: "file".to_owned(), rule: "refused".to_owned() }])
}

fn file(findings: &Findings, mut root: Table<'_, '_>, standing: Standing) -> Option<Policy> {
    if let Some(format) = root.number("format", 0..=u32::MAX).filter(|format| format.value != 1) {
        findings.add(format.line, "format", "this vault reads format 1");
    }
    let operator = root.table("platform").and_then(operator);
    let version = root.table("version").and_then(version);
    let agreement = root.optional_table("agreement").and_then(agreement);
    let responsible = root.optional_table("responsible").and_then(responsible);
    let subject = root.table("subject").map(subject);
    let consent = root.table("consent").map(consent);
    let bans = root.tables("ban", "ban").into_iter().filter_map(ban).collect();
    let caps = root.tables("cap", "cap").into_iter().filter_map(terms::term).collect();
    let expiry = root.optional_table("expiry").and_then(terms::expiry);
    let events = root.tables("event", "event").into_iter().filter_map(event).collect();
    let rights = rights(&mut root);
    let fields: Vec<_> = root.tables("field", "field").into_iter().filter_map(field).collect();
    let purposes: Vec<_> = root.tables("purpose", "purpose").into_iter().filter_map(purpose::read).collect();
    for (key, missing) in [("field", fields.is_empty()), ("purpose", purposes.is_empty())] {
        if missing {
            root.problem(1, format!("at least one [[{key}]] is needed"));
        }
    }
    root.finish();
    let (consent, completed_line) = consent?;
    let parts = Parts {
        responsible,
        subject: subject?,
        consent,
        completed_line,
        bans,
        caps,
        expiry,
        events,
        rights,
        fields,
        purposes,
    };
    rules::check(findings, &parts, standing);
    assemble(operator?, version?, agreement, parts)
}

fn assemble(
    operator: Operator,
    version: Version,
    agreement: Option<Agreement>,
    parts: Parts,
) -> Option<Policy> {
    let named = |read: ReadField| read.field.map(|field| (read.name.value, field));
    let fields: Option<BTreeMap<_, _>> = parts.fields.into_iter().map(named).collect();
    let purposes: BTreeMap<PurposeName, _> =
        parts.purposes.into_iter().map(|read| (read.name.value, read.purpose)).collect();
    Some(Policy {
        operator,
        version: version.number,
        acceptance: version.acceptance,
        agreement,
        responsible: parts.responsible,
        subject: parts.subject,
        consent: parts.consent,
        in_force: version.in_force,
        sites: version.sites,
        languages: version.languages,
        bans: parts.bans.into_iter().map(|read| read.ban).collect(),
        caps: parts.caps.into_iter().map(|cap| cap.value).collect(),
        expiry: parts.expiry,
        events: parts.events.into_iter().map(|(name, event)| (name.value, event)).collect(),
        rights: parts.rights,
        fields: fields?,
        purposes,
    })
}

fn operator(mut table: Table<'_, '_>) -> Option<Operator> {
    let name = table.parsed::<PlatformName>("name");
    let legal_name = table.text("legal_name");
    let bin = table.text("bin");
    if let Some(name) = name.as_ref().filter(|name| name.value.as_str() == "vault") {
        table.problem(name.line, "the name `vault` is the vault's own");
    }
    if let Some(bin) = bin.as_ref().filter(|bin| !iin::has_valid_check_digit(&bin.value)) {
        table.problem(bin.line, "bin is not 12 digits with a valid check digit");
    }
    table.finish();
    Some(Operator { name: name?.value, legal_name: legal_name?.value, bin: bin?.value })
}

struct Version {
    number: u32,
    in_force: InForce,
    acceptance: Acceptance,
    languages: Vec<Language>,
    sites: BTreeSet<SiteName>,
}

fn version(mut table: Table<'_, '_>) -> Option<Version> {
    let number = table.number("number", 1..=u32::MAX);
    let effective = date(&mut table, "effective");
    let acceptance = table.table("acceptance").and_then(acceptance);
    let languages = table.list("languages");
    let sites = table.list("sites");
    table.finish();
    let (acceptance, effective) = (acceptance?, midnight(effective?)?);
    let governs = effective.plus_micros(i64::from(acceptance.days).saturating_mul(MICROS_A_DAY));
    Some(Version {
        number: number?.value,
        in_force: InForce { effective, governs },
        acceptance,
        languages: values(languages),
        sites: set(sites),
    })
}

fn date(table: &mut Table<'_, '_>, key: &str) -> Option<Date> {
    let text = table.text(key)?;
    let date = text.value.parse::<Date>().ok();
    // The parser also takes other forms of ISO 8601; a policy has one.
    let date = date.filter(|date| date.to_string() == text.value);
    if date.is_none() {
        table.problem(text.line, format!("{key} must be a date, YYYY-MM-DD"));
    }
    date
}

/// 00:00 of a date in Kazakhstan.
fn midnight(date: Date) -> Option<Timestamp> {
    let zoned = date.to_zoned(KAZAKHSTAN.to_time_zone()).ok()?;
    Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

fn acceptance(mut table: Table<'_, '_>) -> Option<Acceptance> {
    let kind = table.parsed::<AcceptanceKind>("kind");
    let days = table.optional_number("days", 0..=366);
    let clause = table.text("clause");
    if let (Some(kind), Some(days)) = (&kind, &days)
        && kind.value != AcceptanceKind::Use
    {
        table.problem(days.line, "days count only where a version is accepted by use");
    }
    table.finish();
    Some(Acceptance { kind: kind?.value, days: days.map_or(0, |days| days.value), clause: clause?.value })
}

fn agreement(mut table: Table<'_, '_>) -> Option<Agreement> {
    let edition = date(&mut table, "edition");
    let withdrawal_address = table.text("withdrawal_address");
    let clause = table.text("clause");
    table.finish();
    Some(Agreement {
        edition: edition?.to_string(),
        withdrawal_address: withdrawal_address?.value,
        clause: clause?.value,
    })
}

fn responsible(mut table: Table<'_, '_>) -> Option<Responsible> {
    let office = table.text("office");
    let contact = table.text("contact");
    let clause = table.text("clause");
    table.finish();
    Some(Responsible { office: office?.value, contact: contact?.value, clause: clause?.value })
}

fn subject(mut table: Table<'_, '_>) -> SubjectRules {
    let kinds: Option<Vec<At<SubjectKind>>> = table.list("kinds");
    let min_age = table.number("min_age", 1..=99);
    let represented = table.optional_table("represented").and_then(represented);
    let managed_by: Option<Vec<At<CallerName>>> = table.list("managed_by");
    let clause = table.text("clause");
    if let Some(kinds) = &kinds {
        let acted_for = kinds.iter().find(|kind| kind.value == SubjectKind::Represented);
        match (acted_for, &represented) {
            (Some(kind), None) => table.problem(
                kind.line,
                "represented = { who, clause } must say for whom a representative may act (Law 94-V, Article 8(1))",
            ),
            (None, Some(_)) => {
                let line = kinds.first().map_or(table.line(), |kind| kind.line);
                table.problem(line, "kinds does not name `represented`, whom represented = { who, clause } is about");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    table.finish();
    SubjectRules {
        kinds: values(kinds),
        min_age: min_age.map_or(0, |age| age.value),
        represented,
        managed_by: set(managed_by),
        clause: text(clause),
    }
}

fn represented(mut table: Table<'_, '_>) -> Option<Represented> {
    let who = table.list("who");
    let clause = table.text("clause");
    table.finish();
    Some(Represented { who: values(who), clause: clause?.value })
}

fn consent(mut table: Table<'_, '_>) -> (ConsentRules, usize) {
    let acts: Option<Vec<At<ConsentAct>>> = table.list("acts");
    let recorded_by: Option<Vec<At<CallerName>>> = table.list("recorded_by");
    let completed = table.optional_table("completed_by");
    let withdrawal_days = table.optional_number("withdrawal_days", 0..=MAX_WITHDRAWAL_DAYS);
    let unclaimed_days = table.optional_number("unclaimed_days", 1..=3_650);
    let clause = table.text("clause");
    let completed_line = completed.as_ref().map_or(table.line(), Table::line);
    let completed_by = completed.and_then(|mut table| {
        let event = table.parsed::<EventName>("event");
        let clause = table.text("clause");
        table.finish();
        Some(CompletedBy { event: event?.value, clause: clause?.value })
    });
    table.finish();
    let rules = ConsentRules {
        acts: values(acts),
        recorded_by: set(recorded_by),
        completed_by,
        withdrawal_days: withdrawal_days.map_or(MAX_WITHDRAWAL_DAYS, |days| days.value),
        unclaimed_days: unclaimed_days.map(|days| days.value),
        clause: text(clause),
    };
    (rules, completed_line)
}

fn ban(mut table: Table<'_, '_>) -> Option<ReadBan> {
    let what = table.parsed::<BanKind>("what");
    let clause = table.text("clause");
    table.finish();
    let what = what?;
    Some(ReadBan { line: what.line, ban: Ban { what: what.value, clause: text(clause) } })
}

fn event(mut table: Table<'_, '_>) -> Option<(At<EventName>, Event)> {
    let name = table.parsed::<EventName>("name");
    let clause = table.text("clause");
    let recorded_by: Option<Vec<At<CallerName>>> = table.list("recorded_by");
    if let Some(name) = &name
        && !matches!(name.value.as_str().parse(), Ok(Start::Event(_)))
    {
        table.problem(
            name.line,
            format!("the name `{}` is one that terms count from without an event", name.value),
        );
    }
    if let Some(name) = name.as_ref().filter(|name| RESERVED.contains(&name.value.as_str())) {
        let rule = format!("the name `{}` is the law's own (Law 94-V, Articles 13, 19-1)", name.value);
        table.problem(name.line, rule);
    }
    table.finish();
    Some((name?, Event { clause: text(clause), recorded_by: set(recorded_by) }))
}

/// What the policy promises people who ask about their data: the working days of each kind of request.
fn rights(root: &mut Table<'_, '_>) -> BTreeMap<RightKind, PromisedTerm> {
    let mut rights = BTreeMap::new();
    for mut table in root.tables("right", "right") {
        let kind = table.parsed::<RightKind>("kind");
        let days = table.number("working_days", 1..=366);
        let clause = table.text("clause");
        if let Some(kind) = kind.as_ref().filter(|kind| rights.contains_key(&kind.value)) {
            table.problem(kind.line, format!("kind `{}` stands twice", kind.value.as_str()));
        }
        table.finish();
        if let (Some(kind), Some(days)) = (kind, days) {
            rights.insert(kind.value, PromisedTerm { working_days: days.value, clause: text(clause) });
        }
    }
    rights
}

fn field(mut table: Table<'_, '_>) -> Option<ReadField> {
    let written_name = table.text("name");
    let written_type = table.text("type");
    for written in [&written_name, &written_type].into_iter().flatten() {
        if is_card_or_password(&written.value) {
            table.problem(
                written.line,
                format!("`{}`: no field may hold a payment card or a password (rule R21)", written.value),
            );
        }
    }
    let name = written_name.and_then(|written| table.as_parsed::<FieldName>("name", &written));
    let field_type = written_type
        .filter(|written| !is_card_or_password(&written.value))
        .and_then(|written| table.as_parsed::<FieldType>("type", &written));
    let category = table.parsed::<Category>("category");
    let unique = table.flag("unique");
    let sources = table.optional_list::<ValueSource>("sources");
    let derived_from = table.optional_list::<FieldName>("derived_from").unwrap_or_default();
    let image = image_limits(&mut table, field_type.as_ref().map(|field_type| field_type.value));
    let collected_by: Option<Vec<At<CallerName>>> = table.list("collected_by");
    let clause = table.text("clause");
    let place = table.place().to_owned();
    let kind_line = category.as_ref().map_or(table.line(), |category| category.line);
    table.finish();
    let field = field_type.map(|field_type| Field {
        field_type: field_type.value,
        category: category.map_or(Category::Ordinary, |category| category.value),
        clause: text(clause),
        image,
        unique: unique.value,
        sources: sources.map_or_else(|| vec![ValueSource::Subject], |sources| values(Some(sources))),
        collected_by: set(collected_by),
        derived_from: derived_from.iter().map(|source| source.value.clone()).collect(),
    });
    Some(ReadField { name: name?, place, kind_line, derived_from, field })
}

fn image_limits(table: &mut Table<'_, '_>, field_type: Option<FieldType>) -> Option<ImageLimits> {
    let max_bytes = table.optional_number("max_bytes", 1..=MAX_DOCUMENT_BYTES);
    let max_versions = table.optional_number("max_versions", 1..=100);
    let is_image = field_type.is_some_and(FieldType::is_image);
    for (key, line) in [
        ("max_bytes", max_bytes.as_ref().map(|number| number.line)),
        ("max_versions", max_versions.as_ref().map(|number| number.line)),
    ] {
        if let Some(line) = line.filter(|_| field_type.is_some() && !is_image) {
            table.problem(line, format!("{key} stands only in a field of images"));
        }
    }
    is_image.then(|| ImageLimits {
        max_bytes: max_bytes.map_or(ImageLimits::DEFAULT.max_bytes, |number| number.value),
        max_versions: max_versions.map_or(ImageLimits::DEFAULT.max_versions, |number| number.value),
    })
}

pub(super) fn text(text: Option<At<String>>) -> String {
    text.map(|text| text.value).unwrap_or_default()
}

pub(super) fn values<T>(list: Option<Vec<At<T>>>) -> Vec<T> {
    list.unwrap_or_default().into_iter().map(|item| item.value).collect()
}

pub(super) fn set<T: Ord>(list: Option<Vec<At<T>>>) -> BTreeSet<T> {
    list.unwrap_or_default().into_iter().map(|item| item.value).collect()
}
