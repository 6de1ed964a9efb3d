//! What a person is told at the end of a request, in three languages. The text is of templates, numbers and dates: it names
//! the request and the operator, and nobody else.

use super::{CaseState, RefusalReason, RightKind};
use crate::domain::{
    birth::{KAZAKHSTAN, today_in_kazakhstan},
    consent::Language,
    ids::CaseId,
    reference::Reference,
    time::Timestamp,
};

/// What a notice says.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// Registered name of the operator.
    pub operator: &'a str,
    /// The request.
    pub case: CaseId,
    /// The platform's own number of it.
    pub reference: Option<&'a Reference>,
    /// What was asked.
    pub kind: RightKind,
    /// When it came.
    pub received_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it was refused; none of an answer.
    pub reasons: &'a [RefusalReason],
    /// The law, contract or decision behind it.
    pub ground: Option<&'a Reference>,
}

impl Notice<'_> {
    /// Whether it tells of an answer or of a refusal.
    #[must_use]
    pub const fn state(&self) -> CaseState {
        if self.reasons.is_empty() { CaseState::Answered } else { CaseState::Refused }
    }

    /// The text.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let words = Words::of(language);
        let number = self.reference.map_or_else(String::new, |own| format!(" ({own})"));
        let mut lines = vec![
            format!("{} {}{number}", words.title, self.case),
            String::new(),
            format!("{}: {}.", words.operator, self.operator),
            format!("{}: {}.", words.asked, words.kind(self.kind)),
            format!("{}: {}.", words.received, day(self.received_at, language)),
            format!("{}: {}.", words.decided, day(self.ended_at, language)),
            String::new(),
        ];
        if self.reasons.is_empty() {
            lines.push(words.done.to_owned());
            lines.push(words.result(self.kind).to_owned());
        } else {
            lines.push(words.refused.to_owned());
            lines.extend(self.reasons.iter().map(|reason| format!("- {}.", words.reason(*reason))));
        }
        if let Some(ground) = self.ground {
            lines.push(format!("{}: {ground}.", words.ground));
        }
        lines.extend([String::new(), words.free.to_owned(), words.appeal.to_owned(), String::new()]);
        lines.join("\n")
    }
}

/// A day in Kazakhstan, as the language writes it.
#[must_use]
pub fn day(at: Timestamp, language: Language) -> String {
    let date = today_in_kazakhstan(at);
    match language {
        Language::En => date.to_string(),
        Language::Kk | Language::Ru => {
            format!("{:02}.{:02}.{:04}", date.day(), date.month(), date.year())
        }
    }
}

/// Day and minute in Kazakhstan.
#[must_use]
pub fn clock(at: Timestamp, language: Language) -> String {
    let seconds = i64::from(KAZAKHSTAN.seconds());
    let of_day = (at.second() + seconds).rem_euclid(24 * 60 * 60);
    format!("{} {:02}:{:02}", day(at, language), of_day / 3_600, of_day % 3_600 / 60)
}

/// The words of a language.
struct Words {
    title: &'static str,
    operator: &'static str,
    asked: &'static str,
    received: &'static str,
    decided: &'static str,
    done: &'static str,
    refused: &'static str,
    ground: &'static str,
    free: &'static str,
    appeal: &'static str,
    /// In the order of [`RightKind::ALL`]: what is asked, and what came of it.
    kinds: [(&'static str, &'static str); 8],
    /// In the order of [`RefusalReason::ALL`].
    reasons: [&'static str; 6],
}

impl Words {
    const fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &ENGLISH,
            Language::Kk => &KAZAKH,
            Language::Ru => &RUSSIAN,
        }
    }

    fn kind(&self, kind: RightKind) -> &'static str {
        self.kinds.get(kind.index()).map_or("", |(asked, _)| asked)
    }

    fn result(&self, kind: RightKind) -> &'static str {
        self.kinds.get(kind.index()).map_or("", |(_, result)| result)
    }

    fn reason(&self, reason: RefusalReason) -> &'static str {
        self.reasons.get(reason.index()).copied().unwrap_or_default()
    }
}

const ENGLISH: Words = Words {
    title: "Notice on request",
    operator: "Operator",
    asked: "You asked for",
    received: "Received",
    decided: "Decided",
    done: "Your request is fulfilled.",
    refused: "Your request is refused:",
    ground: "Ground",
    free: "This answer is free of charge.",
    appeal: "You may complain to the Ministry of Artificial Intelligence and Digital Development of the Republic of Kazakhstan, or go to court.",
    kinds: [
        ("information about your personal data", "The information is enclosed."),
        (
            "correction of your personal data",
            "The data are corrected, and the former value is not used any more.",
        ),
        ("a block on the use of your personal data", "The data are not used until the block is reviewed."),
        ("your personal data in a form that a machine reads", "The data are enclosed."),
        (
            "destruction of your personal data",
            "The data cannot be read any more, and are destroyed beyond recovery.",
        ),
        (
            "anonymisation of your personal data",
            "What is kept cannot be attributed to you by anybody any more.",
        ),
        (
            "no decisions about you by automated processing alone",
            "No decision about you is made by automated processing alone.",
        ),
        ("the end of your consent", "Processing on the withdrawn consent has stopped."),
    ],
    reasons: [
        "it is not proved that the request comes from you or from somebody who may act for you",
        "we hold no such data about you",
        "what the request says was checked and is not confirmed",
        "a law of the Republic of Kazakhstan does not allow it (Law 94-V, Article 8(2))",
        "an obligation of yours is not fulfilled yet (Law 94-V, Article 8(2))",
        "no decision about you is made by automated processing alone",
    ],
};

