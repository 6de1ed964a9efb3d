//! Rules that no single line of a policy file can show: what the law forbids, and what the policy's own bans name.

use std::collections::BTreeSet;

use super::{
    Standing,
    load::{Parts, ReadBan, ReadField},
    parts::{BanKind, BasisKind, Category, Field, Manner, Mark, RecipientRule},
    problem::Findings,
    purpose::ReadPurpose,
    table::At,
    terms::Start,
};
use crate::domain::{
    field::FieldType,
    names::{EventName, FieldName},
    outreach::Channel,
    recipient::RecipientKind,
};

pub(super) fn check(findings: &Findings, parts: &Parts, standing: Standing) {
    names(findings, parts);
    completed_by(findings, parts);
    idle_fields(findings, parts);
    caps(findings, parts);
    derived_fields(findings, parts);
    images(findings, parts);
    for purpose in &parts.purposes {
        let rules = OfPurpose { findings, parts, read: purpose };
        rules.fields();
        rules.basis();
        rules.own_acts();
        rules.outreach(standing);
        rules.views();
        rules.retention();
        for (i, rule) in purpose.recipients.iter().enumerate() {
            rules.recipient(i, rule);
        }
    }
    for ban in &parts.bans {
        banned_fields(findings, parts, ban);
        for purpose in &parts.purposes {
            banned_purpose(findings, parts, ban, purpose);
        }
    }
}

/// Nothing is declared twice.
fn names(findings: &Findings, parts: &Parts) {
    let mut seen = BTreeSet::new();
    let mut once = |kind: &'static str, name: &str, line: usize| {
        if !seen.insert((kind, name.to_owned())) {
            findings.add(line, &format!("{kind} {name}"), "declared twice");
        }
    };
    parts.fields.iter().for_each(|field| once("field", field.name.value.as_str(), field.name.line));
    parts.purposes.iter().for_each(|purpose| once("purpose", purpose.name.value.as_str(), purpose.name.line));
    parts.events.iter().for_each(|(name, _)| once("event", name.value.as_str(), name.line));
    parts.bans.iter().for_each(|ban| once("ban", ban.ban.what.as_str(), ban.line));
}

fn completed_by(findings: &Findings, parts: &Parts) {
    if let Some(completed) = &parts.consent.completed_by
        && !is_event(parts, &completed.event)
    {
        let rule = format!("completed_by: event {} is not declared", completed.event);
        findings.add(parts.completed_line, "consent", rule);
    }
}

fn is_event(parts: &Parts, name: &EventName) -> bool {
    parts.events.iter().any(|(event, _)| event.value == *name)
}

fn caps(findings: &Findings, parts: &Parts) {
    for (i, cap) in parts.caps.iter().enumerate() {
        let place = format!("cap {}", i + 1);
        match &cap.value.from {
            Start::Event(event) if !is_event(parts, event) => {
                findings.add(cap.line, &place, format!("event {event} is not declared"));
            }
            Start::Withdrawal => {
                findings.add(
                    cap.line,
                    &place,
                    "a withdrawal ends purposes that stand on a consent, not every purpose",
                );
            }
            Start::Event(_) | Start::Collection | Start::Consent => {}
        }
    }
}

/// What is derived is of the strictest kind that its sources are (rule R52).
fn derived_fields(findings: &Findings, parts: &Parts) {
    for read in &parts.fields {
        for from in &read.derived_from {
            let problem = |rule: String| findings.add(from.line, &read.place, rule);
            match (find(parts, &from.value), &read.field) {
                (None, _) => problem(format!("derived_from: field {} is not declared", from.value)),
                (Some(source), _) if !source.derived_from.is_empty() => {
                    problem(format!(
                        "derived_from: {} is derived itself: name what it comes from",
                        from.value
                    ));
                }
                (Some(ReadField { field: Some(source), .. }), Some(field))
                    if looser(field.category, source.category) =>
                {
                    problem(format!(
                        "derived_from: {} is of the category {}, and what is derived from it is no looser (rule R52)",
                        from.value,
                        source.category.as_str()
                    ));
                }
                (Some(_), _) => {}
            }
        }
    }
}

/// Whether a category guards less than the other.
const fn looser(category: Category, source: Category) -> bool {
    const fn rank(category: Category) -> u8 {
        match category {
            Category::Public => 0,
            Category::Ordinary => 1,
            Category::Telemetry => 2,
            Category::Correspondence => 3,
            Category::Special | Category::Biometric | Category::Genetic => 4,
        }
    }
    rank(category) < rank(source)
}

