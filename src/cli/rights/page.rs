//! The answer to a person as one page in Kazakh, Russian or English: what is held, why, since when, who saw it, to whom it went.

use std::collections::BTreeMap;

use super::export::source;
use crate::{
    cli::{
        html::{STYLE, escape},
        outreach,
        registers::{at, code},
    },
    domain::{consent::Language, field::FieldType, names::SenderName, outreach::Channel, rights},
    grpc::pb,
};

/// What this page looks like besides what every page does. It is printed, too.
const OWN_STYLE: &str = "\
main{max-width:920px}.lead{font-size:15px}dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0 0 8px}\
dt{color:var(--soft)}dd{margin:0}article{background:var(--card);border:1px solid var(--line);border-radius:8px;\
padding:14px 16px;margin:0 0 12px;break-inside:avoid}article h3{margin:0 0 6px;font-size:15px;display:flex;\
justify-content:space-between;gap:16px;align-items:baseline}article h3 small{color:var(--soft);font-weight:400}\
.value{font-size:18px;margin:0 0 8px;color:var(--ink);overflow-wrap:anywhere}.withheld{color:var(--soft);font-style:italic;margin:0 0 8px}\
ul{margin:4px 0 0;padding-left:18px}li{margin:2px 0}.ended{color:var(--soft)}.nothing{color:var(--soft)}.foot{margin:14px 0 0}\
td{overflow-wrap:anywhere}code{font-size:12px;color:var(--soft)}\
@media print{body{padding:0;background:#fff}}";

