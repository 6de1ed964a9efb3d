use std::collections::BTreeSet;

use super::*;
use crate::domain::calendar::WorkingCalendar;

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(instant.as_microsecond())
}

fn opened(kind: RightKind) -> Case {
    let received_at = at("2026-11-27T09:00:00+05");
    let working_days = kind.deadline().working_days;
    Case {
        id: CaseId::from_bytes([7; 16]),
        subject: Some(SubjectId::from_bytes([9; 16])),
        kind,
        channel: RightsChannel::Email,
        site: None,
        requester: CaseRequester::Subject,
        representation: None,
        reference: None,
        received_at,
        counts_from: received_at,
        working_days,
        clause: kind.deadline().clause.to_owned(),
        calendar_sha256: [0; 32],
        due_at: WorkingCalendar::kazakhstan().end_of(received_at, working_days),
        state: CaseState::Received,
        identity: None,
        begun_at: None,
        done_at: None,
        ending: None,
        opened_at: received_at,
    }
}

fn identity() -> Identity {
    Identity {
        method: IdentityMethod::OneTimeCode,
        evidence: Reference::parse("OTP-17").unwrap(),
        at: at("2026-11-27T10:00:00+05"),
    }
}

fn ending(reasons: &[RefusalReason], reference: Option<&str>) -> Ending {
    Ending {
        at: at("2026-11-30T10:00:00+05"),
        reasons: reasons.to_vec(),
        reference: reference.map(|text| Reference::parse(text).unwrap()),
        channel: RightsChannel::Email,
        language: Language::Kk,
        notice_sha256: [1; 32],
        enclosure_sha256: None,
    }
}

fn in_work(kind: RightKind) -> Case {
    opened(kind).identified(identity(), None).unwrap().begun(at("2026-11-27T11:00:00+05")).unwrap()
}

/// Kind, days of the law, and the last day for a request of Friday, 27 November 2026.
#[test]
fn r12_r13_r34_deadlines_of_the_law() {
    for (kind, days, end) in [
        (RightKind::Access, 3, "2026-12-03"),
        (RightKind::Portability, 3, "2026-12-03"),
        (RightKind::Correction, 1, "2026-12-01"),
        (RightKind::Restriction, 1, "2026-12-01"),
        (RightKind::Erasure, 1, "2026-12-01"),
        (RightKind::Anonymisation, 1, "2026-12-01"),
        (RightKind::Objection, 3, "2026-12-03"),
        (RightKind::Withdrawal, 15, "2026-12-22"),
    ] {
        let case = opened(kind);
        assert_eq!(case.working_days, days, "{kind:?}");
        assert_eq!(case.due_at, at(&format!("{end}T00:00:00+05")), "{kind:?}");
        assert!(!case.is_overdue(case.due_at.plus_micros(-1)), "{kind:?}: its last day is its own");
        assert!(case.is_overdue(case.due_at), "{kind:?}");
    }
}

/// The days of what needs proof count from its receipt, and those of nothing else.
#[test]
fn r12_days_count_from_proof() {
    let calendar = WorkingCalendar::kazakhstan();
    let proven_at = at("2026-12-04T17:00:00+05");
    for kind in RightKind::ALL.iter().copied() {
        let case = opened(kind);
        let proof = Some((proven_at, calendar.end_of(proven_at, case.working_days)));
        let checked = case.identified(identity(), proof).unwrap();
        let moved = matches!(kind, RightKind::Correction | RightKind::Erasure | RightKind::Anonymisation);
        assert_eq!(checked.due_at != case.due_at, moved, "{kind:?}");
        if moved {
            assert_eq!(checked.due_at, at("2026-12-08T00:00:00+05"), "Friday's next working day is Monday");
        }
        let before = case.identified(identity(), Some((at("2026-11-01T00:00:00+05"), proven_at))).unwrap();
        assert_eq!(before.due_at, case.due_at, "{kind:?}: proof that came with the request moves nothing");
    }
}

