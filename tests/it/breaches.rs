//! Breaches: registered, counted in working days, told to whom they reach by the log, and proved.

use std::{
    path::Path,
    process::{Command, Output},
};

use sandyq::{
    crypto::{digest::sha256, keyring::KeyKind},
    domain::{
        breach::{
            Addressee, BreachCause, BreachCertainty, BreachFacts, BreachKind, BreachMeasure, BreachOutcome,
            BreachState, Held, Reach,
        },
        calendar::WorkingCalendar,
        consent::Language,
        ids::{BreachId, CallerId, SubjectId},
        reference::Reference,
        rights::RightsChannel,
        time::Timestamp,
    },
    grpc::pb::{self, breach_service_client::BreachServiceClient},
    policy::{decide::Denial, model::View},
    vault::{
        access::Call,
        breaches::{BreachClosing, BreachStep, BreachSteps, BreachTold, BreachView, ListedBreaches},
        detokenize::Detokenize,
        error::VaultError,
        reconcile::Problem,
        tokenize::Tokenized,
    },
};
use tonic::transport::Channel;

use crate::{
    common::{
        backend::{Backend, on_both},
        operations::work_through,
        people::iin,
        served::{Served, reason, request_id},
        vault::{OpenVault, as_admin, asker},
    },
    reconciled::{found, reconcile},
};

async fn create(backend: &Backend, dir: &Path) -> OpenVault {
    let open = OpenVault::create(backend, dir, |store| store).await;
    open.enrol_auditor().await;
    open
}

fn facts(reach: Reach, began_at: Option<Timestamp>, ended_at: Option<Timestamp>) -> BreachFacts {
    BreachFacts {
        kind: BreachKind::Access,
        certainty: BreachCertainty::Confirmed,
        cause: BreachCause::StolenCredential,
        began_at,
        ended_at,
        reach,
        consequences: Vec::new(),
        measures: vec![BreachMeasure::CallerDisabled],
        reference: Some(Reference::parse("INC-2026/4").unwrap()),
    }
}

fn through(callers: &[CallerId]) -> Reach {
    let mut callers = callers.to_vec();
    callers.sort_unstable();
    Reach { callers, held: None }
}

const fn held(held: Held) -> Reach {
    Reach { callers: Vec::new(), held: Some(held) }
}

/// People of a stream, and the result or refusal that ends it.
async fn drain(mut steps: BreachSteps) -> (Vec<SubjectId>, Result<BreachView, VaultError>) {
    let mut people = Vec::new();
    while let Some(step) = steps.recv().await {
        match step {
            Ok(BreachStep::Progress { .. }) => {}
            Ok(BreachStep::Subjects(some)) => people.extend(some),
            Ok(BreachStep::Result(view)) => return (people, Ok(*view)),
            Err(error) => return (people, Err(error)),
        }
    }
    panic!("the stream ended without a result")
}

impl OpenVault {
    async fn open_breach(&self, facts: BreachFacts) -> Result<BreachView, VaultError> {
        let found_at = self.clock.now();
        self.vault.open_breach(&self.admin(), as_admin(), "lerna", found_at, facts).await
    }

    async fn assess(&self, id: BreachId) -> Result<BreachView, VaultError> {
        let (steps, assessment) = self.vault.begin_assessment(&self.admin(), as_admin(), "lerna", id).await?;
        let ((), (people, result)) = tokio::join!(self.vault.assess_breach(assessment), drain(steps));
        assert!(people.is_empty(), "an assessment counts, and names nobody");
        result
    }

    /// People that a breach reaches, registered and assessed here.
    async fn reached(&self, facts: BreachFacts) -> Vec<SubjectId> {
        let id = self.open_breach(facts).await.unwrap().breach.id;
        let scope = self.assess(id).await.unwrap().breach.scope.unwrap();
        let people = self.people_of(id).await.unwrap();
        assert_eq!(scope.subjects, u64::try_from(people.len()).unwrap());
        let ids: Vec<u8> = people.iter().flat_map(|id| *id.as_bytes()).collect();
        assert_eq!(scope.subjects_sha256, sha256(&ids));
        people
    }

