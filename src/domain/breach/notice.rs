//! What the authority and the people are told of a breach, in three languages. Of templates, codes, declared names, counts and
//! dates: it names the operator, and nobody else. The list of people by name goes beside it, and the vault does not make it.

use super::{Addressee, Breach, BreachCause, BreachCertainty, BreachConsequence, BreachKind, BreachMeasure};
use crate::domain::{
    consent::Language,
    field::FieldType,
    names::{FieldName, PurposeName, RecipientName},
    platform::Platform,
    rights::{clock, day},
};

/// What a blank to be filled in looks like.
const BLANK: &str = "________________";

/// What a notice is made of.
#[derive(Debug, Clone, Copy)]
pub struct BreachNotice<'a> {
    /// The operator.
    pub operator: &'a Platform,
    /// The breach.
    pub breach: &'a Breach,
    /// The fields that it reaches, with their types where a policy still declares them.
    pub fields: &'a [(FieldName, Option<FieldType>)],
    /// The office that answers for personal data and where it is reached, where a policy names it.
    pub contact: Option<&'a str>,
    /// Who is told.
    pub to: Addressee,
}

/// A notice as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its heading.
    pub title: &'static str,
    /// Its first paragraph.
    pub lead: &'static str,
    /// What is said of each thing.
    pub rows: Vec<(&'static str, String)>,
    /// Its last paragraphs.
    pub foot: Vec<&'static str>,
}