/// The words of a language.
struct Words {
    title: &'static str,
    lead: &'static str,
    operator: &'static str,
    request: &'static str,
    looked: &'static str,
    since: &'static str,
    held: &'static str,
    nothing: &'static str,
    why: &'static str,
    by_consent: &'static str,
    by_law: &'static str,
    ended: &'static str,
    ends: &'static str,
    open: &'static str,
    kept: &'static str,
    waits: &'static str,
    origin: &'static str,
    may_receive: &'static str,
    withheld: &'static str,
    not_covered: &'static str,
    masked: &'static str,
    unread: &'static str,
    consents: &'static str,
    consent_columns: [&'static str; 4],
    the_operator: &'static str,
    given: &'static str,
    withdrawn: &'static str,
    uses: &'static str,
    uses_columns: [&'static str; 5],
    more: &'static str,
    went: &'static str,
    went_columns: [&'static str; 3],
    stayed: &'static str,
    clause: &'static str,
    sources: [(&'static str, &'static str); 4],
    states: [(&'static str, &'static str); 3],
    kinds: [(&'static str, &'static str); 12],
    /// In which names of types and days are written.
    language: Language,
    foot: &'static str,
}

pub(super) fn render(export: &pb::ExportCaseResponse, language: &str) -> String {
    let words = match language {
        "kk" => &KAZAKH,
        "en" => &ENGLISH,
        _ => &RUSSIAN,
    };
    let title = words.title;
    format!(
        "<!doctype html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>\
         <h1>{title}</h1><p class=\"lead\">{}</p>{}{}{}{}{}<p class=\"foot\">{}</p></main></body></html>\n",
        words.lead,
        head(export, words),
        fields(export, words),
        consents(export, words),
        received(export, words),
        uses(export, words),
        words.foot,
    )
}

impl Words {
    /// A day in Kazakhstan, as the language writes it.
    fn day(&self, time: prost_types::Timestamp) -> String {
        rights::day(at(time), self.language)
    }

    fn date(&self, time: Option<prost_types::Timestamp>) -> String {
        time.map(|time| self.day(time)).unwrap_or_default()
    }

    /// Day and minute in Kazakhstan.
    fn clock(&self, time: prost_types::Timestamp) -> String {
        rights::clock(at(time), self.language)
    }

    fn channel_named(&self, code: &str) -> String {
        code.parse()
            .map_or_else(|_| code.to_owned(), |channel: Channel| channel.named(self.language).to_owned())
    }

    /// The operator, or a partner by the name that the policy has for it.
    fn sender_named<'a>(&self, name: &'a str) -> &'a str {
        if name == SenderName::OPERATOR { self.the_operator } else { name }
    }

    fn type_named(&self, code: &str) -> String {
        code.parse().map_or_else(|_| escape(code), |kind: FieldType| kind.named(self.language).to_owned())
    }
}

fn head(export: &pb::ExportCaseResponse, words: &Words) -> String {
    let case = export.case.clone().unwrap_or_default();
    let number = if case.reference.is_empty() { case.case_id } else { case.reference };
    let state = code(export.state().as_str_name(), "SUBJECT_STATE_");
    let rows = [
        (words.operator, format!("{}, {}", escape(&export.operator), escape(&export.operator_bin))),
        (words.request, format!("{}, {}", escape(&number), words.date(case.receive_time))),
        (words.looked, words.date(export.export_time)),
        (words.since, format!("{}, {}", words.date(export.create_time), named(&words.states, &state))),
    ];
    let row = |(name, value): &(&str, String)| format!("<dt>{name}</dt><dd>{value}</dd>");
    format!("<dl>{}</dl>", rows.iter().map(row).collect::<String>())
}

fn named(names: &[(&'static str, &'static str)], code: &str) -> String {
    names
        .iter()
        .find(|(known, _)| *known == code)
        .map_or_else(|| escape(code), |(_, name)| (*name).to_owned())
}

fn fields(export: &pb::ExportCaseResponse, words: &Words) -> String {
    let held = if export.fields.is_empty() {
        format!("<p class=\"nothing\">{}</p>", words.nothing)
    } else {
        export.fields.iter().map(|field| held(field, words)).collect()
    };
    format!("<h2>{}</h2>{held}", words.held)
}

fn held(field: &pb::ExportedField, words: &Words) -> String {
    let value = if field.view() == pb::View::Full {
        format!("<p class=\"value\">{}</p>", escape(&field.value))
    } else if field.view() == pb::View::Masked {
        let (value, masked) = (escape(&field.value), words.masked);
        format!("<p class=\"value\">{value} <small class=\"withheld\">{masked}</small></p>")
    } else if field.withheld == "PURPOSE_NOT_DECLARED" {
        format!("<p class=\"withheld\">{}</p>", words.unread)
    } else if field.withheld == "FIELD_NOT_ALLOWED" {
        format!("<p class=\"withheld\">{}: {}.</p>", words.withheld, words.not_covered)
    } else {
        format!("<p class=\"withheld\">{}: <code>{}</code></p>", words.withheld, escape(&field.withheld))
    };
    let until = if field.keep_time.is_some() { words.date(field.keep_time) } else { words.waits.to_owned() };
    let purposes: String = field.purposes.iter().map(|purpose| why(purpose, words)).collect();
    format!(
        "<article><h3>{} <small>{}</small></h3>{value}<dl><dt>{}</dt><dd>{}</dd><dt>{}</dt><dd>{}</dd>\
         <dt>{}</dt><dd>{until}</dd><dt>{}</dt><dd><ul>{purposes}</ul></dd></dl></article>",
        escape(&field.field),
        words.type_named(&field.field_type),
        words.since,
        words.date(field.hold_time),
        words.origin,
        named(&words.sources, &source(field)),
        words.kept,
        words.why,
    )
}

fn why(purpose: &pb::ExportedPurpose, words: &Words) -> String {
    let basis = if purpose.law.is_empty() {
        words.by_consent.to_owned()
    } else {
        format!("{} {}", words.by_law, escape(&purpose.law))
    };
    let end = match (purpose.ended, purpose.end_time) {
        (true, _) => words.ended.to_owned(),
        (false, Some(end)) => words.ends.replace("{}", &words.day(end)),
        (false, None) => words.open.to_owned(),
    };
    let receive = if purpose.recipient_kinds.is_empty() {
        String::new()
    } else {
        let kinds: Vec<_> = purpose.recipient_kinds.iter().map(|kind| named(&words.kinds, kind)).collect();
        format!("; {} {}", words.may_receive, kinds.join(", "))
    };
    let class = if purpose.ended { " class=\"ended\"" } else { "" };
    format!(
        "<li{class}><b>{}</b> ({} {}): {basis}, {end}{receive}</li>",
        escape(&purpose.purpose),
        words.clause,
        escape(&purpose.clause)
    )
}

fn table(title: &str, columns: &[&str], rows: &[Vec<String>], none: &str) -> String {
    if rows.is_empty() {
        return format!("<h2>{title}</h2><p class=\"nothing\">{none}</p>");
    }
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        cells.fold(String::new(), |row, cell| row + "<" + tag + ">" + cell + "</" + tag + ">")
    };
    let head = cells("th", &mut columns.iter().copied());
    let body = rows.iter().fold(String::new(), |body, row| {
        body + "<tr>" + &cells("td", &mut row.iter().map(String::as_str)) + "</tr>"
    });
    format!("<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
}

fn consents(export: &pb::ExportCaseResponse, words: &Words) -> String {
    let row = |consent: &pb::Consent| {
        let state = match consent.withdraw_time {
            Some(at) => format!("{} {}", words.withdrawn, words.day(at)),
            None => words.given.to_owned(),
        };
        let purpose = match outreach::words(consent.outreach.as_ref()) {
            Some((channel, sender)) => {
                format!(
                    "{} ({}, {})",
                    consent.purpose,
                    words.channel_named(&channel),
                    words.sender_named(sender)
                )
            }
            None => consent.purpose.clone(),
        };
        vec![escape(&purpose), escape(&consent.fields.join(", ")), words.date(consent.give_time), state]
    };
    let rows: Vec<_> = export.consents.iter().map(row).collect();
    table(words.consents, &words.consent_columns, &rows, words.nothing)
}

/// To whom values went, each recipient once with what it got.
fn received(export: &pb::ExportCaseResponse, words: &Words) -> String {
    let mut by: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for d in export.disclosures.iter().filter(|d| !d.recipient.is_empty()) {
        let got = format!("{} ({})", escape(&d.purpose), words.date(d.disclose_time));
        let all = by.entry((&d.recipient, &d.field)).or_default();
        if !all.contains(&got) {
            all.push(got);
        }
    }
    let row = |((recipient, field), got): (&(&str, &str), &Vec<String>)| {
        vec![escape(recipient), escape(field), got.join(", ")]
    };
    let rows: Vec<_> = by.iter().map(row).collect();
    table(words.went, &words.went_columns, &rows, words.stayed)
}

fn uses(export: &pb::ExportCaseResponse, words: &Words) -> String {
    let row = |d: &pb::Disclosure| {
        let when = d.disclose_time.map(|at| words.clock(at)).unwrap_or_default();
        let entry = format!("<code>{}</code>", escape(&d.audit_entry_id));
        vec![when, escape(&d.field), escape(&d.purpose), escape(&d.caller), entry]
    };
    let rows: Vec<_> = export.disclosures.iter().map(row).collect();
    let more = if export.more_disclosures { format!("<p>{}</p>", words.more) } else { String::new() };
    table(words.uses, &words.uses_columns, &rows, words.nothing) + &more
}

const ENGLISH: Words = Words {
    title: "What is held about you",
    lead: "The answer to your request under Article 24 of Law 94-V. It is free of charge. Days are Kazakhstan's.",
    operator: "Operator, BIN",
    request: "Request, received",
    looked: "As of",
    since: "Held since",
    held: "Your data",
    nothing: "Nothing.",
    why: "Why",
    by_consent: "your consent",
    by_law: "law",
    ended: "ended",
    ends: "until {}",
    open: "until its purpose is reached",
    kept: "Kept until",
    waits: "an event that has not happened yet",
    origin: "Came from",
    may_receive: "may go to",
    withheld: "the value is not told here",
    not_covered: "what is read for your request does not cover it",
    masked: "masked",
    unread: "The value is not part of this export.",
    consents: "Your consents",
    consent_columns: ["to what", "which data", "given", "now"],
    the_operator: "the operator",
    given: "in force",
    withdrawn: "withdrawn",
    uses: "Who saw it",
    uses_columns: ["when", "data", "what for", "who", "entry of the log"],
    more: "There are more; ask for the whole list.",
    went: "To whom it went",
    went_columns: ["recipient", "data", "what for"],
    stayed: "Nothing left the operator.",
    clause: "clause",
    sources: [
        ("subject", "you"),
        ("partner", "a partner"),
        ("state_database", "a state database"),
        ("public", "a public source"),
    ],
    states: [("active", "in use"), ("restricted", "blocked"), ("erased", "erased")],
    kinds: [
        ("state", "state bodies"),
        ("court", "courts"),
        ("bank", "banks"),
        ("payment_system", "payment systems"),
        ("partner", "partners"),
        ("affiliate", "affiliates"),
        ("contractor", "contractors"),
        ("mailing", "mailing services"),
        ("analytics", "analytics services"),
        ("hosting", "hosting"),
        ("it_processor", "IT organisations"),
        ("public", "the public"),
    ],
    language: Language::En,
    foot: "You may have wrong data corrected, have their use blocked, withdraw a consent, demand destruction, and object to \
           decisions made by automated processing alone.",
};

const RUSSIAN: Words = Words {
    title: "Что о вас хранится",
    lead: "Ответ на ваше обращение по статье 24 Закона 94-V. Предоставляется бесплатно. Даты по времени Казахстана.",
    operator: "Оператор, БИН",
    request: "Обращение, получено",
    looked: "По состоянию на",
    since: "Хранится с",
    held: "Ваши данные",
    nothing: "Ничего.",
    why: "Зачем",
    by_consent: "ваше согласие",
    by_law: "закон",
    ended: "закончилось",
    ends: "до {}",
    open: "до достижения цели",
    kept: "Хранится до",
    waits: "события, которое ещё не наступило",
    origin: "Получено от",
    may_receive: "могут получить:",
    withheld: "значение здесь не сообщается",
    not_covered: "для ответа на обращения это поле не читается",
    masked: "скрыто частично",
    unread: "Значение в эту выгрузку не входит.",
    consents: "Ваши согласия",
    consent_columns: ["на что", "какие данные", "дано", "сейчас"],
    the_operator: "оператор",
    given: "действует",
    withdrawn: "отозвано",
    uses: "Кто видел",
    uses_columns: ["когда", "данные", "зачем", "кто", "запись журнала"],
    more: "Есть ещё; запросите полный перечень.",
    went: "Кому передано",
    went_columns: ["получатель", "данные", "зачем"],
    stayed: "Никому вне оператора не передавалось.",
    clause: "пункт",
    sources: [
        ("subject", "вас"),
        ("partner", "партнёра"),
        ("state_database", "государственной базы данных"),
        ("public", "общедоступного источника"),
    ],
    states: [("active", "используются"), ("restricted", "заблокированы"), ("erased", "уничтожены")],
    kinds: [
        ("state", "государственные органы"),
        ("court", "суды"),
        ("bank", "банки"),
        ("payment_system", "платёжные системы"),
        ("partner", "партнёры"),
        ("affiliate", "аффилированные лица"),
        ("contractor", "подрядчики"),
        ("mailing", "сервисы рассылок"),
        ("analytics", "сервисы аналитики"),
        ("hosting", "хостинг"),
        ("it_processor", "ИТ-организации"),
        ("public", "неограниченный круг лиц"),
    ],
    language: Language::Ru,
    foot: "Вы вправе исправить неверные данные, заблокировать их использование, отозвать согласие, потребовать уничтожения \
           и возразить против решений, принимаемых исключительно автоматизированно.",
};

const KAZAKH: Words = Words {
    title: "Сіз туралы не сақталады",
    lead: "94-V Заңның 24-бабы бойынша өтінішіңізге жауап. Тегін беріледі. Күндер Қазақстан уақытымен.",
    operator: "Оператор, БСН",
    request: "Өтініш, түскен күні",
    looked: "Мына күнгі жағдай",
    since: "Сақталған күннен",
    held: "Деректеріңіз",
    nothing: "Ештеңе жоқ.",
    why: "Не үшін",
    by_consent: "келісіміңіз",
    by_law: "заң",
    ended: "аяқталды",
    ends: "{} дейін",
    open: "мақсатқа жеткенге дейін",
    kept: "Сақтау мерзімі",
    waits: "әлі болмаған оқиғаға дейін",
    origin: "Кімнен алынды",
    may_receive: "алуы мүмкін:",
    withheld: "мән мұнда айтылмайды",
    not_covered: "өтініштерге жауап беру үшін бұл өріс оқылмайды",
    masked: "ішінара жасырылған",
    unread: "Мән бұл көшірмеге кірмейді.",
    consents: "Келісімдеріңіз",
    consent_columns: ["неге", "қандай деректер", "берілген күні", "қазір"],
    the_operator: "оператор",
    given: "күшінде",
    withdrawn: "кері қайтарылды",
    uses: "Кім көрді",
    uses_columns: ["қашан", "деректер", "не үшін", "кім", "журнал жазбасы"],
    more: "Тағы бар; толық тізімін сұраңыз.",
    went: "Кімге берілді",
    went_columns: ["алушы", "деректер", "не үшін"],
    stayed: "Оператордан тыс ешкімге берілген жоқ.",
    clause: "тармақ",
    sources: [
        ("subject", "сізден"),
        ("partner", "серіктестен"),
        ("state_database", "мемлекеттік дерекқордан"),
        ("public", "жалпыға қолжетімді көзден"),
    ],
    states: [("active", "пайдаланылады"), ("restricted", "бұғатталған"), ("erased", "жойылған")],
    kinds: [
        ("state", "мемлекеттік органдар"),
        ("court", "соттар"),
        ("bank", "банктер"),
        ("payment_system", "төлем жүйелері"),
        ("partner", "серіктестер"),
        ("affiliate", "үлестес тұлғалар"),
        ("contractor", "мердігерлер"),
        ("mailing", "хат тарату сервистері"),
        ("analytics", "талдау сервистері"),
        ("hosting", "хостинг"),
        ("it_processor", "АТ-ұйымдар"),
        ("public", "шектеусіз адамдар тобы"),
    ],
    language: Language::Kk,
    foot: "Сіз қате деректерді түзетуге, олардың пайдаланылуын бұғаттауға, келісімді кері қайтарып алуға, жоюды талап етуге \
           және тек автоматтандырылған өңдеу негізіндегі шешімдерге қарсылық білдіруге құқылысыз.",
};
