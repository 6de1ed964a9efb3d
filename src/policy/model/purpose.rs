//! Reads a `[[purpose]]`.

use std::collections::BTreeSet;

use super::{
    load::{set, text, values},
    parts::{
        Basis, BasisKind, ChannelRule, DeclaredBasis, Given, Manner, Mark, Purpose, PurposeField,
        RecipientRule, SenderRule, View,
    },
    table::{At, Table},
    terms::{self, ReadRetention},
};
use crate::domain::{
    code::UnknownCode,
    names::{CallerName, FieldName, PurposeName, SenderName},
    outreach::Channel,
    recipient::{CountryCode, RecipientKind},
};

/// A declared purpose with the lines that rules need.
pub(super) struct ReadPurpose {
    pub(super) name: At<PurposeName>,
    pub(super) place: String,
    pub(super) fields: Vec<At<FieldName>>,
    pub(super) recipients: Vec<At<RecipientRule>>,
    pub(super) channels: Vec<At<Channel>>,
    /// The line of the first sender that is named.
    pub(super) senders_line: Option<usize>,
    pub(super) views: Vec<At<View>>,
    /// The marks that are set.
    pub(super) marks: Vec<At<Mark>>,
    pub(super) basis_line: usize,
    pub(super) retention: ReadRetention,
    pub(super) purpose: Purpose,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<ReadPurpose> {
    let name = table.parsed("name");
    let clause = table.text("clause");
    let inert = table.optional_text("inert");
    let dpia = table.optional("dpia");
    let basis_table = table.table("basis");
    let basis_line = basis_table.as_ref().map_or(table.line(), Table::line);
    let basis = basis_table.map_or(UNREAD_BASIS, basis);
    let retention = table.table("retention").map(terms::read).unwrap_or_default();
    let flags = Mark::ALL.iter().map(|mark| (*mark, table.flag(mark.as_str())));
    let marks: Vec<At<Mark>> =
        flags.filter(|(_, flag)| flag.value).map(|(value, flag)| At { value, line: flag.line }).collect();
    let reading = if inert.is_some() { refuse_reading(&mut table) } else { reading(&mut table) };
    let place = table.place().to_owned();
    table.finish();
    Some(ReadPurpose {
        name: name?,
        place,
        basis_line,
        purpose: Purpose {
            clause: text(clause),
            basis,
            retention: retention.retention.clone(),
            inert: inert.map(|why| why.value),
            dpia: dpia.map(|dpia| dpia.value),
            callers: reading.callers,
            fields: reading.fields.iter().map(|(name, field)| (name.value.clone(), field.clone())).collect(),
            views: reading.views.iter().map(|view| view.value).collect(),
            recipients: reading.recipients.iter().map(|rule| rule.value.clone()).collect(),
            channels: reading.channels.iter().map(|rule| rule.value.clone()).collect(),
            senders: reading.senders.iter().map(|rule| rule.value.clone()).collect(),
            marks: marks.iter().map(|mark| mark.value).collect(),
        },
        retention,
        fields: reading.fields.into_iter().map(|(name, _)| name).collect(),
        recipients: reading.recipients,
        channels: reading.channels.iter().map(|at| At { value: at.value.channel, line: at.line }).collect(),
        senders_line: reading.senders.first().map(|at| at.line),
        views: reading.views,
        marks,
    })
}

/// Who reads what, and to whom it may go.
#[derive(Default)]
struct Reading {
    callers: BTreeSet<CallerName>,
    views: Vec<At<View>>,
    fields: Vec<(At<FieldName>, PurposeField)>,
    recipients: Vec<At<RecipientRule>>,
    channels: Vec<At<ChannelRule>>,
    senders: Vec<At<SenderRule>>,
}

fn reading(table: &mut Table<'_, '_>) -> Reading {
    let callers = table.list("callers");
    let views = table.list("views").unwrap_or_default();
    let mut fields: Vec<(At<FieldName>, PurposeField)> = Vec::new();
    let tables = table.required_tables("fields", "field");
    for (name, field) in tables.into_iter().filter_map(purpose_field) {
        if fields.iter().any(|(known, _)| known.value == name.value) {
            table.problem(name.line, format!("field {} is listed twice", name.value));
        } else {
            fields.push((name, field));
        }
    }
    let recipients = table.tables("recipients", "recipient").into_iter().filter_map(recipient).collect();
    let (channels, senders) = outreach(table);
    Reading { callers: set(callers), views, fields, recipients, channels, senders }
}

/// By which channels and in whose names people are reached; by the operator itself where channels stand alone.
fn outreach(table: &mut Table<'_, '_>) -> (Vec<At<ChannelRule>>, Vec<At<SenderRule>>) {
    let mut channels: Vec<At<ChannelRule>> = Vec::new();
    for rule in table.tables("channels", "channel").into_iter().filter_map(channel) {
        if channels.iter().any(|known| known.value.channel == rule.value.channel) {
            table.problem(rule.line, format!("channel {} is named twice", rule.value.channel.as_str()));
        }
        channels.push(rule);
    }
    let mut senders: Vec<At<SenderRule>> = Vec::new();
    for rule in table.tables("senders", "sender").into_iter().filter_map(sender) {
        if senders.iter().any(|known| known.value.name == rule.value.name) {
            table.problem(rule.line, format!("sender {} is named twice", rule.value.name));
        }
        senders.push(rule);
    }
    if let (true, Some(first), Ok(name)) =
        (senders.is_empty(), channels.first(), SenderName::OPERATOR.parse())
    {
        senders.push(At { value: SenderRule { name, clause: first.value.clause.clone() }, line: 0 });
    }
    (channels, senders)
}

fn channel(mut table: Table<'_, '_>) -> Option<At<ChannelRule>> {
    let name = table.parsed::<Channel>("name");
    let given = table.parsed::<Given>("given");
    let clause = table.text("clause");
    table.finish();
    let (name, given) = (name?, given.map_or(Given::Inferred, |given| given.value));
    Some(At { value: ChannelRule { channel: name.value, given, clause: text(clause) }, line: name.line })
}

fn sender(mut table: Table<'_, '_>) -> Option<At<SenderRule>> {
    let name = table.parsed::<SenderName>("name");
    let clause = table.text("clause");
    table.finish();
    let name = name?;
    Some(At { value: SenderRule { name: name.value, clause: text(clause) }, line: name.line })
}

/// An inert purpose is declared and read by nobody.
fn refuse_reading(table: &mut Table<'_, '_>) -> Reading {
    for key in ["callers", "views", "fields", "recipients", "channels", "senders"] {
        if let Some(line) = table.discard(key) {
            table.problem(line, format!("an inert purpose is read by nobody: it has no {key}"));
        }
    }
    Reading::default()
}

const UNREAD_BASIS: Basis = Basis { kind: BasisKind::Consent, clause: String::new(), declared: None };

fn basis(mut table: Table<'_, '_>) -> Basis {
    let kind = table.text("kind");
    let clause = table.text("clause");
    let declared = table.optional::<DeclaredBasis>("declared");
    let kind = match kind.as_ref().map(|kind| kind.value.as_str()) {
        Some("law") => BasisKind::Law { article: text(law_article(&mut table)) },
        Some("consent") => BasisKind::Consent,
        other => {
            if let (Some(other), Some(kind)) = (other, &kind) {
                table.problem(
                    kind.line,
                    format!(
                        "kind: `{other}` is no basis in Kazakhstan (Law 94-V, Article 9): `consent`, or `law` with \
                         its article"
                    ),
                );
            }
            // What stands beside an unknown kind cannot be judged.
            table.discard("article");
            BasisKind::Consent
        }
    };
    table.finish();
    Basis { kind, clause: text(clause), declared: declared.map(|declared| declared.value) }
}

pub(super) fn law_article(table: &mut Table<'_, '_>) -> Option<At<String>> {
    let article = table.text("article")?;
    if is_law_article(&article.value) {
        return Some(article);
    }
    table.problem(article.line, "article must be a law's number and its article, such as 94-V/9(1)");
    None
}

/// `94-V/9(1)`, `255-VIII/41(3)`, `94-V/25-1(2)(8)`.
fn is_law_article(text: &str) -> bool {
    let number = |t: &str| {
        let (main, inserted) = t.split_once('-').unwrap_or((t, "1"));
        [main, inserted].iter().all(|n| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let Some((act, article)) = text.split_once('/') else { return false };
    let known_act = act.split_once('-').is_some_and(|(n, convocation)| {
        number(n) && !convocation.is_empty() && convocation.bytes().all(|b| b"IVX".contains(&b))
    });
    let (article, points) = article.split_once('(').unwrap_or((article, ""));
    let known_points =
        points.is_empty() || points.strip_suffix(')').is_some_and(|points| points.split(")(").all(number));
    known_act && number(article) && known_points && !text.ends_with('(')
}

fn purpose_field(mut table: Table<'_, '_>) -> Option<(At<FieldName>, PurposeField)> {
    let name = table.parsed("name");
    let given = table.parsed::<Given>("given");
    let clause = table.text("clause");
    table.finish();
    let given = given.map_or(Given::Inferred, |given| given.value);
    Some((name?, PurposeField { given, clause: text(clause) }))
}

/// Where a recipient may lie.
#[derive(PartialEq)]
struct Reach {
    abroad: bool,
}

impl std::str::FromStr for Reach {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        match text {
            "any" => Ok(Self { abroad: true }),
            text if text == CountryCode::KZ.as_str() => Ok(Self { abroad: false }),
            _ => Err(UnknownCode("reach: `KZ`, or `any` with a consent to cross-border transfer")),
        }
    }
}

fn recipient(mut table: Table<'_, '_>) -> Option<At<RecipientRule>> {
    let kind = table.parsed::<RecipientKind>("kind");
    let clause = table.text("clause");
    let reach = table.optional::<Reach>("country");
    let encrypted = table.flag("encrypted");
    let manner = table.optional::<Manner>("manner");
    let fields: Option<Vec<At<FieldName>>> = table.optional_list("fields");
    table.finish();
    let kind = kind?;
    let value = RecipientRule {
        kind: kind.value,
        clause: text(clause),
        abroad: reach.is_some_and(|reach| reach.value.abroad),
        encrypted: encrypted.value,
        manner: manner.map_or(Manner::Disclosure, |manner| manner.value),
        fields: fields.map(|fields| values(Some(fields)).into_iter().collect()),
    };
    Some(At { value, line: kind.line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_of_laws_are_coded() {
        for good in ["94-V/9", "94-V/9(1)", "255-VIII/41(3)", "94-V/25(2)(8)", "94-V/8-1", "94-V/1(2-5)"] {
            assert!(is_law_article(good), "{good}");
        }
        for bad in [
            "",
            "94-V",
            "94-V/",
            "/9",
            "94/9",
            "x-V/9",
            "94-/9",
            "94-V/9(12345)",
            "Article 9",
            "94-V/9(",
            "94-V/9()",
            "94-V/9(1",
            "94-V/9)1(",
            "94-v/9",
            "94-V/9(а)",
            "94-V/9 (1)",
            "9.2",
        ] {
            assert!(!is_law_article(bad), "{bad}");
        }
    }
}
