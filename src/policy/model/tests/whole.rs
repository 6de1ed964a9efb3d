//! A policy that says one of everything: shown whole, and compared with itself after one change, both ways round. What is
//! asserted is all that is said, so that nothing is said too much.

use super::*;

const SMALL: &str = include_str!("small.toml");

fn small(changes: &[(&str, &str)]) -> Policy {
    let text = changes.iter().fold(SMALL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    Policy::parse(&text).unwrap_or_else(|e| panic!("{changes:?}: {e}"))
}

/// Marks of a purpose that advertises by letters, in its own name and a bank's.
const ADVERTISING: &str = "\
separate = true
advertising = true
channels = [{ name = \"email\", given = \"inferred\", clause = \"11.4\" }]
senders = [{ name = \"operator\", clause = \"11.5\" }, { name = \"bank\", clause = \"11.6\" }]";

#[test]
fn channels_and_senders_are_shown() {
    let ask = "callers = [\"support\"]";
    let policy = small(&[(ask, &format!("{ADVERTISING}\n{ask}"))]);
    for (language, lines) in [
        (
            Language::En,
            [
                "basis: consent, separate, advertising (11.1)",
                "reaches people by: email (11.4, inferred)",
                "in the name of: the operator (11.5), bank (11.6)",
            ],
        ),
        (
            Language::Ru,
            [
                "основание: consent, separate, advertising (11.1)",
                "обращается к людям через: email (11.4, предположено)",
                "от имени: оператора (11.5), bank (11.6)",
            ],
        ),
        (
            Language::Kk,
            [
                "негіз: consent, separate, advertising (11.1)",
                "адамдарға хабарласу жолы: email (11.4, болжанған)",
                "кімнің атынан: оператордың (11.5), bank (11.6)",
            ],
        ),
    ] {
        let shown = show(&policy, language);
        for line in lines {
            assert!(shown.iter().any(|shown| shown.text == line), "{line}: {shown:#?}");
        }
        let plain = show(&small(&[]), language).len();
        assert_eq!(shown.len(), plain + 2, "where nobody is reached, nothing is said of it");
    }
}

fn lines(language: Language) -> Vec<String> {
    let shown = show(&small(&[]), language);
    shown.iter().map(|line| format!("{}{}", "  ".repeat(line.depth), line.text)).collect()
}

#[test]
fn everything_is_shown_and_nothing_else() {
    let page = "\
Policy small
  Operator: ТОО «Малый», БИН 210140019844
  Version: 1, in force from 2025-12-31T19:00:00.000000Z, governs from 2026-01-07T19:00:00.000000Z
  Sites: small.kz
  Languages: ru, kk
Responsible: DPO, dpo@small.kz (14)
Subjects: natural (2)
  least age: 18
Consent: tick, written (3)
  complete with: first_login (3.2)
  days from a withdrawal to destruction: 10
Barred
  sale (4)
Events
  first_login (5)
  payment (5.1)
Every purpose ends
  ends 3 years after consent (6)
At the end of retention: destruction (6.1)
Data
  email: email, ordinary (7.1)
  iin: iin, ordinary (7)
Purposes
  ask (11)
    basis: consent (11.1)
    read by: support; as full
    Data: email (11.3)
    goes to: nobody
    kept: ends 3 years after consent (6)
    kept: ends at the withdrawal or end of the consent (Law 94-V, Article 8)
  idle (10)
    basis: consent (10.1)
    nobody reads by it: the text names no data
  law (9)
    basis: law 94-V/9(1), claims (9.1)
    read by: rights; as full
    Data: iin (9.3)
    goes to: nobody
    kept: ends 2 years after payment (9.2)
  pay (8)
    basis: consent, high_risk (8.1)
    impact assessed: DPIA-1
    read by: payments; as full, masked
    Data: email (8.5, inferred), iin (8.4)
    goes to: bank, KZ, sealed: iin (8.6)
    goes to: partner, also abroad: email, iin (8.7)
    kept: ends 1 year after payment, or after collection where that is not recorded (8.2)
    kept: ends 3 years after consent (6)
    kept: ends at the withdrawal or end of the consent (Law 94-V, Article 8)
    a law keeps it: 5 years after payment (94-V/12(2); 8.3)";
    assert_eq!(lines(Language::En).join("\n"), page);
    for (language, words) in [
        (Language::Ru, ["Политика small", "  ask (11)", "    передаётся: никому", "Запрещено"]),
        (Language::Kk, ["Саясат small", "  ask (11)", "    беріледі: ешкімге", "Тыйым салынған"]),
    ] {
        let page = lines(language);
        assert!(words.iter().all(|word| page.iter().any(|line| line == word)), "{page:#?}");
    }
}

fn asks(asks: &Asks) -> String {
    match asks {
        Asks::Nobody => String::new(),
        Asks::ConsentedTo(purpose) => format!(", asks who consented to {purpose}"),
        Asks::ForNew(purpose) => format!(", asks for {purpose}"),
    }
}

fn changes(old: &Policy, new: &Policy) -> Vec<String> {
    let told =
        |c: &Change| format!("{} {}: {} ({}){}", c.effect.as_str(), c.place, c.what, c.clause, asks(&c.asks));
    diff(old, new).iter().map(told).collect()
}

/// What is replaced, what is said of it, and what of its return.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);

fn compare(rows: &[Row<'_>]) {
    let before = small(&[]);
    assert_eq!(changes(&before, &before), [""; 0]);
    for (replaced, there, back) in rows {
        let after = small(replaced);
        assert_eq!(changes(&before, &after), *there, "{replaced:?}");
        assert_eq!(changes(&after, &before), *back, "back from {replaced:?}");
    }
}

#[test]
fn what_differs_around_the_purposes_is_said_both_ways() {
    compare(&[
        (
            &[("kinds = [\"natural\"]", "kinds = [\"natural\", \"legal\"]")],
            &["widens subject: kind legal is new (2)"],
            &["narrows subject: kind legal is gone (2)"],
        ),
        (
            &[("min_age = 18", "min_age = 16")],
            &["widens subject: least age 16, was 18 (2)"],
            &["narrows subject: least age 18, was 16 (2)"],
        ),
        (
            &[("managed_by = [\"backend\"]", "managed_by = [\"backend\", \"rights\"]")],
            &["widens subject: caller who manages subjects rights is new (2)"],
            &["narrows subject: caller who manages subjects rights is gone (2)"],
        ),
        (
            &[("[\"small.kz\"]", "[\"small.kz\", \"smaller.kz\"]")],
            &["widens version: site smaller.kz is new (1.1)"],
            &["narrows version: site smaller.kz is gone (1.1)"],
        ),
        (
            &[("acts = [\"tick\", \"written\"]", "acts = [\"tick\"]")],
            &["narrows consent: act written is gone (3)"],
            &["widens consent: act written is new (3)"],
        ),
        (
            &[("completed_by = { event = \"first_login\", clause = \"3.2\" }\n", "")],
            &["widens consent: a consent is complete without first_login (3)"],
            &["narrows consent: a consent is complete only with first_login (3)"],
        ),
        (
            &[("event = \"first_login\"", "event = \"payment\"")],
            &["changes consent: another event completes it (3)"],
            &["changes consent: another event completes it (3)"],
        ),
        (
            &[("withdrawal_days = 10", "withdrawal_days = 14")],
            &["widens consent: withdrawal_days: 14, was 10 (3)"],
            &["narrows consent: withdrawal_days: 10, was 14 (3)"],
        ),
        (
            &[("unclaimed_days = 30\n", "")],
            &["widens consent: unclaimed_days: no end, was 30 (3)"],
            &["narrows consent: unclaimed_days: 30, was no end (3)"],
        ),
        (
            &[("office = \"DPO\"", "office = \"Lawyers\"")],
            &["changes responsible: Lawyers, dpo@small.kz (14)"],
            &["changes responsible: DPO, dpo@small.kz (14)"],
        ),
        (
            &[
                ("[responsible]\noffice = \"DPO\"\ncontact = \"dpo@small.kz\"\nclause = \"14\"\n", ""),
                ("high_risk = true\n", ""),
            ],
            &[
                "changes responsible: nobody is named any more (14)",
                "changes purpose pay: high_risk is not set any more (8)",
            ],
            &["changes responsible: DPO, dpo@small.kz (14)", "changes purpose pay: high_risk is set (8)"],
        ),
        (
            &[("[[ban]]\nwhat = \"sale\"\nclause = \"4\"\n", "")],
            &["widens ban sale: is lifted (4)"],
            &["narrows ban sale: is new (4)"],
        ),
        (
            &[("kind = \"destruction\"", "kind = \"depersonalisation\"")],
            &["widens expiry: the end is depersonalisation, was destruction (6.1)"],
            &["narrows expiry: the end is destruction, was depersonalisation (6.1)"],
        ),
        // What is not said is destruction.
        (&[("[expiry]\nkind = \"destruction\"\nclause = \"6.1\"\n", "")], &[], &[]),
        (
            &[("[[cap]]\nyears = 3", "[[cap]]\nyears = 4")],
            &["widens cap: ends 4 years after consent; was: ends 3 years after consent (6)"],
            &["narrows cap: ends 3 years after consent; was: ends 4 years after consent (6)"],
        ),
        (
            &[("after = \"consent\"\nclause = \"6\"", "after = \"collection\"\nclause = \"6\"")],
            &[
                "widens cap: ends 3 years after consent: is gone (6)",
                "narrows cap: ends 3 years after collection: is new (6)",
            ],
            &[
                "widens cap: ends 3 years after collection: is gone (6)",
                "narrows cap: ends 3 years after consent: is new (6)",
            ],
        ),
    ]);
}

#[test]
fn what_differs_in_fields_is_said_both_ways() {
    let iin = "name = \"iin\"\ntype = \"iin\"\ncategory = \"ordinary\"\ncollected_by = [\"backend\"]";
    let with = |part: &str| iin.replacen("collected_by = [\"backend\"]", part, 1);
    let sources = with("sources = [\"subject\", \"partner\"]\ncollected_by = [\"backend\"]");
    let collected = with("collected_by = [\"backend\", \"forms\"]");
    compare(&[
        (
            &[(iin, &sources)],
            &["widens field iin: source partner is new (7)"],
            &["narrows field iin: source partner is gone (7)"],
        ),
        (
            &[(iin, &collected)],
            &["widens field iin: collecting caller forms is new (7)"],
            &["narrows field iin: collecting caller forms is gone (7)"],
        ),
        (
            &[(iin, &iin.replacen("ordinary", "special", 1))],
            &["changes field iin: is special iin, was ordinary iin (7)"],
            &["changes field iin: is ordinary iin, was special iin (7)"],
        ),
        (
            &[(iin, &iin.replacen("type = \"iin\"", "type = \"text\"", 1))],
            &["changes field iin: is ordinary text, was ordinary iin (7)"],
            &["changes field iin: is ordinary iin, was ordinary text (7)"],
        ),
        (
            &[
                ("name = \"email\"\ntype", "name = \"mail\"\ntype"),
                ("{ name = \"email\", given = \"inferred\"", "{ name = \"mail\", given = \"inferred\""),
                ("{ name = \"email\", given = \"stated\"", "{ name = \"mail\", given = \"stated\""),
            ],
            &[
                "widens field mail: is new; it is read for the purposes that list it (7.1)",
                "widens purpose ask: field mail is new (11), asks who consented to ask",
                "widens purpose pay: field mail is new (8), asks who consented to pay",
                "widens purpose pay, recipient partner: field mail is new (8.7), asks who consented to pay",
                "narrows field email: is not taken any more (7.1)",
                "narrows purpose ask: field email is gone (11)",
                "narrows purpose pay: field email is gone (8)",
                "narrows purpose pay, recipient partner: field email is gone (8.7)",
            ],
            &[
                "widens field email: is new; it is read for the purposes that list it (7.1)",
                "widens purpose ask: field email is new (11), asks who consented to ask",
                "widens purpose pay: field email is new (8), asks who consented to pay",
                "widens purpose pay, recipient partner: field email is new (8.7), asks who consented to pay",
                "narrows field mail: is not taken any more (7.1)",
                "narrows purpose ask: field mail is gone (11)",
                "narrows purpose pay: field mail is gone (8)",
                "narrows purpose pay, recipient partner: field mail is gone (8.7)",
            ],
        ),
    ]);
}

#[test]
fn what_differs_in_retention_is_said_both_ways() {
    let minimum =
        "minimum = { years = 5, after = \"payment\", article = \"94-V/12(2)\", clause = \"8.3\" }, ";
    compare(&[
        (
            &[("{ years = 1, after", "{ months = 6, after")],
            &[
                "narrows purpose pay, retention: ends 6 months after payment, or after collection where that is not \
               recorded; was: ends 1 year after payment, or after collection where that is not recorded (8.2)",
            ],
            &[
                "widens purpose pay, retention: ends 1 year after payment, or after collection where that is not \
               recorded; was: ends 6 months after payment, or after collection where that is not recorded (8.2)",
            ],
        ),
        (
            &[("missing = \"collection\"", "missing = \"consent\"")],
            &[
                "widens purpose pay, retention: ends 1 year after payment, or after collection where that is not \
                 recorded: is gone (8.2)",
                "narrows purpose pay, retention: ends 1 year after payment, or after consent where that is not \
                 recorded: is new (8.2)",
            ],
            &[
                "widens purpose pay, retention: ends 1 year after payment, or after consent where that is not \
                 recorded: is gone (8.2)",
                "narrows purpose pay, retention: ends 1 year after payment, or after collection where that is not \
                 recorded: is new (8.2)",
            ],
        ),
        (
            &[("{ years = 1, after = \"payment\"", "{ years = 1, after = \"first_login\"")],
            &[
                "widens purpose pay, retention: ends 1 year after payment, or after collection where that is not \
                 recorded: is gone (8.2)",
                "narrows purpose pay, retention: ends 1 year after first_login, or after collection where that is not \
                 recorded: is new (8.2)",
            ],
            &[
                "widens purpose pay, retention: ends 1 year after first_login, or after collection where that is not \
                 recorded: is gone (8.2)",
                "narrows purpose pay, retention: ends 1 year after payment, or after collection where that is not \
                 recorded: is new (8.2)",
            ],
        ),
        (
            &[(minimum, "")],
            &[
                "narrows purpose pay, retention: minimum none, was 5 years after payment (law 94-V/12(2)) (8.2)",
            ],
            &[
                "widens purpose pay, retention: minimum 5 years after payment (law 94-V/12(2)), was none (8.2)",
            ],
        ),
        (
            &[("minimum = { years = 5", "minimum = { years = 6")],
            &[
                "changes purpose pay, retention: minimum 6 years after payment (law 94-V/12(2)), was 5 years after \
               payment (law 94-V/12(2)) (8.2)",
            ],
            &[
                "changes purpose pay, retention: minimum 5 years after payment (law 94-V/12(2)), was 6 years after \
               payment (law 94-V/12(2)) (8.2)",
            ],
        ),
        (
            &[("refusal = { event = \"payment\", clause = \"9.5\" }, ", "")],
            &["changes purpose law, retention: another event, or none, refuses a withdrawal (9.2)"],
            &["changes purpose law, retention: another event, or none, refuses a withdrawal (9.2)"],
        ),
    ]);
}

#[test]
fn purposes_that_come_and_go_are_said_both_ways() {
    let idle = "inert = \"the text names no data\"";
    let read = "callers = [\"support\"]\nviews = [\"full\"]\nfields = [{ name = \"email\", given = \"stated\", clause = \"10.3\" }]";
    compare(&[
        (
            &[("name = \"law\"", "name = \"laws\"")],
            &[
                "widens purpose laws: is new, on the basis of law 94-V/9(1): iin (9)",
                "narrows purpose law: nobody reads for it any more (9)",
            ],
            &[
                "widens purpose law: is new, on the basis of law 94-V/9(1): iin (9)",
                "narrows purpose laws: nobody reads for it any more (9)",
            ],
        ),
        (
            &[("name = \"pay\"", "name = \"paid\"")],
            &[
                "widens purpose paid: is new, on the basis of consent: email, iin (8), asks for paid",
                "narrows purpose pay: nobody reads for it any more (8)",
            ],
            &[
                "widens purpose pay: is new, on the basis of consent: email, iin (8), asks for pay",
                "narrows purpose paid: nobody reads for it any more (8)",
            ],
        ),
        (
            &[("name = \"idle\"", "name = \"lazy\"")],
            &[
                "narrows purpose idle: nobody reads for it any more (10)",
                "changes purpose lazy: is new and inert: the text names no data (10)",
            ],
            &[
                "narrows purpose lazy: nobody reads for it any more (10)",
                "changes purpose idle: is new and inert: the text names no data (10)",
            ],
        ),
        (
            &[(idle, read)],
            &[
                "widens purpose idle: is read now (10), asks who consented to idle",
                "widens purpose idle: field email is new (10), asks who consented to idle",
                "widens purpose idle: caller support is new (10)",
                "widens purpose idle: view full is new (10)",
            ],
            &[
                "narrows purpose idle: is inert: the text names no data (10)",
                "narrows purpose idle: field email is gone (10)",
                "narrows purpose idle: caller support is gone (10)",
                "narrows purpose idle: view full is gone (10)",
            ],
        ),
    ]);
}

#[test]
fn what_differs_in_a_purpose_is_said_both_ways() {
    let ask = "callers = [\"support\"]";
    let marked = |marks: &str| format!("{marks}\n{ask}");
    let law = "basis = { kind = \"law\", clause = \"11.1\", article = \"94-V/9(1)\" }";
    compare(&[
        (
            &[("callers = [\"payments\"]", "callers = [\"payments\", \"support\"]")],
            &["widens purpose pay: caller support is new (8)"],
            &["narrows purpose pay: caller support is gone (8)"],
        ),
        (
            &[("views = [\"full\", \"masked\"]", "views = [\"masked\"]")],
            &["narrows purpose pay: view full is gone (8)"],
            &["widens purpose pay: view full is new (8)"],
        ),
        (
            &[("basis = { kind = \"consent\", clause = \"11.1\" }", law)],
            &["widens purpose ask: stands on law 94-V/9(1), was consent (11.1)"],
            &["narrows purpose ask: stands on consent, was law 94-V/9(1) (11.1), asks for ask"],
        ),
        (
            &[("94-V/9(1)", "94-V/9(2)")],
            &["changes purpose law: stands on law 94-V/9(2), was law 94-V/9(1) (9.1)"],
            &["changes purpose law: stands on law 94-V/9(1), was law 94-V/9(2) (9.1)"],
        ),
        (
            &[(ask, &marked("separate = true"))],
            &["narrows purpose ask: separate is set (11), asks who consented to ask"],
            &["widens purpose ask: separate is not set any more (11)"],
        ),
        (
            &[(ask, &marked("written = true"))],
            &["narrows purpose ask: written is set (11), asks who consented to ask"],
            &["widens purpose ask: written is not set any more (11)"],
        ),
        (
            &[(ask, &marked("legal_reference = true"))],
            &["narrows purpose ask: legal_reference is set (11)"],
            &["widens purpose ask: legal_reference is not set any more (11), asks who consented to ask"],
        ),
        (
            &[(ask, &marked("automated = true"))],
            &["widens purpose ask: automated is set (11), asks who consented to ask"],
            &["narrows purpose ask: automated is not set any more (11)"],
        ),
        (
            &[(ask, &marked(ADVERTISING))],
            &[
                "widens purpose ask: advertising is set (11), asks who consented to ask",
                "narrows purpose ask: reaches people by email alone (11), asks who consented to ask",
                "narrows purpose ask: separate is set (11), asks who consented to ask",
            ],
            &[
                "widens purpose ask: does not say any more by which channels it reaches people (11), asks who consented to ask",
                "widens purpose ask: separate is not set any more (11)",
                "narrows purpose ask: advertising is not set any more (11)",
            ],
        ),
        (
            &[(ask, &marked("separate = true\npublication = true"))],
            &[
                "widens purpose ask: publication is set (11), asks who consented to ask",
                "narrows purpose ask: separate is set (11), asks who consented to ask",
            ],
            &[
                "widens purpose ask: separate is not set any more (11)",
                "narrows purpose ask: publication is not set any more (11)",
            ],
        ),
        (
            &[("refusal = { event = \"payment\", clause = \"9.5\" }, ", ""), ("claims = true\n", "")],
            &[
                "narrows purpose law: claims is not set any more (9)",
                "changes purpose law, retention: another event, or none, refuses a withdrawal (9.2)",
            ],
            &[
                "widens purpose law: claims is set (9)",
                "changes purpose law, retention: another event, or none, refuses a withdrawal (9.2)",
            ],
        ),
    ]);
}

#[test]
fn what_differs_in_recipients_is_said_both_ways() {
    let bank = "{ kind = \"bank\", clause = \"8.6\", encrypted = true, fields = [\"iin\"] }";
    let partner = "{ kind = \"partner\", clause = \"8.7\", country = \"any\" }";
    let law = "{ name = \"iin\", given = \"stated\", clause = \"9.3\" },\n]";
    let to_state = format!("{law}\nrecipients = [{{ kind = \"state\", clause = \"9.4\" }}]");
    compare(&[
        (
            &[(bank, "{ kind = \"bank\", clause = \"8.6\", encrypted = true }")],
            &["widens purpose pay, recipient bank: field email is new (8.6), asks who consented to pay"],
            &["narrows purpose pay, recipient bank: field email is gone (8.6)"],
        ),
        (
            &[(bank, "{ kind = \"bank\", clause = \"8.6\", fields = [\"iin\"] }")],
            &["widens purpose pay, recipient bank: gets values that are not sealed (8.6)"],
            &["narrows purpose pay, recipient bank: gets values sealed only (8.6)"],
        ),
        (
            &[(partner, "{ kind = \"partner\", clause = \"8.7\" }")],
            &["narrows purpose pay, recipient partner: is in Kazakhstan only (8.7)"],
            &["widens purpose pay, recipient partner: may be abroad (8.7), asks who consented to pay"],
        ),
        (
            &[(partner, "{ kind = \"partner\", clause = \"8.7\", country = \"any\", manner = \"onward\" }")],
            &[
                "changes purpose pay, recipient partner: onward, was disclosure (8.7), asks who consented to pay",
            ],
            &[
                "changes purpose pay, recipient partner: disclosure, was onward (8.7), asks who consented to pay",
            ],
        ),
        (
            &[(&format!("    {partner},\n"), "")],
            &["narrows purpose pay: recipient partner is gone (8.7)"],
            &["widens purpose pay: recipient partner is new (8.7), asks who consented to pay"],
        ),
        (
            &[(law, &to_state)],
            &["widens purpose law: recipient state is new (9.4)"],
            &["narrows purpose law: recipient state is gone (9.4)"],
        ),
    ]);
}