    async fn people_of(&self, id: BreachId) -> Result<Vec<SubjectId>, VaultError> {
        let steps = self.vault.breach_subjects(&self.admin(), as_admin(), "lerna", id).await?;
        let (people, result) = drain(steps).await;
        result.map(|_| people)
    }

    async fn tell(&self, id: BreachId, whom: Addressee) -> Result<BreachView, VaultError> {
        let told = BreachTold {
            whom,
            at: self.clock.now(),
            channel: RightsChannel::StateService,
            language: Language::Ru,
            reference: None,
            enclosure_sha256: Some([4; 32]),
        };
        self.vault.report_breach(&self.admin(), as_admin(), "lerna", id, told).await
    }

    async fn settle(&self, id: BreachId) -> Result<BreachView, VaultError> {
        let closing = BreachClosing { outcome: BreachOutcome::Settled, ground: None };
        self.vault.close_breach(&self.admin(), as_admin(), "lerna", id, closing).await
    }

    async fn listed_breaches(&self, which: ListedBreaches) -> Vec<BreachId> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page =
                self.vault.breaches(&self.admin(), as_admin(), "lerna", which, after, 1).await.unwrap();
            all.extend(page.0.into_iter().map(|view| view.breach.id));
            after = page.1;
            if after.is_none() {
                return all;
            }
        }
    }

    /// A later moment than everything in the log.
    fn later(&self) -> Timestamp {
        self.clock.advance(1_000_000);
        self.clock.now()
    }
}

on_both!(r28_whom_a_breach_reaches_is_found_in_the_log_and_told_in_time);
/// From the finding to the end: who was read by the stolen certificate in that time, and nobody else.
async fn r28_whom_a_breach_reaches_is_found_in_the_log_and_told_in_time(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let mut stored = Vec::new();
    for number in 1..=4 {
        stored.push(open.store_iin(number).await);
    }
    let read = async |at: usize| open.detokenize(&stored[at].tokens[0].token).await.unwrap();
    read(3).await;
    let began = open.later();
    open.later();
    read(0).await;
    read(1).await;
    read(0).await;
    // Denied is not told; and another caller is not the one that was stolen.
    let other = open.vault.detokenize(&open.caller("support"), asker("support"), question(&stored[2])).await;
    assert!(other.unwrap().iter().all(Result::is_err));
    open.later();
    let ended = open.later();
    open.later();
    read(2).await;

    let payments = open.caller("payments").id;
    let view = open.open_breach(facts(through(&[payments]), Some(began), Some(ended))).await.unwrap();
    let (id, due_at) = (view.breach.id, view.breach.due_at);
    assert_eq!((view.breach.working_days, view.breach.clause.as_str()), (1, "94-V 25(2)(8); 481/НҚ"));
    assert_eq!(due_at, WorkingCalendar::kazakhstan().end_of(view.breach.found_at, 1));
    assert_eq!(open.people_of(id).await, Err(Denial::BreachNotAssessed.into()));
    assert_eq!(open.tell(id, Addressee::Subjects).await, Err(Denial::BreachNotAssessed.into()));

    let assessed = open.assess(id).await.unwrap().breach.scope.unwrap();
    assert_eq!((assessed.subjects, assessed.entries), (2, 3));
    assert_eq!(assessed.fields, ["iin".parse().unwrap()]);
    assert_eq!(assessed.purposes, ["payments".parse().unwrap()]);
    assert!(assessed.recipients.is_empty(), "nothing left the platform");
    let mut expected = vec![stored[0].subject, stored[1].subject];
    expected.sort_unstable();
    assert_eq!(open.people_of(id).await.unwrap(), expected);

    // Late is told as late: in the list, in the metric, and in the breach for good.
    assert_eq!(open.listed_breaches(ListedBreaches::Overdue).await, []);
    open.clock.advance(due_at.as_micros() - open.clock.now().as_micros());
    assert_eq!(open.listed_breaches(ListedBreaches::Overdue).await, [id]);
    let counted = async || {
        open.vault.sample().await.unwrap();
        open.vault
            .meters()
            .open_registers()
            .breaches
            .iter()
            .map(|open| (open.count, open.overdue))
            .collect::<Vec<_>>()
    };
    assert_eq!(counted().await, [(1, 1)]);
    assert_eq!(open.settle(id).await, Err(Denial::BreachNotTold.into()));
    let told = open.tell(id, Addressee::Authority).await.unwrap();
    assert!(!told.overdue && told.breach.was_late());
    let notice = told.authority_notice.unwrap();
    assert!(notice.contains("ТОО «Ньюскилз», 210140019844") && notice.contains("Затронуто субъектов: 2."));
    assert_eq!(told.breach.authority.unwrap().notice_sha256, sha256(notice.as_bytes()));
    assert_eq!(counted().await, [(1, 0)]);
    assert_eq!(open.tell(id, Addressee::Authority).await, Err(Denial::BreachToldBefore.into()));
    assert_eq!(open.settle(id).await, Err(Denial::BreachNotTold.into()), "the people were not");
    open.tell(id, Addressee::Subjects).await.unwrap();
    let closed = open.settle(id).await.unwrap();
    assert_eq!(closed.breach.state(), BreachState::Closed);
    assert_eq!(open.assess(id).await, Err(Denial::BreachClosed.into()));
    assert_eq!(open.listed_breaches(ListedBreaches::Open).await, []);
    assert_eq!(open.listed_breaches(ListedBreaches::All).await, [id]);
    assert_eq!(counted().await, []);
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "log and rows agree");
}