fn idle_fields(findings: &Findings, parts: &Parts) {
    let used: BTreeSet<_> = parts.purposes.iter().flat_map(|p| &p.fields).map(|field| &field.value).collect();
    for field in parts.fields.iter().filter(|field| !used.contains(&field.name.value)) {
        findings.add(
            field.name.line,
            &field.place,
            "no purpose uses it; data without a purpose may not be collected (Law 94-V, Articles 7(8), 7(9))",
        );
    }
}

/// A face is biometric, whatever its field is said to be; an image is never looked up, so none claims to be unique.
fn images(findings: &Findings, parts: &Parts) {
    for read in &parts.fields {
        let Some(field) = read.field.as_ref().filter(|field| field.field_type.is_image()) else { continue };
        if field.field_type == FieldType::FaceImage && field.category != Category::Biometric {
            findings.add(
                read.kind_line,
                &read.place,
                "an image of a face has the category biometric (rule R23)",
            );
        }
        if field.unique {
            findings.add(read.name.line, &read.place, "unique: images are not compared");
        }
    }
}

struct OfPurpose<'a> {
    findings: &'a Findings,
    parts: &'a Parts,
    read: &'a ReadPurpose,
}

impl OfPurpose<'_> {
    fn problem(&self, line: usize, rule: impl Into<String>) {
        self.findings.add(line, &self.read.place, rule);
    }

    fn fields(&self) {
        for field in &self.read.fields {
            if find(self.parts, &field.value).is_none() {
                self.problem(field.line, format!("field {} is not declared", field.value));
            }
        }
    }

    /// Without consent there is no act that could be separate or written, and only authorities receive.
    fn basis(&self) {
        let purpose = &self.read.purpose;
        if purpose.basis.kind == BasisKind::Consent {
            return;
        }
        let stands_on_law = [Mark::LegalReference, Mark::Claims, Mark::HighRisk];
        let needs_consent = |mark: &&At<Mark>| !stands_on_law.contains(&mark.value);
        for mark in self.read.marks.iter().filter(needs_consent) {
            let rule = "needs the basis consent (Law 94-V, Articles 7(6), 8, 15)";
            self.problem(mark.line, format!("{} {rule}", mark.value.as_str()));
        }
        for rule in self.read.recipients.iter().filter(|rule| !rule.value.kind.is_authority()) {
            self.problem(
                rule.line,
                "without consent only state bodies and courts receive (Law 94-V, Article 9)",
            );
        }
        if purpose.basis.declared.is_some() {
            self.problem(self.read.basis_line, "declared stands only beside the basis consent");
        }
    }

    /// Consents that must be acts of their own, and written ones that the policy must take at all.
    fn own_acts(&self) {
        let purpose = &self.read.purpose;
        let consented = purpose.basis.kind == BasisKind::Consent && purpose.inert.is_none();
        let acts = &self.parts.consent.acts;
        for mark in &self.read.marks {
            let rule = match mark.value {
                Mark::Advertising | Mark::Publication if consented && !purpose.is(Mark::Separate) => {
                    "needs a consent of its own: separate = true (rule R5; Law 94-V, Article 7(6))"
                }
                Mark::Written if !acts.iter().any(|act| purpose.accepts_act(*act)) => {
                    "consent.acts takes neither `written` nor `electronic_signature`"
                }
                Mark::Claims if purpose.basis.kind == BasisKind::Consent => {
                    "years after the end stand on a law, never on the consent that ended (rule R9)"
                }
                Mark::HighRisk if purpose.dpia.is_none() => {
                    "dpia = the number of the assessment of its impact is missing (rule R48)"
                }
                Mark::HighRisk if self.parts.responsible.is_none() => {
                    "the policy says nowhere who answers for it: [responsible] (rule R48; Law 94-V, Article 25(2))"
                }
                Mark::Separate
                | Mark::HighRisk
                | Mark::Automated
                | Mark::Claims
                | Mark::Written
                | Mark::LegalReference
                | Mark::Advertising
                | Mark::Publication => continue,
            };
            self.problem(mark.line, format!("{}: {rule}", mark.value.as_str()));
        }
    }

    /// A consent by which people are reached is for a channel and a sender (rule R5), and a channel for what serves it.
    fn outreach(&self, standing: Standing) {
        let purpose = &self.read.purpose;
        if purpose.inert.is_some() {
            return;
        }
        let advertising = self.read.marks.iter().find(|mark| mark.value == Mark::Advertising);
        let Some(first) = self.read.channels.first() else {
            if let Some(mark) = advertising.filter(|_| standing == Standing::New) {
                let rule =
                    "advertising: channels = [{ name, given, clause }] must say by which channels (rule R5)";
                self.problem(mark.line, rule);
            }
            if let Some(line) = self.read.senders_line {
                self.problem(line, "senders stand only beside channels");
            }
            return;
        };
        if !purpose.is(Mark::Separate) {
            self.problem(
                first.line,
                "channels need a consent of their own: separate = true (rule R5; Law 94-V, Article 7(6))",
            );
        }
        if let Some((name, _)) =
            declared(self.parts, self.read).find(|(_, field)| field.field_type.is_image())
        {
            self.problem(first.line, format!("channels: field {name} is an image, which is sent to nobody"));
        }
        let contacts: Vec<FieldType> = declared(self.parts, self.read)
            .map(|(_, field)| field.field_type)
            .filter(|field_type| matches!(field_type, FieldType::Phone | FieldType::Email))
            .collect();
        for channel in &self.read.channels {
            let by_contact =
                matches!(channel.value, Channel::Sms | Channel::Call | Channel::Messenger | Channel::Email);
            if by_contact && !contacts.iter().any(|field_type| channel.value.takes(*field_type)) {
                let rule =
                    format!("channel {}: the purpose has no field that it needs", channel.value.as_str());
                self.problem(channel.line, rule);
            }
        }
        for contact in contacts {
            if !self.read.channels.iter().any(|channel| channel.value.takes(contact)) {
                let rule = format!("channels: none of them takes a field of the type {}", contact.as_str());
                self.problem(first.line, rule);
            }
        }
    }

    /// Every purpose that is read by ends (rule R8), by events that the policy declares.
    fn retention(&self) {
        let (read, purpose) = (&self.read.retention, &self.read.purpose);
        let capped = !self.parts.caps.is_empty() && !purpose.is(Mark::Claims);
        if purpose.inert.is_none() && purpose.retention.ends().is_empty() && !capped {
            self.problem(
                read.line,
                "retention: no term ends the purpose: ends = [{ after, clause }], or a [[cap]] (rule R8)",
            );
        }
        for event in read.events.iter().filter(|event| !is_event(self.parts, &event.value)) {
            self.problem(event.line, format!("retention: event {} is not declared", event.value));
        }
        let by_consent = purpose.basis.kind == BasisKind::Consent;
        if purpose.retention.refusal.is_some() && !purpose.is(Mark::Claims) {
            self.problem(
                read.line,
                "retention: a refused withdrawal leaves claims alone: claims = true (rule R9)",
            );
        }
        if !by_consent && !purpose.is(Mark::Claims) {
            for line in &read.withdrawals {
                self.problem(
                    *line,
                    "retention: a purpose on the basis of a law does not end by a withdrawal",
                );
            }
        }
    }

    fn views(&self) {
        let types: Vec<FieldType> = declared(self.parts, self.read).map(|(_, f)| f.field_type).collect();
        for view in self.read.views.iter().filter(|view| view.value.is_derived()) {
            if !types.iter().any(|field_type| view.value.fits(*field_type)) {
                let rule = format!("view {}: no field of the purpose can answer it", view.value.as_str());
                self.problem(view.line, rule);
            }
        }
    }

    fn recipient(&self, at: usize, rule: &At<RecipientRule>) {
        let kind = rule.value.kind;
        if self.read.recipients.iter().take(at).any(|before| before.value.kind == kind) {
            self.problem(rule.line, format!("recipient {} is named twice", kind.as_str()));
        }
        if kind == RecipientKind::Public && !self.read.purpose.is(Mark::Publication) {
            self.problem(rule.line, "the recipient `public` needs publication = true");
        }
        for named in rule.value.fields.iter().flatten() {
            if !self.read.purpose.covers(named) {
                self.problem(
                    rule.line,
                    format!("recipient {}: the purpose has no field {named}", kind.as_str()),
                );
            }
        }
        for (name, _) in declared(self.parts, self.read)
            .filter(|(name, field)| field.category == Category::Correspondence && rule.value.covers(name))
        {
            self.problem(
                rule.line,
                format!(
                    "recipient {}: field {name} is correspondence, which has no recipients (rule R31); give the \
                     recipient a list of fields without it",
                    kind.as_str()
                ),
            );
        }
    }
}

