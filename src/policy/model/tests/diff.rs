//! What a new version widens, and whom it asks: one change of the shipped file at a time; and the page of a policy.

use super::*;

/// The changes that a text makes to LERNA.
fn of(from: &str, to: &str) -> Vec<Change> {
    let (text, _) = changed(from, to);
    diff(&Policy::parse(LERNA).unwrap(), &Policy::parse(&text).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn r30_what_is_wider_asks_again_and_old_consents_keep_their_scope() {
    use Effect::{Changes, Narrows, Widens};
    let payments = || Asks::ConsentedTo("payments".parse().unwrap());
    let bank = "{ kind = \"bank\", clause = \"9.2\", encrypted = true, fields = [\"surname\", \"first_name\", \"iin\"] }";
    let bank_with = |part: &str| format!("{{ kind = \"bank\", clause = \"9.2\", {part} }}");
    let status = "{ name = \"payment_status\", given = \"stated\", clause = \"5.4\" },";
    let with_phone = format!("{status}\n{{ name = \"phone\", given = \"inferred\", clause = \"1\" }},");
    let rows: Vec<(&str, String, Effect, &str, &str, Asks)> = vec![
        (status, with_phone, Widens, "purpose payments", "field phone is new", payments()),
        (
            bank,
            bank_with("encrypted = true"),
            Widens,
            "purpose payments, recipient bank",
            "field payment_status is new",
            payments(),
        ),
        (
            bank,
            bank_with("fields = [\"surname\", \"first_name\", \"iin\"]"),
            Widens,
            "purpose payments, recipient bank",
            "not sealed",
            Asks::Nobody,
        ),
        (
            bank,
            bank_with("country = \"any\", encrypted = true, fields = [\"surname\", \"first_name\", \"iin\"]"),
            Widens,
            "purpose payments, recipient bank",
            "may be abroad",
            payments(),
        ),
        (
            bank,
            format!("{bank}, {{ kind = \"partner\", clause = \"1\" }}"),
            Widens,
            "purpose payments",
            "recipient partner is new",
            payments(),
        ),
        (
            "callers = [\"payments\"]",
            "callers = [\"payments\", \"support\"]".into(),
            Widens,
            "purpose payments",
            "caller support is new",
            Asks::Nobody,
        ),
        ("min_age = 18", "min_age = 16".into(), Widens, "subject", "least age 16, was 18", Asks::Nobody),
        (
            "years = 3\nafter = \"consent\"",
            "years = 5\nafter = \"consent\"".into(),
            Widens,
            "cap",
            "ends 5 years after consent",
            Asks::Nobody,
        ),
        (
            "years = 3\nafter = \"consent\"",
            "months = 30\nafter = \"consent\"".into(),
            Narrows,
            "cap",
            "ends 30 months after consent",
            Asks::Nobody,
        ),
        (
            "    { after = \"account_deleted\", clause = \"7.1(ж)\" },\n",
            String::new(),
            Widens,
            "purpose payments, retention",
            "ends at account_deleted: is gone",
            Asks::Nobody,
        ),
        (
            "[[ban]]\nwhat = \"genetic\"\nclause = \"5.2\"\n",
            String::new(),
            Widens,
            "ban genetic",
            "is lifted",
            Asks::Nobody,
        ),
        (
            "acts = [\"tick\"]",
            "acts = [\"tick\", \"written\"]".into(),
            Widens,
            "consent",
            "act written is new",
            Asks::Nobody,
        ),
        (
            "acts = [\"tick\"]",
            "acts = [\"tick\"]\nunclaimed_days = 30".into(),
            Narrows,
            "consent",
            "unclaimed_days: 30, was no end",
            Asks::Nobody,
        ),
        (
            "name = \"other_services\"\nclause = \"7.1(з)\"",
            "name = \"still_others\"\nclause = \"7.1(з)\"".into(),
            Changes,
            "purpose still_others",
            "is new and inert",
            Asks::Nobody,
        ),
        (
            "name = \"bank_credit\"",
            "name = \"bank_loans\"".into(),
            Widens,
            "purpose bank_loans",
            "is new, on the basis of consent: email, first_name, phone, surname",
            Asks::ForNew("bank_loans".parse().unwrap()),
        ),
        (
            "name = \"bank_credit\"",
            "name = \"bank_loans\"".into(),
            Narrows,
            "purpose bank_credit",
            "nobody reads",
            Asks::Nobody,
        ),
    ];
    for (from, to, effect, place, what, asks) in rows {
        let changes = of(from, &to);
        let found = changes.iter().find(|c| c.place == place && c.what.contains(what));
        let found = found.unwrap_or_else(|| panic!("{place}: {what}: {changes:#?}"));
        assert_eq!((found.effect, &found.asks), (effect, &asks), "{found:?}");
        assert!(!found.clause.is_empty(), "{found:?}");
        assert!(changes.is_sorted_by_key(|change| change.effect));
    }
    assert_eq!(of("number = 1\n", "number = 2\n"), []);
}

/// Where one change alone would be no policy.
#[test]
fn less_is_asked_for_and_a_form_is_asked_for() {
    let parse = |text: &str| Policy::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let find = |old: &str, new: &str, what: &str| {
        let changes = diff(&parse(old), &parse(new));
        let found = changes.iter().find(|c| c.place == "purpose payments" && c.what.contains(what));
        let found = found.unwrap_or_else(|| panic!("{what}: {changes:#?}"));
        (found.effect, found.asks.clone())
    };
    let status = "{ name = \"payment_status\", given = \"stated\", clause = \"5.4\" },";
    let phone = format!("{status}\n{{ name = \"phone\", given = \"inferred\", clause = \"1\" }},");
    let (more, _) = changed(status, &phone);
    assert_eq!(find(&more, LERNA, "field phone is gone"), (Effect::Narrows, Asks::Nobody));
    let (signed, _) = changed("acts = [\"tick\"]", "acts = [\"tick\", \"written\"]");
    let written = signed.replacen("callers = [\"payments\"]", "callers = [\"payments\"]\nwritten = true", 1);
    let asked = Asks::ConsentedTo("payments".parse().unwrap());
    assert_eq!(find(&signed, &written, "written is set"), (Effect::Narrows, asked));
}

/// A channel and a sender are each consented to by themselves (rule R5), and so is the first that is named at all.
#[test]
fn r5_a_new_channel_or_sender_asks_anew() {
    let call = "{ name = \"call\", given = \"stated\", clause = \"7.1(г)\" },\n]";
    let more = "{ name = \"call\", given = \"stated\", clause = \"7.1(г)\" }, { name = \"sms\", given = \"stated\", clause = \"1\" },\n]\n\
                senders = [{ name = \"operator\", clause = \"1\" }, { name = \"bank\", clause = \"1\" }]";
    let (old, new) = (Policy::parse(LERNA).unwrap(), Policy::parse(&changed(call, more).0).unwrap());
    let told = |from: &Policy, to: &Policy| -> Vec<_> {
        diff(from, to).into_iter().map(|c| (c.effect, c.what, c.asks)).collect()
    };
    let asked = || Asks::ConsentedTo("marketing_mail".parse().unwrap());
    let wider = [("channel sms is new"), ("sender bank is new")];
    assert_eq!(told(&old, &new), wider.map(|what| (Effect::Widens, what.to_owned(), asked())));
    let narrower = [("channel sms is gone"), ("sender bank is gone")];
    assert_eq!(told(&new, &old), narrower.map(|what| (Effect::Narrows, what.to_owned(), Asks::Nobody)));

    let start = LERNA.rfind("channels = [").unwrap();
    let end = start + LERNA[start..].find("]\n").unwrap() + 2;
    let silent = format!("{}{}", &LERNA[..start], &LERNA[end..]);
    let before = Policy::applied(&silent).unwrap();
    assert_eq!(
        told(&before, &old),
        [(Effect::Narrows, "reaches people by email, call alone".to_owned(), asked())]
    );
    let what = "does not say any more by which channels it reaches people".to_owned();
    assert_eq!(told(&old, &before), [(Effect::Widens, what, asked())]);
}

/// Both ways round, a change widens one way and narrows the other.
#[test]
fn what_one_version_widens_its_return_narrows() {
    let old = Policy::parse(LERNA).unwrap();
    for (from, to) in [
        ("min_age = 18", "min_age = 16"),
        ("callers = [\"payments\"]", "callers = [\"payments\", \"support\"]"),
        ("views = [\"full\", \"masked\"]", "views = [\"full\", \"masked\", \"sex\"]"),
        ("years = 3\nafter = \"consent\"", "years = 4\nafter = \"consent\""),
    ] {
        let new = Policy::parse(&changed(from, to).0).unwrap();
        assert!(diff(&old, &new).iter().all(|change| change.effect == Effect::Widens), "{to}");
        assert!(diff(&new, &old).iter().all(|change| change.effect == Effect::Narrows), "{to}");
        assert_eq!(diff(&old, &new).len(), 1, "{to}");
    }
}

#[test]
fn a_policy_is_shown_whole_in_three_languages() {
    let policy = Policy::parse(LERNA).unwrap();
    let pages = [Language::En, Language::Ru, Language::Kk].map(|language| show(&policy, language));
    for (page, heading) in pages.iter().zip(["Purposes", "Цели", "Мақсаттар"]) {
        assert_eq!(page.len(), pages[0].len());
        assert!(page.iter().any(|line| line.depth == 0 && line.text == heading), "{heading}");
        let text = page.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
        for (name, purpose) in policy.purposes() {
            assert!(text.contains(&format!("{name} ({})", purpose.clause)), "{name}");
            assert!(
                purpose.fields().all(|(field, tied)| text.contains(&format!("{field} ({}", tied.clause)))
            );
        }
        assert!(policy.bans().iter().all(|ban| text.contains(ban.what.as_str())));
        assert!(text.contains("ends 3 years after consent (7.3)"), "{text}");
        assert!(text.contains("email (7.1(г)), call (7.1(г))"), "{text}");
    }
}