fn question(stored: &Tokenized) -> Detokenize {
    Detokenize {
        tokens: vec![sandyq::domain::token::AnyToken::parse(&stored.tokens[0].token.reveal())],
        purpose: "payments".parse().unwrap(),
        view: View::Full,
        age_years: 0,
        recipient: None,
        outreach: None,
        reference: None,
        sealed: false,
        call: Call::Detokenize,
    }
}

on_both!(a_key_version_reaches_whoever_was_wrapped_under_it);
async fn a_key_version_reaches_whoever_was_wrapped_under_it(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let first = open.store_iin(1).await.subject;
    open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    work_through(&open).await;
    open.later();
    let second = open.store_iin(2).await.subject;
    let now = open.later();
    open.later();
    let third = open.store_iin(3).await.subject;
    let sorted = |mut ids: Vec<SubjectId>| {
        ids.sort_unstable();
        ids
    };
    let under = |version| facts(held(Held::UnderKey(version)), None, None);
    assert_eq!(open.reached(under(1)).await, [first]);
    assert_eq!(open.reached(under(2)).await, sorted(vec![first, second, third]));
    let until = |reach| facts(reach, None, Some(now));
    assert_eq!(open.reached(until(held(Held::UnderKey(2)))).await, sorted(vec![first, second]));
    assert_eq!(open.reached(until(held(Held::Everyone))).await, sorted(vec![first, second]));
    assert_eq!(open.open_breach(under(3)).await, Err(Denial::KeyNotFound.into()));
    let stranger = facts(through(&[CallerId::from_bytes([9; 16])]), None, None);
    assert_eq!(open.open_breach(stranger).await, Err(Denial::CallerNotFound.into()));
}