impl Written {
    /// The whole as one text: what is hashed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.title.to_owned(), String::new(), self.lead.to_owned(), String::new()];
        lines.extend(self.rows.iter().map(|(name, value)| format!("{name}: {value}.")));
        for paragraph in &self.foot {
            lines.extend([String::new(), (*paragraph).to_owned()]);
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

impl BreachNotice<'_> {
    /// Writes it.
    #[must_use]
    pub fn written(&self, language: Language) -> Written {
        let words = Words::of(language);
        match self.to {
            Addressee::Authority => self.for_authority(words, language),
            Addressee::Subjects => self.for_subjects(words, language),
        }
    }

    /// What the Rules ask for: what happened, whom and what it reaches, measures, contacts, the people (in the annex).
    fn for_authority(&self, words: &'static Words, language: Language) -> Written {
        let (breach, facts) = (self.breach, &self.breach.facts);
        let scope = breach.scope.as_ref();
        let names = |names: Vec<&str>, none: &str| {
            if names.is_empty() { none.to_owned() } else { names.join(", ") }
        };
        let assessed = |found: Option<String>| found.unwrap_or_else(|| words.unknown.to_owned());
        let purposes = scope.map(|s| names(s.purposes.iter().map(PurposeName::as_str).collect(), words.none));
        let recipients =
            scope.map(|s| names(s.recipients.iter().map(RecipientName::as_str).collect(), words.nobody));
        let annex = match scope {
            Some(scope) if scope.subjects > 0 => {
                let hash = data_encoding::HEXLOWER.encode(&scope.subjects_sha256);
                format!("{}: {hash}", words.annex)
            }
            Some(_) => words.none.to_owned(),
            None => words.unknown.to_owned(),
        };
        let rows = vec![
            (words.operator, format!("{}, {}", self.operator.legal_name, self.operator.bin)),
            (words.number, self.number()),
            (words.found, clock(breach.found_at, language)),
            (words.due, day(breach.due_at.plus_micros(-1), language)),
            (words.happened, self.happened(words, language)),
            (words.kind, words.kinds[facts.kind].to_owned()),
            (words.certainty, words.certainties[facts.certainty].to_owned()),
            (words.cause, words.causes[facts.cause].to_owned()),
            (words.people, assessed(scope.map(|scope| scope.subjects.to_string()))),
            (words.data, self.data(words, language)),
            (words.purposes, assessed(purposes)),
            (words.recipients, assessed(recipients)),
            (words.consequences, words.consequences_of(&facts.consequences)),
            (words.measures, words.measures_of(&facts.measures)),
            (words.contact, self.contact.unwrap_or(BLANK).to_owned()),
            (words.enclosed, annex),
        ];
        let (title, lead) = words.authority;
        Written { title, lead, rows, foot: vec![words.supplement] }
    }

    fn for_subjects(&self, words: &'static Words, language: Language) -> Written {
        let facts = &self.breach.facts;
        let rows = vec![
            (words.operator, format!("{}, {}", self.operator.legal_name, self.operator.bin)),
            (words.number, self.number()),
            (words.found, clock(self.breach.found_at, language)),
            (words.happened, self.happened(words, language)),
            (words.kind, words.kinds[facts.kind].to_owned()),
            (words.data, self.data(words, language)),
            (words.consequences, words.consequences_of(&facts.consequences)),
            (words.measures, words.measures_of(&facts.measures)),
            (words.contact, self.contact.unwrap_or(BLANK).to_owned()),
        ];
        let (title, lead) = words.subjects;
        Written { title, lead, rows, foot: words.advice.to_vec() }
    }

    fn number(&self) -> String {
        let own = self.breach.facts.reference.as_ref();
        own.map_or_else(|| self.breach.id.to_string(), |own| format!("{} ({own})", self.breach.id))
    }

    fn happened(&self, words: &Words, language: Language) -> String {
        let facts = &self.breach.facts;
        let at = |at| clock(at, language);
        match (facts.began_at, facts.ended_at) {
            (Some(began), Some(ended)) => format!("{} – {}", at(began), at(ended)),
            (Some(began), None) => format!("{} – {}", at(began), words.end_unknown),
            (None, Some(ended)) => format!("{} – {}", words.begin_unknown, at(ended)),
            (None, None) => words.unknown.to_owned(),
        }
    }

    /// Kinds of data as people call them, each with the fields that it has here.
    fn data(&self, words: &Words, language: Language) -> String {
        if self.breach.scope.is_none() {
            return words.unknown.to_owned();
        }
        if self.fields.is_empty() {
            return words.none.to_owned();
        }
        let called = |(name, kind): &(FieldName, Option<FieldType>)| match kind {
            Some(kind) => format!("{} ({name})", kind.named(language)),
            None => name.to_string(),
        };
        self.fields.iter().map(called).collect::<Vec<_>>().join(", ")
    }
}

/// Texts in the order of the codes that they are of.
struct Named<const N: usize>([&'static str; N]);

macro_rules! named {
    ($($code:ty),+) => {$(
        impl<const N: usize> std::ops::Index<$code> for Named<N> {
            type Output = &'static str;

            fn index(&self, code: $code) -> &Self::Output {
                self.0.get(code.index()).unwrap_or(&"")
            }
        }
    )+};
}
named!(BreachKind, BreachCertainty, BreachCause, BreachConsequence, BreachMeasure);

/// The words of a language.
struct Words {
    /// Heading and first paragraph.
    authority: (&'static str, &'static str),
    subjects: (&'static str, &'static str),
    operator: &'static str,
    number: &'static str,
    found: &'static str,
    due: &'static str,
    happened: &'static str,
    kind: &'static str,
    certainty: &'static str,
    cause: &'static str,
    people: &'static str,
    data: &'static str,
    purposes: &'static str,
    recipients: &'static str,
    consequences: &'static str,
    measures: &'static str,
    contact: &'static str,
    enclosed: &'static str,
    annex: &'static str,
    unknown: &'static str,
    begin_unknown: &'static str,
    end_unknown: &'static str,
    none: &'static str,
    nobody: &'static str,
    supplement: &'static str,
    advice: [&'static str; 4],
    kinds: Named<5>,
    certainties: Named<2>,
    causes: Named<9>,
    consequence: Named<6>,
    measure: Named<9>,
}

impl Words {
    const fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &ENGLISH,
            Language::Kk => &KAZAKH,
            Language::Ru => &RUSSIAN,
        }
    }

    fn consequences_of(&self, codes: &[BreachConsequence]) -> String {
        self.listed(codes.iter().map(|code| self.consequence[*code]))
    }

    fn measures_of(&self, codes: &[BreachMeasure]) -> String {
        self.listed(codes.iter().map(|code| self.measure[*code]))
    }

    fn listed(&self, texts: impl Iterator<Item = &'static str>) -> String {
        let texts: Vec<_> = texts.collect();
        if texts.is_empty() { self.unknown.to_owned() } else { texts.join("; ") }
    }
}

const ENGLISH: Words = Words {
    authority: (
        "Notice of a breach of the security of personal data",
        "To the Ministry of Artificial Intelligence and Digital Development of the Republic of Kazakhstan, under Article 25(2)(8) of Law 94-V and the Rules approved by Order 481/НҚ of 9 August 2024. Times are Kazakhstan's.",
    ),
    subjects: (
        "Notice to you of a breach of the security of personal data",
        "The security of personal data that we process was breached, and your data are among those that it concerns. Times are Kazakhstan's.",
    ),
    operator: "Operator, BIN",
    number: "Number of the breach",
    found: "Found out on",
    due: "Last day of this notice",
    happened: "Happened",
    kind: "What happened",
    certainty: "How sure",
    cause: "Cause",
    people: "Persons concerned",
    data: "Which data",
    purposes: "Processed for",
    recipients: "Went to",
    consequences: "What it may come to",
    measures: "Measures taken",
    contact: "Contacts of the responsible person",
    enclosed: "Enclosed",
    annex: "the list of persons with name, IIN and telephone; SHA-256 of the list of their ids in the log",
    unknown: "being established",
    begin_unknown: "the begin is being established",
    end_unknown: "the end is being established",
    none: "none",
    nobody: "nobody outside the operator, by the log",
    supplement: "What is established later is sent as a supplement under the same number.",
    advice: [
        "Tell nobody codes from messages, and follow no links from letters that you did not expect.",
        "Change the password of this service, and of others where it is the same.",
        "You may ask what is held about you, and have it corrected, blocked or destroyed, free of charge.",
        "You may complain to the Ministry of Artificial Intelligence and Digital Development of the Republic of Kazakhstan, or go to court.",
    ],
    kinds: Named([
        "data were seen by somebody who may not see them",
        "data were passed on or made public",
        "data were lost",
        "data were changed",
        "data were destroyed",
    ]),
    certainties: Named(["suspected, being checked", "confirmed"]),
    causes: Named([
        "being established",
        "credentials were stolen",
        "an act of an employee",
        "a fault of software",
        "a wrong configuration",
        "a mistake of an employee",
        "malicious software",
        "a device or carrier was lost",
        "a breach at a recipient of the data",
    ]),
    consequence: Named([
        "somebody may act in the person's name",
        "loss of money by fraud",
        "unwanted calls and letters",
        "others know what the person did not make public",
        "a decision on wrong data",
        "a service may not be available",
    ]),
    measure: Named([
        "the access was closed",
        "keys were replaced",
        "use of the data was blocked",
        "the fault was mended",
        "fewer may see the data",
        "what went out was asked back or taken down",
        "the data were restored",
        "access is watched more closely",
        "the police were informed",
    ]),
};

const RUSSIAN: Words = Words {
    authority: (
        "Уведомление о нарушении безопасности персональных данных",
        "В Министерство искусственного интеллекта и цифрового развития Республики Казахстан, по подпункту 8) пункта 2 статьи 25 Закона 94-V и Правилам, утверждённым приказом № 481/НҚ от 9 августа 2024 года. Время указано по Казахстану.",
    ),
    subjects: (
        "Уведомление вам о нарушении безопасности персональных данных",
        "Безопасность персональных данных, которые мы обрабатываем, нарушена, и это касается ваших данных. Время указано по Казахстану.",
    ),
    operator: "Оператор, БИН",
    number: "Номер нарушения",
    found: "Обнаружено",
    due: "Последний день этого уведомления",
    happened: "Период нарушения",
    kind: "Что произошло",
    certainty: "Насколько установлено",
    cause: "Причина",
    people: "Затронуто субъектов",
    data: "Какие данные",
    purposes: "Для каких целей обрабатывались",
    recipients: "Кому переданы",
    consequences: "Возможные последствия",
    measures: "Принятые меры",
    contact: "Контакты ответственного лица",
    enclosed: "Приложение",
    annex: "список субъектов с ФИО, ИИН и телефоном; SHA-256 списка их идентификаторов в журнале",
    unknown: "устанавливается",
    begin_unknown: "начало устанавливается",
    end_unknown: "окончание устанавливается",
    none: "нет",
    nobody: "по журналу никому вне оператора",
    supplement: "Установленное позднее направляется дополнением под тем же номером.",
    advice: [
        "Никому не сообщайте коды из сообщений и не переходите по ссылкам из писем, которых вы не ждали.",
        "Смените пароль этого сервиса и других, где он такой же.",
        "Вы вправе бесплатно узнать, что о вас хранится, исправить, заблокировать или уничтожить эти данные.",
        "Вы вправе обратиться с жалобой в Министерство искусственного интеллекта и цифрового развития Республики Казахстан или в суд.",
    ],
    kinds: Named([
        "данные увидел тот, кому они не предназначены",
        "данные переданы третьим лицам или опубликованы",
        "данные утрачены",
        "данные изменены",
        "данные уничтожены",
    ]),
    certainties: Named(["подозрение, проверяется", "подтверждено"]),
    causes: Named([
        "устанавливается",
        "похищены учётные данные",
        "действия работника",
        "ошибка программы",
        "неверная настройка",
        "ошибка работника",
        "вредоносная программа",
        "утрачено устройство или носитель",
        "нарушение у получателя данных",
    ]),
    consequence: Named([
        "кто-то может действовать от имени субъекта",
        "потеря денег из-за мошенничества",
        "нежелательные звонки и письма",
        "другим стало известно то, чего субъект не раскрывал",
        "решение по неверным данным",
        "услуга может быть недоступна",
    ]),
    measure: Named([
        "доступ закрыт",
        "ключи заменены",
        "использование данных заблокировано",
        "ошибка устранена",
        "круг имеющих доступ сужен",
        "переданное отозвано или удалено из открытого доступа",
        "данные восстановлены",
        "контроль доступа усилен",
        "сообщено в полицию",
    ]),
};

const KAZAKH: Words = Words {
    authority: (
        "Дербес деректер қауіпсіздігінің бұзылуы туралы хабарлама",
        "Қазақстан Республикасының Жасанды интеллект және цифрлық даму министрлігіне, 94-V Заңның 25-бабы 2-тармағының 8) тармақшасы және 2024 жылғы 9 тамыздағы № 481/НҚ бұйрықпен бекітілген Қағидалар бойынша. Уақыт Қазақстан бойынша көрсетілген.",
    ),
    subjects: (
        "Дербес деректер қауіпсіздігінің бұзылуы туралы сізге хабарлама",
        "Біз өңдейтін дербес деректердің қауіпсіздігі бұзылды, бұл сіздің деректеріңізге де қатысты. Уақыт Қазақстан бойынша көрсетілген.",
    ),
    operator: "Оператор, БСН",
    number: "Бұзушылық нөмірі",
    found: "Анықталған уақыты",
    due: "Осы хабарламаның соңғы күні",
    happened: "Бұзушылық кезеңі",
    kind: "Не болды",
    certainty: "Қаншалықты анықталды",
    cause: "Себебі",
    people: "Қатысты субъектілер саны",
    data: "Қандай деректер",
    purposes: "Қандай мақсаттарда өңделді",
    recipients: "Кімге берілді",
    consequences: "Ықтимал салдары",
    measures: "Қабылданған шаралар",
    contact: "Жауапты адамның байланыс деректері",
    enclosed: "Қосымша",
    annex: "аты-жөні, ЖСН және телефоны көрсетілген субъектілер тізімі; олардың журналдағы сәйкестендіргіштері тізімінің SHA-256 мәні",
    unknown: "анықталуда",
    begin_unknown: "басталуы анықталуда",
    end_unknown: "аяқталуы анықталуда",
    none: "жоқ",
    nobody: "журнал бойынша оператордан тыс ешкімге берілмеген",
    supplement: "Кейін анықталған мәліметтер осы нөмірмен толықтыру ретінде жіберіледі.",
    advice: [
        "Хабарламалардағы кодтарды ешкімге айтпаңыз және күтпеген хаттардағы сілтемелерді ашпаңыз.",
        "Осы сервистің құпиясөзін, ол басқа сервистерде де бірдей болса, оларды да өзгертіңіз.",
        "Сіз туралы не сақталатынын тегін білуге, ол деректерді түзетуге, бұғаттауға немесе жоюға құқылысыз.",
        "Сіз Қазақстан Республикасының Жасанды интеллект және цифрлық даму министрлігіне шағымдануға немесе сотқа жүгінуге құқылысыз.",
    ],
    kinds: Named([
        "деректерді көруге құқығы жоқ адам көрді",
        "деректер үшінші тұлғаларға берілді немесе жарияланды",
        "деректер жоғалды",
        "деректер өзгертілді",
        "деректер жойылды",
    ]),
    certainties: Named(["күдік бар, тексерілуде", "расталды"]),
    causes: Named([
        "анықталуда",
        "есептік деректер ұрланды",
        "қызметкердің әрекеті",
        "бағдарлама қатесі",
        "қате баптау",
        "қызметкердің қатесі",
        "зиянды бағдарлама",
        "құрылғы немесе тасығыш жоғалды",
        "деректерді алушыдағы бұзушылық",
    ]),
    consequence: Named([
        "біреу субъектінің атынан әрекет етуі мүмкін",
        "алаяқтықтан ақша жоғалту",
        "қалаусыз қоңыраулар мен хаттар",
        "субъект жарияламаған мәлімет басқаларға белгілі болды",
        "қате деректер бойынша шешім",
        "қызмет қолжетімсіз болуы мүмкін",
    ]),
    measure: Named([
        "қолжетімділік жабылды",
        "кілттер ауыстырылды",
        "деректерді пайдалану бұғатталды",
        "қате жойылды",
        "деректерді көре алатындар шеңбері тарылтылды",
        "берілгендер кері сұралды немесе ашық қолжетімділіктен алынды",
        "деректер қалпына келтірілді",
        "қолжетімділікті бақылау күшейтілді",
        "полицияға хабарланды",
    ]),
};
