//! A policy as a person reads it: headings and words in English, Russian or Kazakh, names and clauses as the file has them.

use super::{BasisKind, ExpiryKind, Given, Mark, Policy, Purpose};
use crate::domain::{consent::Language, names::SenderName};

/// A line with its depth: 0 is a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How far it is set in.
    pub depth: usize,
    /// What it says.
    pub text: String,
}

/// Words of the page: English, Russian, Kazakh.
type Word = [&'static str; 3];

const POLICY: Word = ["Policy", "Политика", "Саясат"];
const OPERATOR: Word = ["Operator", "Оператор", "Оператор"];
const VERSION: Word = ["Version", "Версия", "Нұсқа"];
const IN_FORCE: Word = ["in force from", "действует с", "күшіне енуі"];
const GOVERNS: Word = ["governs from", "применяется с", "қолданылуы"];
const SITES: Word = ["Sites", "Сайты", "Сайттар"];
const LANGUAGES: Word = ["Languages", "Языки", "Тілдер"];
const RESPONSIBLE: Word = ["Responsible", "Ответственный", "Жауапты"];
const DPIA: Word = ["impact assessed", "оценка воздействия", "әсері бағаланған"];
const SUBJECTS: Word = ["Subjects", "Субъекты", "Субъектілер"];
const MIN_AGE: Word = ["least age", "минимальный возраст", "ең төменгі жас"];
const CONSENT: Word = ["Consent", "Согласие", "Келісім"];
const COMPLETE: Word = ["complete with", "завершается событием", "аяқталатын оқиға"];
const WITHDRAWN: Word = [
    "days from a withdrawal to destruction",
    "дней от отзыва до уничтожения",
    "кері қайтарудан жоюға дейінгі күн",
];
const BANS: Word = ["Barred", "Запрещено", "Тыйым салынған"];
const EVENTS: Word = ["Events", "События", "Оқиғалар"];
const CAPS: Word = ["Every purpose ends", "Каждая цель прекращается", "Әр мақсаттың аяқталуы"];
const EXPIRY: Word = ["At the end of retention", "По истечении срока", "Сақтау мерзімі біткен соң"];
const DESTRUCTION: Word = ["destruction", "уничтожение", "жою"];
const DEPERSONALISATION: Word = [
    "depersonalisation, and destruction where it was demanded",
    "обезличивание, а где того требовали, уничтожение",
    "иесіздендіру, ал талап етілсе жою",
];
const FIELDS: Word = ["Data", "Данные", "Деректер"];
const PURPOSES: Word = ["Purposes", "Цели", "Мақсаттар"];
const BASIS: Word = ["basis", "основание", "негіз"];
const READERS: Word = ["read by", "читают", "оқитындар"];
const VIEWS: Word = ["as", "в виде", "түрінде"];
const RECIPIENTS: Word = ["goes to", "передаётся", "беріледі"];
const NOBODY: Word = ["nobody", "никому", "ешкімге"];
const ABROAD: Word = ["also abroad", "также за рубеж", "шетелге де"];
const SEALED: Word = ["sealed", "в запечатанном виде", "мөрленген"];
const CHANNELS: Word = ["reaches people by", "обращается к людям через", "адамдарға хабарласу жолы"];
const SENDERS: Word = ["in the name of", "от имени", "кімнің атынан"];
const THE_OPERATOR: Word = ["the operator", "оператора", "оператордың"];
const RETENTION: Word = ["kept", "хранение", "сақтау"];
const MINIMUM: Word = ["a law keeps it", "закон хранит", "заң бойынша сақталады"];
const INERT: Word = ["nobody reads by it", "никто не читает", "ешкім оқымайды"];
const INFERRED: Word = ["inferred", "предположено", "болжанған"];

/// Every line of the page.
#[must_use]
pub fn show(policy: &Policy, language: Language) -> Vec<Line> {
    let mut page = Page { lines: Vec::new(), language };
    page.head(policy);
    page.rules(policy);
    page.heading(FIELDS);
    for (name, field) in policy.fields() {
        let kind = format!("{}, {}", field.field_type.as_str(), field.category.as_str());
        page.line(1, format!("{name}: {kind} ({})", field.clause));
    }
    page.heading(PURPOSES);
    for (name, purpose) in policy.purposes() {
        page.line(1, format!("{name} ({})", purpose.clause));
        page.purpose(policy, purpose);
    }
    page.lines
}

struct Page {
    lines: Vec<Line>,
    language: Language,
}

impl Page {
    const fn say(&self, [english, russian, kazakh]: Word) -> &'static str {
        match self.language {
            Language::En => english,
            Language::Ru => russian,
            Language::Kk => kazakh,
        }
    }

    fn line(&mut self, depth: usize, text: impl Into<String>) {
        self.lines.push(Line { depth, text: text.into() });
    }

    fn heading(&mut self, word: Word) {
        self.line(0, self.say(word));
    }

    fn pair(&mut self, depth: usize, word: Word, value: &str) {
        self.line(depth, format!("{}: {value}", self.say(word)));
    }

    fn head(&mut self, policy: &Policy) {
        self.line(0, format!("{} {}", self.say(POLICY), policy.operator.name));
        self.pair(1, OPERATOR, &format!("{}, БИН {}", policy.operator.legal_name, policy.operator.bin));
        let dates = format!(
            "{}, {} {}, {} {}",
            policy.version,
            self.say(IN_FORCE),
            policy.effective_at(),
            self.say(GOVERNS),
            policy.governs_from()
        );
        self.pair(1, VERSION, &dates);
        self.pair(1, SITES, &list(policy.sites.iter()));
        self.pair(1, LANGUAGES, &list(policy.languages.iter().map(|language| language.as_str())));
    }

    fn rules(&mut self, policy: &Policy) {
        if let Some(responsible) = &policy.responsible {
            let says = format!("{}, {} ({})", responsible.office, responsible.contact, responsible.clause);
            self.pair(0, RESPONSIBLE, &says);
        }
        let subject = &policy.subject;
        let kinds = list(subject.kinds.iter().map(|kind| kind.as_str()));
        self.pair(0, SUBJECTS, &format!("{kinds} ({})", subject.clause));
        self.pair(1, MIN_AGE, &subject.min_age.to_string());
        let consent = &policy.consent;
        let acts = list(consent.acts.iter().map(|act| act.as_str()));
        self.pair(0, CONSENT, &format!("{acts} ({})", consent.clause));
        if let Some(completed) = &consent.completed_by {
            self.pair(1, COMPLETE, &format!("{} ({})", completed.event, completed.clause));
        }
        self.pair(1, WITHDRAWN, &consent.withdrawal_days.to_string());
        self.heading(BANS);
        for ban in policy.bans() {
            self.line(1, format!("{} ({})", ban.what.as_str(), ban.clause));
        }
        self.heading(EVENTS);
        for (name, event) in &policy.events {
            self.line(1, format!("{name} ({})", event.clause));
        }
        if !policy.caps().is_empty() {
            self.heading(CAPS);
            for term in policy.caps() {
                self.line(1, format!("{term} ({})", term.clause));
            }
        }
        self.expiry(policy);
    }

    fn expiry(&mut self, policy: &Policy) {
        let says = self.say(match policy.expires_by() {
            ExpiryKind::Destruction => DESTRUCTION,
            ExpiryKind::Depersonalisation => DEPERSONALISATION,
        });
        match &policy.expiry {
            Some(expiry) => self.pair(0, EXPIRY, &format!("{says} ({})", expiry.clause)),
            None => self.pair(0, EXPIRY, says),
        }
    }

    fn purpose(&mut self, policy: &Policy, purpose: &Purpose) {
        let basis = super::diff::basis(purpose);
        let marks = Mark::ALL.iter().filter(|mark| purpose.is(**mark)).map(|mark| mark.as_str());
        let basis = list([basis.as_str()].into_iter().chain(marks));
        self.pair(2, BASIS, &format!("{basis} ({})", purpose.basis.clause));
        if let Some(dpia) = &purpose.dpia {
            self.pair(2, DPIA, dpia.as_str());
        }
        if let Some(why) = &purpose.inert {
            self.pair(2, INERT, why);
            return;
        }
        let views = list(purpose.views.iter().map(|view| view.as_str()));
        let readers = format!("{}; {} {views}", list(purpose.callers.iter()), self.say(VIEWS));
        self.pair(2, READERS, &readers);
        let inferred = self.say(INFERRED);
        let fields = purpose.fields().map(|(name, field)| match field.given {
            Given::Stated => format!("{name} ({})", field.clause),
            Given::Inferred => format!("{name} ({}, {inferred})", field.clause),
        });
        self.pair(2, FIELDS, &list(fields));
        self.outreach(purpose);
        self.recipients(purpose);
        for term in policy.terms_of(purpose) {
            self.pair(2, RETENTION, &format!("{term} ({})", term.clause));
        }
        if purpose.basis.kind == BasisKind::Consent {
            self.pair(2, RETENTION, "ends at the withdrawal or end of the consent (Law 94-V, Article 8)");
        }
        if let Some(minimum) = &purpose.retention.minimum {
            let says = format!(
                "{} after {} ({}; {})",
                minimum.length, minimum.from, minimum.article, minimum.clause
            );
            self.pair(2, MINIMUM, &says);
        }
    }

    fn outreach(&mut self, purpose: &Purpose) {
        if purpose.channels().is_empty() {
            return;
        }
        let inferred = self.say(INFERRED);
        let channels = purpose.channels().iter().map(|rule| match rule.given {
            Given::Stated => format!("{} ({})", rule.channel.as_str(), rule.clause),
            Given::Inferred => format!("{} ({}, {inferred})", rule.channel.as_str(), rule.clause),
        });
        self.pair(2, CHANNELS, &list(channels));
        let operator = self.say(THE_OPERATOR);
        let senders = purpose.senders().iter().map(|rule| {
            let name = if rule.name.as_str() == SenderName::OPERATOR { operator } else { rule.name.as_str() };
            format!("{name} ({})", rule.clause)
        });
        self.pair(2, SENDERS, &list(senders));
    }

    fn recipients(&mut self, purpose: &Purpose) {
        if purpose.recipients().is_empty() {
            self.pair(2, RECIPIENTS, self.say(NOBODY));
        }
        for rule in purpose.recipients() {
            let fields = list(purpose.fields().map(|(name, _)| name).filter(|name| rule.covers(name)));
            let abroad = if rule.abroad { self.say(ABROAD) } else { "KZ" };
            let sealed = if rule.encrypted { format!(", {}", self.say(SEALED)) } else { String::new() };
            self.pair(
                2,
                RECIPIENTS,
                &format!("{}, {abroad}{sealed}: {fields} ({})", rule.kind.as_str(), rule.clause),
            );
        }
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