on_both!(a_scope_longer_than_a_page_is_whole);
/// The log is read by pages of a thousand entries: what counts lies on both sides of a border.
async fn a_scope_longer_than_a_page_is_whole(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let stored = open.store_iin(1).await;
    let last = open.store_iin(2).await;
    for _ in 0..3 {
        let tokens = (0..700).flat_map(|_| question(&stored).tokens).collect();
        let many = Detokenize { tokens, call: Call::BatchDetokenize, ..question(&stored) };
        open.vault.detokenize(&open.caller("payments"), asker("payments"), many).await.unwrap();
    }
    open.detokenize(&last.tokens[0].token).await.unwrap();
    let reach = through(&[open.caller("payments").id]);
    let id = open.open_breach(facts(reach, None, None)).await.unwrap().breach.id;
    let scope = open.assess(id).await.unwrap().breach.scope.unwrap();
    assert_eq!((scope.entries, scope.subjects), (2_101, 2));
    // What is read after that is no part of it, so the list stays the one that is registered.
    let third = open.store_iin(3).await;
    open.detokenize(&third.tokens[0].token).await.unwrap();
    let mut expected = vec![stored.subject, last.subject];
    expected.sort_unstable();
    assert_eq!(open.people_of(id).await.unwrap(), expected);
    assert_eq!(open.assess(id).await.unwrap().breach.scope.unwrap().subjects, 3);
}

on_both!(a_breach_edited_behind_the_vault_is_found);
async fn a_breach_edited_behind_the_vault_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let stored = open.store_iin(1).await;
    open.detokenize(&stored.tokens[0].token).await.unwrap();
    let reach = || through(&[open.caller("payments").id]);
    let one = open.open_breach(facts(reach(), None, None)).await.unwrap().breach.id;
    let gone = open.open_breach(facts(held(Held::Everyone), None, None)).await.unwrap().breach.id;
    open.assess(one).await.unwrap();
    let edit = async |sql: &str| backend.sql(dir.path(), sql).await;
    let get = async |id| open.vault.breach(&open.admin(), as_admin(), "lerna", id).await;
    for (there, back) in [
        ("due_at = due_at + 86400000000", "due_at = due_at - 86400000000"),
        ("subjects = 0", "subjects = 1"),
        ("callers = ''", ""),
    ] {
        let caller = reach().callers[0];
        let back = if back.is_empty() { format!("callers = '{caller}'") } else { back.to_owned() };
        assert_eq!(edit(&format!("UPDATE breaches SET {there} WHERE everyone = 0")).await, 1);
        assert_eq!(get(one).await, Err(Denial::DataDamaged.into()), "{there}");
        assert_eq!(open.tell(one, Addressee::Authority).await, Err(Denial::DataDamaged.into()), "{there}");
        edit(&format!("UPDATE breaches SET {back} WHERE everyone = 0")).await;
        assert!(get(one).await.is_ok(), "{back}");
    }

    // A read that somebody wrote another entry over: the list is not the one that was registered.
    let permits = open.people_of(one).await.unwrap();
    assert_eq!(permits.len(), 1);
    edit("CREATE TABLE kept AS SELECT * FROM audit_entries WHERE platform_id = 1").await;
    let mut seen = false;
    for position in 1.. {
        let over = |of: u32| {
            format!(
                "UPDATE audit_entries SET entry = (SELECT entry FROM kept WHERE position = {of}) \
                 WHERE platform_id = 1 AND position = {position} AND position IN (SELECT position FROM kept)"
            )
        };
        if edit(&over(0)).await == 0 {
            break;
        }
        seen |= open.people_of(one).await == Err(Denial::DataDamaged.into());
        edit(&over(position)).await;
    }
    assert!(seen, "an entry that told of the person was written over unseen");
    assert!(open.people_of(one).await.is_ok());

    // A breach that was put back to its state before, and one that somebody made vanish.
    edit("CREATE TABLE saved AS SELECT * FROM breaches WHERE everyone = 0").await;
    open.tell(one, Addressee::Authority).await.unwrap();
    edit("DELETE FROM breaches").await;
    edit("INSERT INTO breaches SELECT * FROM saved").await;
    let result = reconcile(&open, "lerna").await;
    let mut problems = found(&result);
    problems.sort_by_key(|(table, problem)| (*table, problem.as_str()));
    assert_eq!(problems, [("breaches", Problem::Missing), ("breaches", Problem::Stale)]);
    assert!(result.findings.iter().any(|finding| finding.object == gone.as_bytes()));
}