/// Each step from each state: what it leads to.
#[test]
fn r40_steps_come_in_their_order() {
    use CaseState::{Answered, IdentityChecked, InWork, Received, Refused};
    use Misstep::{Ended, NotDone, OutOfOrder};
    let at_noon = at("2026-11-27T12:00:00+05");
    let checked = opened(RightKind::Erasure).identified(identity(), None).unwrap();
    let work = in_work(RightKind::Erasure);
    let done = work.done(at_noon).unwrap();
    let answered = done.ended(ending(&[], None)).unwrap();
    let refused = work.ended(ending(&[RefusalReason::NoData], None)).unwrap();
    let table = [
        (
            opened(RightKind::Erasure),
            [Ok(IdentityChecked), Err(OutOfOrder), Err(OutOfOrder), Err(OutOfOrder), Ok(Refused)],
        ),
        (checked, [Err(OutOfOrder), Ok(InWork), Err(OutOfOrder), Err(OutOfOrder), Ok(Refused)]),
        // Nobody is told that it is done before it is, and what is done is not refused.
        (work, [Err(OutOfOrder), Err(OutOfOrder), Ok(InWork), Err(NotDone), Ok(Refused)]),
        (done, [Err(OutOfOrder), Err(OutOfOrder), Err(OutOfOrder), Ok(Answered), Err(OutOfOrder)]),
        (answered, [Err(Ended); 5]),
        (refused, [Err(Ended); 5]),
    ];
    for (case, expected) in table {
        let steps = [
            case.identified(identity(), None),
            case.begun(at("2026-11-27T11:00:00+05")),
            case.done(at_noon),
            case.ended(ending(&[], None)),
            case.ended(ending(&[RefusalReason::NoData], None)),
        ];
        assert_eq!(steps.map(|step| step.map(|next| next.state)), expected, "{:?}", case.state);
        assert_eq!(case.is_open(), !matches!(case.state, Answered | Refused));
        assert_eq!(
            case.is_overdue(at("2030-01-01T00:00:00+05")),
            case.state != Answered && case.state != Refused
        );
        assert_eq!(case.state == Received, case.identity.is_none());
    }
}

/// Which reasons refuse which request: information is never withheld for an obligation or a law of keeping (rule R54).
#[test]
fn r14_r54_refusals_have_reasons_that_fit() {
    use RefusalReason::{
        IdentityNotProved, LawBars, NoAutomatedDecision, NoData, NotConfirmed, ObligationUnfulfilled,
    };
    let table: [(RightKind, &[RefusalReason]); 8] = [
        (RightKind::Access, &[IdentityNotProved, NoData]),
        (RightKind::Correction, &[IdentityNotProved, NoData, NotConfirmed]),
        (RightKind::Restriction, &[IdentityNotProved, NoData, NotConfirmed]),
        (RightKind::Portability, &[IdentityNotProved, NoData]),
        (RightKind::Erasure, &[IdentityNotProved, NoData, NotConfirmed, LawBars, ObligationUnfulfilled]),
        (RightKind::Anonymisation, &[IdentityNotProved, NoData, LawBars, ObligationUnfulfilled]),
        (RightKind::Objection, &[IdentityNotProved, LawBars, NoAutomatedDecision]),
        (RightKind::Withdrawal, &[IdentityNotProved, NoData, LawBars, ObligationUnfulfilled]),
    ];
    for (kind, allowed) in table {
        for reason in RefusalReason::ALL.iter().copied() {
            let case = if reason == IdentityNotProved { opened(kind) } else { in_work(kind) };
            let refused = case.ended(ending(&[reason], Some("NK-2025/211")));
            let expected =
                if allowed.contains(&reason) { Ok(CaseState::Refused) } else { Err(Misstep::Reason(reason)) };
            assert_eq!(refused.map(|case| case.state), expected, "{kind:?}: {reason:?}");
        }
    }
    for reason in [LawBars, ObligationUnfulfilled] {
        let refused = in_work(RightKind::Erasure).ended(ending(&[reason], None));
        assert_eq!(refused, Err(Misstep::ReferenceMissing), "{reason:?} names the law or the contract");
    }
    let known = in_work(RightKind::Access).ended(ending(&[IdentityNotProved], None));
    assert_eq!(known, Err(Misstep::Reason(IdentityNotProved)), "who asks was found out already");
}

/// Every notice says in its language what was asked, what came of it and where to complain, and names nobody.
#[test]
fn r14_notices_are_told_apart_in_each_language() {
    let reference = Reference::parse("CASE-17").unwrap();
    let mut seen = BTreeSet::new();
    for language in [Language::Kk, Language::Ru, Language::En] {
        for kind in RightKind::ALL.iter().copied() {
            let answers = std::iter::once(&[][..]);
            let refusals = RefusalReason::ALL.chunks(1).filter(|reason| kind.allows(reason[0]));
            for reasons in answers.chain(refusals) {
                let notice = Notice {
                    operator: "ТОО «Сынақ»",
                    case: CaseId::from_bytes([7; 16]),
                    reference: Some(&reference),
                    kind,
                    received_at: at("2026-11-27T00:30:00+05"),
                    ended_at: at("2026-12-01T09:00:00+05"),
                    reasons,
                    ground: None,
                };
                let text = notice.text(language);
                assert!(text.contains("ТОО «Сынақ»") && text.contains("CASE-17"), "{text}");
                let day = if language == Language::En { "2026-11-27" } else { "27.11.2026" };
                assert!(text.contains(day), "the day in Kazakhstan: {text}");
                assert!(!text.contains(": .") && !text.contains("- ."), "no empty words: {text}");
                assert!(
                    seen.insert(text),
                    "another request has this notice: {language:?} {kind:?} {reasons:?}"
                );
            }
        }
    }
    let per_language = RightKind::ALL.len() + 2 + 3 + 3 + 2 + 5 + 4 + 3 + 4;
    assert_eq!(seen.len(), 3 * per_language);
}
