use super::*;
use crate::domain::{field::FieldType, ids::PlatformId, platform::Platform};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// Friday, 27 November 2026, nine o'clock in Kazakhstan.
const FOUND: Timestamp = Timestamp::from_micros(1_795_752_000_000_000);

fn breach() -> Breach {
    Breach {
        id: BreachId::from_bytes([7; 16]),
        facts: BreachFacts {
            kind: BreachKind::Access,
            certainty: BreachCertainty::Suspected,
            cause: BreachCause::StolenCredential,
            began_at: Some(FOUND.plus_micros(-2 * DAY)),
            ended_at: Some(FOUND.plus_micros(-DAY)),
            reach: Reach { callers: vec![CallerId::from_bytes([1; 16])], held: None },
            consequences: vec![BreachConsequence::Fraud],
            measures: vec![BreachMeasure::CallerDisabled, BreachMeasure::KeysReplaced],
            reference: Some(Reference::parse("INC-2026/4").unwrap()),
        },
        found_at: FOUND,
        working_days: NOTICE_WITHIN.0,
        clause: NOTICE_WITHIN.1.to_owned(),
        calendar_sha256: [3; 32],
        due_at: FOUND.plus_micros(4 * DAY),
        scope: None,
        authority: None,
        subjects: None,
        end: None,
        opened_at: FOUND,
    }
}

fn scope(subjects: u64) -> BreachScope {
    BreachScope {
        at: FOUND,
        log_size: 100,
        entries: 40,
        subjects,
        subjects_sha256: [9; 32],
        fields: vec!["iin".parse().unwrap()],
        purposes: vec!["payments".parse().unwrap()],
        recipients: Vec::new(),
    }
}

fn told(at: Timestamp) -> Told {
    Told {
        at,
        channel: RightsChannel::StateService,
        reference: None,
        language: Language::Ru,
        notice_sha256: [5; 32],
        enclosure_sha256: None,
    }
}

fn end(outcome: BreachOutcome, ground: Option<&str>) -> BreachEnd {
    let ground = ground.map(|text| Reference::parse(text).unwrap());
    BreachEnd { at: FOUND.plus_micros(DAY), outcome, ground }
}

#[test]
fn r28_nothing_is_settled_before_everybody_is_told() {
    let open = breach();
    assert_eq!(open.state(), BreachState::Open);
    let settled = || end(BreachOutcome::Settled, None);
    assert_eq!(open.closed(settled()), Err(BreachMisstep::NotTold(Addressee::Authority)));
    let early = told(FOUND.plus_micros(-1));
    assert_eq!(open.reported(Addressee::Authority, early), Err(BreachMisstep::ToldTooEarly));
    let authority = open.reported(Addressee::Authority, told(FOUND)).unwrap();
    assert_eq!(authority.state(), BreachState::AuthorityTold);
    let again = authority.reported(Addressee::Authority, told(FOUND));
    assert_eq!(again, Err(BreachMisstep::ToldBefore));
    assert_eq!(authority.closed(settled()), Err(BreachMisstep::NotAssessed));
    let people = authority.reported(Addressee::Subjects, told(FOUND));
    assert_eq!(people, Err(BreachMisstep::NotAssessed), "nobody knows who they are");

    let assessed = authority.assessed(scope(2)).unwrap();
    assert_eq!(assessed.closed(settled()), Err(BreachMisstep::NotTold(Addressee::Subjects)));
    let both = assessed.reported(Addressee::Subjects, told(FOUND)).unwrap();
    assert_eq!(both.state(), BreachState::Told);
    let closed = both.closed(settled()).unwrap();
    assert_eq!(closed.state(), BreachState::Closed);
    assert_eq!(closed.amended(breach().facts), Err(BreachMisstep::Closed));
    assert_eq!(closed.assessed(scope(1)), Err(BreachMisstep::Closed));

    // Nobody is reached: nobody but the authority is told.
    assert!(authority.assessed(scope(0)).unwrap().closed(settled()).is_ok());
    // What there never was needs no notice, and a decision that says so.
    let none = |ground| open.closed(end(BreachOutcome::NotConfirmed, ground));
    assert_eq!(none(None), Err(BreachMisstep::GroundMissing));
    assert!(none(Some("ACT-17")).is_ok());
}

#[test]
fn the_day_is_over_at_its_end_and_not_before() {
    let open = breach();
    assert!(!open.is_overdue(open.due_at.plus_micros(-1)));
    assert!(open.is_overdue(open.due_at));
    let in_time = open.reported(Addressee::Authority, told(open.due_at.plus_micros(-1))).unwrap();
    assert!(!in_time.is_overdue(open.due_at) && !in_time.was_late());
    let late = open.reported(Addressee::Authority, told(open.due_at)).unwrap();
    assert!(!late.is_overdue(open.due_at) && late.was_late());
    assert!(!open.closed(end(BreachOutcome::NotConfirmed, Some("A"))).unwrap().is_overdue(open.due_at));
}