/// Friday, 27 November 2026, nine o'clock in Kazakhstan.
const FRIDAY: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_795_752_000, nanos: 0 };

async fn breaches(served: &Served, caller: &str) -> BreachServiceClient<Channel> {
    BreachServiceClient::new(served.channel(caller).await)
}

fn pb_facts() -> pb::BreachFacts {
    pb::BreachFacts {
        kind: pb::BreachKind::Disclosure.into(),
        certainty: pb::BreachCertainty::Suspected.into(),
        cause: pb::BreachCause::Unknown.into(),
        everyone: true,
        measures: vec![pb::BreachMeasure::AccessNarrowed.into()],
        reference: "INC-2026/4".into(),
        ..pb::BreachFacts::default()
    }
}

fn open_request() -> pb::OpenBreachRequest {
    pb::OpenBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        find_time: Some(FRIDAY),
        facts: Some(pb_facts()),
    }
}

fn report(breach_id: &str, to: pb::BreachAddressee) -> pb::ReportBreachRequest {
    pb::ReportBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        breach_id: breach_id.into(),
        to: to.into(),
        tell_time: Some(prost_types::Timestamp { seconds: FRIDAY.seconds + 3_600, nanos: 0 }),
        channel: pb::RightsChannel::Email.into(),
        language: "kk".into(),
        reference: "KZ-MAI/2026-117".into(),
        enclosure_sha256: vec![7; 32],
    }
}