fn find<'a>(parts: &'a Parts, name: &FieldName) -> Option<&'a ReadField> {
    parts.fields.iter().find(|field| field.name.value == *name)
}

/// The fields of a purpose that are declared and whose types are known.
fn declared<'a>(
    parts: &'a Parts,
    purpose: &'a ReadPurpose,
) -> impl Iterator<Item = (&'a FieldName, &'a Field)> {
    purpose.fields.iter().filter_map(|name| {
        let field = find(parts, &name.value)?.field.as_ref()?;
        Some((&name.value, field))
    })
}

fn banned_fields(findings: &Findings, parts: &Parts, ban: &ReadBan) {
    let barred: &[Category] = match ban.ban.what {
        BanKind::Biometric => &[Category::Biometric],
        BanKind::Genetic => &[Category::Genetic],
        BanKind::Special => &[Category::Special, Category::Biometric, Category::Genetic],
        BanKind::CardData
        | BanKind::Publication
        | BanKind::Sale
        | BanKind::Exchange
        | BanKind::AdvertisingTransfer
        | BanKind::PartnerTransfer
        | BanKind::ThirdPartyTransfer
        | BanKind::OnwardTransfer
        | BanKind::IpIdentity => &[],
    };
    for read in &parts.fields {
        if read.field.as_ref().is_some_and(|field| barred.contains(&field.category)) {
            findings.add(read.kind_line, &read.place, barred_by(ban));
        }
    }
}