const RUSSIAN: Words = Words {
    title: "Уведомление по обращению",
    operator: "Оператор",
    asked: "Вы просили",
    received: "Получено",
    decided: "Решение принято",
    done: "Ваше обращение исполнено.",
    refused: "В исполнении обращения отказано:",
    ground: "Основание",
    free: "Ответ предоставляется бесплатно.",
    appeal: "Вы вправе обратиться с жалобой в Министерство искусственного интеллекта и цифрового развития Республики Казахстан или в суд.",
    kinds: [
        ("сведения о ваших персональных данных", "Сведения приложены."),
        ("исправить ваши персональные данные", "Данные исправлены, прежнее значение больше не используется."),
        ("заблокировать ваши персональные данные", "Данные не используются до пересмотра блокировки."),
        ("ваши персональные данные в машиночитаемом виде", "Данные приложены."),
        (
            "уничтожить ваши персональные данные",
            "Данные больше нельзя прочитать, они уничтожаются без возможности восстановления.",
        ),
        ("обезличить ваши персональные данные", "То, что хранится, больше никто не может отнести к вам."),
        (
            "не принимать решений о вас исключительно автоматизированно",
            "Решения о вас исключительно автоматизированно не принимаются.",
        ),
        ("прекратить обработку по вашему согласию", "Обработка по отозванному согласию прекращена."),
    ],
    reasons: [
        "не подтверждено, что обращение исходит от вас или от лица, которое вправе действовать за вас",
        "таких данных о вас у нас нет",
        "изложенное в обращении проверено и не подтвердилось",
        "это запрещено законом Республики Казахстан (Закон 94-V, статья 8, пункт 2)",
        "ваше обязательство ещё не исполнено (Закон 94-V, статья 8, пункт 2)",
        "решения о вас исключительно автоматизированно не принимаются",
    ],
};

const KAZAKH: Words = Words {
    title: "Өтініш бойынша хабарлама",
    operator: "Оператор",
    asked: "Сіз сұрадыңыз",
    received: "Түскен күні",
    decided: "Шешім қабылданған күні",
    done: "Өтінішіңіз орындалды.",
    refused: "Өтінішіңізді орындаудан бас тартылды:",
    ground: "Негізі",
    free: "Жауап тегін беріледі.",
    appeal: "Сіз Қазақстан Республикасының Жасанды интеллект және цифрлық даму министрлігіне шағымдануға немесе сотқа жүгінуге құқылысыз.",
    kinds: [
        ("жеке деректеріңіз туралы мәліметтер", "Мәліметтер қоса берілді."),
        ("жеке деректеріңізді түзету", "Деректер түзетілді, бұрынғы мән енді пайдаланылмайды."),
        ("жеке деректеріңізді бұғаттау", "Бұғаттау қайта қаралғанға дейін деректер пайдаланылмайды."),
        ("жеке деректеріңізді машина оқитын түрде алу", "Деректер қоса берілді."),
        (
            "жеке деректеріңізді жою",
            "Деректерді енді оқу мүмкін емес, олар қалпына келтірілмейтіндей етіп жойылады.",
        ),
        ("жеке деректеріңізді иесіздендіру", "Сақталғанды енді ешкім сізге қатысты деп анықтай алмайды."),
        (
            "сіз туралы тек автоматтандырылған өңдеу негізінде шешім қабылдамау",
            "Сіз туралы тек автоматтандырылған өңдеу негізінде шешім қабылданбайды.",
        ),
        ("келісіміңіз бойынша өңдеуді тоқтату", "Кері қайтарып алынған келісім бойынша өңдеу тоқтатылды."),
    ],
    reasons: [
        "өтініштің сізден немесе сіздің атыңыздан әрекет етуге құқылы адамнан келгені расталмады",
        "сіз туралы мұндай деректер бізде жоқ",
        "өтініште айтылған жай тексерілді және расталмады",
        "бұған Қазақстан Республикасының заңы тыйым салады (94-V Заң, 8-бап, 2-тармақ)",
        "сіздің міндеттемеңіз әлі орындалған жоқ (94-V Заң, 8-бап, 2-тармақ)",
        "сіз туралы тек автоматтандырылған өңдеу негізінде шешім қабылданбайды",
    ],
};