on_both!(r28_a_breach_goes_from_its_finding_to_the_end);
async fn r28_a_breach_goes_from_its_finding_to_the_end(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let mut admin = breaches(&served, "admin").await;
    let request = open_request();
    let opened = admin.open_breach(request.clone()).await.unwrap().into_inner().breach.unwrap();
    assert_eq!(admin.open_breach(request).await.unwrap().into_inner().breach.unwrap(), opened, "replayed");
    assert_eq!(opened.due_time.unwrap().seconds, FRIDAY.seconds + 3 * 86_400 + 15 * 3_600, "end of Monday");
    assert_eq!((opened.state(), opened.overdue), (pb::BreachState::Open, false));
    let id = opened.breach_id.as_str();

    // A platform's service has nothing to do with it; the auditor looks, and changes nothing.
    let mut service = breaches(&served, "backend").await;
    let own = pb::OpenBreachRequest { platform: String::new(), ..open_request() };
    assert_eq!(reason(&service.open_breach(own).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    let mut auditor = breaches(&served, "auditor").await;
    let get = pb::GetBreachRequest { platform: "lerna".into(), breach_id: id.into() };
    assert_eq!(auditor.get_breach(get.clone()).await.unwrap().into_inner().breach.unwrap(), opened);
    let told = report(id, pb::BreachAddressee::Authority);
    assert_eq!(reason(&auditor.report_breach(told).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    let nothing =
        pb::GetBreachRequest { breach_id: BreachId::from_bytes([1; 16]).to_string(), ..get.clone() };
    assert_eq!(reason(&admin.get_breach(nothing).await.unwrap_err()), "BREACH_NOT_FOUND");

    let assess = || pb::AssessBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        breach_id: id.into(),
    };
    let mut steps = admin.assess_breach(assess()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(step) = steps.message().await.unwrap() {
        last = step.step;
    }
    let Some(pb::assess_breach_response::Step::Breach(assessed)) = last else { panic!("{last:?}") };
    let scope = assessed.scope.clone().unwrap();
    assert_eq!(scope.subjects, 1);
    assert!(scope.fields.contains(&"iin".to_owned()), "{scope:?}");
    let export = pb::ExportBreachSubjectsRequest { platform: "lerna".into(), breach_id: id.into() };
    let mut steps = auditor.export_breach_subjects(export).await.unwrap().into_inner();
    let mut people = Vec::new();
    while let Some(step) = steps.message().await.unwrap() {
        if let Some(pb::export_breach_subjects_response::Step::Subjects(some)) = step.step {
            people.extend(some.subject_ids);
        }
    }
    assert_eq!(people, std::slice::from_ref(&stored.subject));

    // A notice is written as often as somebody asks, and is what is told when it is told.
    let ask = pb::GetBreachNoticeRequest {
        platform: "lerna".into(),
        breach_id: id.into(),
        to: pb::BreachAddressee::Authority.into(),
        language: "kk".into(),
    };
    let draft = admin.get_breach_notice(ask.clone()).await.unwrap().into_inner();
    assert!(draft.text.contains("27.11.2026 09:00") && draft.text.contains("481/НҚ"), "{}", draft.text);
    assert!(draft.text.contains(id) && draft.text.contains("INC-2026/4"));
    for value in ["Сынақова", stored.subject.as_str(), "user-1", &iin(1)] {
        assert!(!draft.text.contains(value), "{value} is in {}", draft.text);
    }
    let told = report(id, pb::BreachAddressee::Authority);
    let reported = admin.report_breach(told.clone()).await.unwrap().into_inner().breach.unwrap();
    assert_eq!(admin.report_breach(told).await.unwrap().into_inner().breach.unwrap(), reported, "replayed");
    let authority = reported.authority.clone().unwrap();
    assert_eq!((&authority.notice, &authority.notice_sha256), (&draft.text, &draft.sha256));
    assert_eq!((reported.late, authority.enclosure_sha256), (false, vec![7; 32]));
    let again = report(id, pb::BreachAddressee::Authority);
    assert_eq!(reason(&admin.report_breach(again).await.unwrap_err()), "BREACH_TOLD_BEFORE");

    // More is known: other people may be reached, so the log is asked again, and the notice is another.
    let facts = pb::BreachFacts { everyone: false, key_version: 1, ..pb_facts() };
    let amend = pb::AmendBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        breach_id: id.into(),
        facts: Some(facts),
    };
    let amended = admin.amend_breach(amend).await.unwrap().into_inner().breach.unwrap();
    assert_eq!((amended.scope.as_ref(), amended.authority.unwrap().notice.as_str()), (None, ""));
    assert_ne!(admin.get_breach_notice(ask).await.unwrap().into_inner().sha256, draft.sha256);
    let close = |outcome: pb::BreachOutcome, ground: &str| pb::CloseBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        breach_id: id.into(),
        outcome: outcome.into(),
        ground: ground.into(),
    };
    let settled = pb::BreachOutcome::Settled;
    assert_eq!(reason(&admin.close_breach(close(settled, "")).await.unwrap_err()), "BREACH_NOT_ASSESSED");
    let mut steps = admin.assess_breach(assess()).await.unwrap().into_inner();
    while steps.message().await.unwrap().is_some() {}
    assert_eq!(reason(&admin.close_breach(close(settled, "")).await.unwrap_err()), "BREACH_NOT_TOLD");
    admin.report_breach(report(id, pb::BreachAddressee::Subjects)).await.unwrap();
    let no_ground = close(pb::BreachOutcome::NotConfirmed, "");
    assert_eq!(reason(&admin.close_breach(no_ground).await.unwrap_err()), "INVALID_FIELDS");
    let closed = admin.close_breach(close(settled, "ACT-17")).await.unwrap().into_inner().breach.unwrap();
    assert_eq!((closed.state(), closed.ending.unwrap().ground.as_str()), (pb::BreachState::Closed, "ACT-17"));
    assert_eq!(reason(&admin.close_breach(close(settled, "")).await.unwrap_err()), "BREACH_CLOSED");
    served.running.stop().await.unwrap();
}

/// Bad input is refused by its field, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_breach_can_be_is_refused() {
    type Change = fn(&mut pb::OpenBreachRequest);
    fn facts(m: &mut pb::OpenBreachRequest) -> &mut pb::BreachFacts {
        m.facts.as_mut().unwrap()
    }
    let served = Served::start().await;
    let mut admin = breaches(&served, "admin").await;
    let cases: Vec<Change> = vec![
        |m| m.find_time = None,
        |m| m.find_time = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        |m| m.facts = None,
        |m| facts(m).kind = 0,
        |m| facts(m).kind = 99,
        |m| facts(m).certainty = 0,
        |m| facts(m).cause = 0,
        |m| facts(m).begin_time = Some(prost_types::Timestamp { seconds: FRIDAY.seconds + 1, nanos: 0 }),
        |m| {
            facts(m).begin_time = Some(FRIDAY);
            facts(m).end_time = Some(prost_types::Timestamp { seconds: FRIDAY.seconds - 1, nanos: 0 });
        },
        |m| facts(m).key_version = 1,
        |m| facts(m).caller_ids = vec!["payments".into()],
        |m| facts(m).caller_ids = vec![CallerId::from_bytes([1; 16]).to_string(); 17],
        |m| facts(m).measures = vec![1, 1],
        |m| facts(m).consequences = vec![0],
        |m| facts(m).reference = "two words".into(),
        |m| facts(m).reference = "TEL-77011234567".into(),
    ];
    for (i, change) in cases.iter().enumerate() {
        let mut request = open_request();
        change(&mut request);
        let refused = admin.open_breach(request).await;
        assert_eq!(refused.map_err(|status| reason(&status)).unwrap_err(), "INVALID_FIELDS", "case {i}");
    }
    let all = pb::ListBreachesRequest {
        platform: "lerna".into(),
        filter: pb::BreachFilter::All.into(),
        ..pb::ListBreachesRequest::default()
    };
    assert!(admin.list_breaches(all).await.unwrap().into_inner().breaches.is_empty());
    // Of a breach that nobody knows the way into, there is nothing to look for.
    let facts = Some(pb::BreachFacts { everyone: false, ..pb_facts() });
    let opened = admin.open_breach(pb::OpenBreachRequest { facts, ..open_request() }).await.unwrap();
    let breach_id = opened.into_inner().breach.unwrap().breach_id;
    let assess = pb::AssessBreachRequest { request_id: request_id(), platform: "lerna".into(), breach_id };
    assert_eq!(reason(&admin.assess_breach(assess).await.unwrap_err()), "INVALID_FIELDS");
    served.running.stop().await.unwrap();
}

fn sandyq(dir: &Path, line: &str, breach: &str) -> Output {
    let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(dir).env("BREACH", breach);
    tokio::task::block_in_place(|| {
        shell.env("PATH", format!("{}:/usr/bin:/bin", path.display())).output().unwrap()
    })
}

/// Commands of `docs/breach.md`, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn breaches_are_handled_by_the_document() {
    let text = include_str!("../../docs/breach.md");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<_> =
        blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect();
    let served = Served::start().await;
    let stored = served.store(1).await;
    served.read("payments", "payments", stored.token("iin")).await.unwrap();
    let dir = served.running.installation.dir().to_owned();
    let (mut breach, mut said) = (String::new(), String::new());
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let ran = sandyq(&dir, command, &breach);
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{errors}");
        if command.contains("breach open") {
            out.split_whitespace().find(|word| word.starts_with("brc_")).unwrap().clone_into(&mut breach);
        }
        said = said + &out + &errors;
    }
    for expected in
        ["1 working day, 94-V 25(2)(8)", "people       1 in", "authority_told", "told", "closed", "no breach"]
    {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let list = std::fs::read_to_string(dir.join("people.txt")).unwrap();
    assert_eq!(list.trim(), stored.subject, "ids, and nothing else");
    let page = std::fs::read_to_string(dir.join("authority.html")).unwrap();
    assert!(page.contains("<html lang=\"ru\">") && page.contains("dpo@lerna.kz"), "{page}");
    for value in [&iin(1), &stored.subject] {
        assert!(!page.contains(value) && !said.contains(value), "{value}");
    }
    served.running.stop().await.unwrap();
}