fn banned_purpose(findings: &Findings, parts: &Parts, ban: &ReadBan, read: &ReadPurpose) {
    if ban.ban.what == BanKind::Publication {
        for mark in read.marks.iter().filter(|mark| mark.value == Mark::Publication) {
            findings.add(mark.line, &read.place, barred_by(ban));
        }
    }
    for rule in read.recipients.iter().filter(|rule| bars_recipient(ban.ban.what, read, &rule.value)) {
        let place = format!("{}, recipient {}", read.place, rule.value.kind.as_str());
        findings.add(rule.line, &place, barred_by(ban));
    }
    if ban.ban.what == BanKind::IpIdentity {
        let names_a_person = declared(parts, read).any(|(_, field)| names_person(field.field_type));
        let told_apart = |field: &&At<FieldName>| is_address_or_referrer(parts, &field.value);
        for field in read.fields.iter().filter(|_| names_a_person).filter(told_apart) {
            findings.add(field.line, &read.place, barred_by(ban));
        }
    }
}

fn bars_recipient(what: BanKind, read: &ReadPurpose, rule: &RecipientRule) -> bool {
    match what {
        BanKind::Publication => rule.kind == RecipientKind::Public,
        BanKind::Sale => rule.manner == Manner::Sale,
        BanKind::Exchange => rule.manner == Manner::Exchange,
        BanKind::OnwardTransfer => rule.manner == Manner::Onward,
        BanKind::AdvertisingTransfer => read.purpose.is(Mark::Advertising),
        BanKind::PartnerTransfer => matches!(rule.kind, RecipientKind::Partner | RecipientKind::Affiliate),
        BanKind::ThirdPartyTransfer => !rule.kind.is_authority(),
        BanKind::Biometric
        | BanKind::Genetic
        | BanKind::Special
        | BanKind::CardData
        | BanKind::IpIdentity => false,
    }
}

/// Types that say by themselves who somebody is.
const fn names_person(field_type: FieldType) -> bool {
    match field_type {
        FieldType::Iin
        | FieldType::PersonName
        | FieldType::Phone
        | FieldType::Email
        | FieldType::DocumentNumber
        | FieldType::DocumentImage
        | FieldType::FaceImage => true,
        FieldType::Bin | FieldType::Date | FieldType::Ip | FieldType::Text => false,
    }
}

/// A referrer has no type of its own: its name tells it.
fn is_address_or_referrer(parts: &Parts, name: &FieldName) -> bool {
    let address = |field: &Field| field.field_type == FieldType::Ip;
    find(parts, name).and_then(|read| read.field.as_ref()).is_some_and(address)
        || name.as_str().contains("referrer")
}

fn barred_by(ban: &ReadBan) -> String {
    format!(
        "the policy bars it: ban {}, clause {} (line {})",
        ban.ban.what.as_str(),
        ban.ban.clause,
        ban.line
    )
}