#[test]
fn what_the_log_told_stands_only_for_the_same_question() {
    let assessed = breach().assessed(scope(2)).unwrap();
    let amend = |change: &dyn Fn(&mut BreachFacts)| {
        let mut facts = assessed.facts.clone();
        change(&mut facts);
        assessed.amended(facts).unwrap().scope.is_some()
    };
    assert!(amend(&|facts| facts.measures.push(BreachMeasure::PoliceTold)));
    assert!(amend(&|facts| facts.kind = BreachKind::Disclosure), "reads count for both");
    assert!(!amend(&|facts| facts.kind = BreachKind::Alteration), "changes count now");
    assert!(!amend(&|facts| facts.ended_at = None));
    assert!(!amend(&|facts| facts.reach.held = Some(Held::UnderKey(1))));
    let mut facts = assessed.facts.clone();
    facts.began_at = Some(FOUND.plus_micros(1));
    assert_eq!(facts.check(FOUND).unwrap_err().0, "begin_time");
    facts.began_at = Some(FOUND);
    assert_eq!(facts.check(FOUND).unwrap_err().0, "end_time", "it ended before it began");
    facts.ended_at = None;
    assert_eq!(facts.check(FOUND), Ok(()));
}

#[test]
fn r28_notices_say_what_the_rules_ask_for() {
    let operator = Platform {
        id: PlatformId::new(1),
        name: "lerna".parse().unwrap(),
        legal_name: "ТОО «Ньюскилз»".to_owned(),
        bin: "210140019844".to_owned(),
        created_at: FOUND,
    };
    let open = breach();
    let assessed = open.assessed(scope(2)).unwrap();
    let fields = [("iin".parse().unwrap(), Some(FieldType::Iin)), ("old".parse().unwrap(), None)];
    for language in Language::ALL.iter().copied() {
        for to in Addressee::ALL.iter().copied() {
            let of = |breach: &Breach, fields: &[_]| {
                BreachNotice { operator: &operator, breach, fields, contact: None, to }.written(language)
            };
            let written = of(&assessed, &fields);
            assert!(written.rows.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
            let text = written.text();
            for expected in ["ТОО «Ньюскилз», 210140019844", "INC-2026/4", "________", "(iin), old"]
            {
                assert!(text.contains(expected), "{expected} is not in\n{text}");
            }
            let when = if language == Language::En { "2026-11-27 09:00" } else { "27.11.2026 09:00" };
            assert!(text.contains(when), "{text}");
            let hash = "09".repeat(32);
            assert_eq!(text.contains("481/НҚ"), to == Addressee::Authority, "{text}");
            assert_eq!(text.contains(&hash), to == Addressee::Authority, "the list is the authority's");
            assert_eq!(text, of(&assessed, &fields).text(), "it can be made again");
            assert_ne!(text, of(&open, &[]).text(), "what is not known is not said");
        }
    }
}

#[test]
fn every_code_has_its_words_in_each_language() {
    let operator = Platform {
        id: PlatformId::new(1),
        name: "lerna".parse().unwrap(),
        legal_name: "X".to_owned(),
        bin: "210140019844".to_owned(),
        created_at: FOUND,
    };
    for language in Language::ALL.iter().copied() {
        let mut seen = std::collections::BTreeSet::new();
        let mut say = |facts: BreachFacts| {
            let breach = Breach { facts, scope: Some(scope(1)), ..breach() };
            let to = Addressee::Authority;
            let notice =
                BreachNotice { operator: &operator, breach: &breach, fields: &[], contact: Some("DPO"), to };
            let written = notice.written(language);
            assert!(written.rows.iter().all(|(_, value)| !value.is_empty()), "{written:?}");
            assert!(written.rows.iter().any(|(_, value)| value == "DPO"), "{written:?}");
            assert!(seen.insert(written.text()), "two codes have the same words: {}", written.text());
        };
        let facts = || breach().facts;
        for kind in BreachKind::ALL {
            say(BreachFacts { kind: *kind, ..facts() });
        }
        let others = BreachCause::ALL.iter().filter(|cause| **cause != BreachCause::StolenCredential);
        others.for_each(|cause| say(BreachFacts { cause: *cause, ..facts() }));
        say(BreachFacts { certainty: BreachCertainty::Confirmed, ..facts() });
        let others = BreachConsequence::ALL.iter().filter(|one| **one != BreachConsequence::Fraud);
        others.for_each(|one| say(BreachFacts { consequences: vec![*one], ..facts() }));
        for measure in BreachMeasure::ALL {
            say(BreachFacts { measures: vec![*measure], ..facts() });
        }
    }
}
