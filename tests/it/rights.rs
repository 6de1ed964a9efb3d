//! Requests of people: registered, counted in working days, answered in their order, and proved.

use std::{
    path::Path,
    process::{Command, Output},
};

use sandyq::{
    domain::{
        calendar::WorkingCalendar,
        consent::Language,
        ids::CaseId,
        reference::Reference,
        rights::{CaseRequester, CaseState, IdentityMethod, RefusalReason, RightKind, RightsChannel},
        secret::Plaintext,
        subject::ValueSource,
        token::AnyToken,
    },
    grpc::pb::{self, rights_service_client::RightsServiceClient},
    policy::decide::Denial,
    vault::{
        error::VaultError,
        reconcile::Problem,
        revise::Correction,
        rights::{CaseAct, CaseEnd, CaseStep, CaseView, Fulfilled, Listed, NewCase},
        subjects::SubjectName,
    },
};
use tonic::transport::Channel;

use crate::{
    common::{
        backend::{Backend, on_both},
        house::by_reference,
        people::{grant_letters, iin, tokenize_request},
        served::{Served, reason, request_id},
        vault::{OpenVault, as_admin, asker},
    },
    reconciled::{found, reconcile},
};

/// Friday, 27 November 2026, nine o'clock in Kazakhstan.
const FRIDAY: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_795_752_000, nanos: 0 };

fn open_request(kind: pb::RightKind) -> pb::OpenCaseRequest {
    pb::OpenCaseRequest {
        request_id: request_id(),
        subject: Some(by_reference(1)),
        kind: kind.into(),
        channel: pb::RightsChannel::Email.into(),
        site: "skillbox.kz".into(),
        requester: pb::CaseRequester::Subject.into(),
        reference: "IN-2026/17".into(),
        receive_time: Some(FRIDAY),
        ..pb::OpenCaseRequest::default()
    }
}

async fn rights(served: &Served, caller: &str) -> RightsServiceClient<Channel> {
    RightsServiceClient::new(served.channel(caller).await)
}

fn identity(case_id: &str) -> pb::AdvanceCaseRequest {
    let identity = pb::IdentityCheck {
        method: pb::IdentityMethod::OneTimeCode.into(),
        evidence: "OTP-17".into(),
        proof_time: None,
    };
    pb::AdvanceCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: case_id.into(),
        step: Some(pb::advance_case_request::Step::Identity(identity)),
    }
}

fn work(case_id: &str) -> pb::AdvanceCaseRequest {
    let step = Some(pb::advance_case_request::Step::Work(pb::WorkBegun {}));
    pb::AdvanceCaseRequest { step, ..identity(case_id) }
}

fn answer(case_id: &str) -> pb::AnswerCaseRequest {
    pb::AnswerCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: case_id.into(),
        channel: pb::RightsChannel::Email.into(),
        language: "ru".into(),
        enclosure_sha256: vec![7; 32],
        ..pb::AnswerCaseRequest::default()
    }
}

on_both!(r40_a_request_goes_from_its_receipt_to_the_answer);
async fn r40_a_request_goes_from_its_receipt_to_the_answer(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    // The platform's service registers what its form takes; staff does the rest.
    let mut service = rights(&served, "backend").await;
    let request = open_request(pb::RightKind::Access);
    let case = service.open_case(request.clone()).await.unwrap().into_inner().case.unwrap();
    assert_eq!(service.open_case(request).await.unwrap().into_inner().case.unwrap(), case, "replayed");
    assert_eq!((case.working_days, case.clause.as_str()), (3, "94-V 24; 395/НҚ 16"));
    assert_eq!(case.due_time.unwrap().seconds, FRIDAY.seconds + 5 * 86_400 + 15 * 3_600, "end of 2 December");
    assert_eq!((case.state(), case.reference.as_str()), (pb::CaseState::Received, "IN-2026/17"));

    let mut admin = rights(&served, "admin").await;
    let id = case.case_id.as_str();
    assert_eq!(reason(&admin.advance_case(work(id)).await.unwrap_err()), "CASE_STATE_UNSUITABLE");
    assert_eq!(reason(&admin.answer_case(answer(id)).await.unwrap_err()), "CASE_STATE_UNSUITABLE");
    let mut stranger = identity(id);
    stranger.platform = String::new();
    assert_eq!(reason(&service.advance_case(stranger).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    let checked = admin.advance_case(identity(id)).await.unwrap().into_inner().case.unwrap();
    assert_eq!(checked.state(), pb::CaseState::IdentityChecked);
    assert_eq!(checked.identity.unwrap().evidence, "OTP-17");
    admin.advance_case(work(id)).await.unwrap();
    let last = answer(id);
    let answered = admin.answer_case(last.clone()).await.unwrap().into_inner().case.unwrap();
    let ending = answered.ending.clone().unwrap();
    assert!(ending.notice.contains(id) && ending.notice.contains("IN-2026/17"), "{}", ending.notice);
    assert!(ending.notice.contains("27.11.2026") && ending.notice.contains("Сведения приложены"));
    assert_eq!(ending.enclosure_sha256, vec![7; 32]);
    assert_eq!(admin.answer_case(last).await.unwrap().into_inner().case.unwrap(), answered, "replayed");
    assert_eq!(reason(&admin.answer_case(answer(id)).await.unwrap_err()), "CASE_ENDED");

    let get = pb::GetCaseRequest { platform: "lerna".into(), case_id: id.into() };
    let shown = admin.get_case(get.clone()).await.unwrap().into_inner().case.unwrap();
    assert_eq!(shown, answered, "the notice is made again, and is the same");
    let other = pb::GetCaseRequest { case_id: CaseId::from_bytes([1; 16]).to_string(), ..get };
    assert_eq!(reason(&admin.get_case(other).await.unwrap_err()), "CASE_NOT_FOUND");
    served.running.stop().await.unwrap();
}

on_both!(r14_a_refusal_has_reasons_that_fit);
async fn r14_a_refusal_has_reasons_that_fit(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    let mut admin = rights(&served, "admin").await;
    let open = |kind, more: &dyn Fn(&mut pb::OpenCaseRequest)| {
        let mut request = pb::OpenCaseRequest { platform: "lerna".into(), ..open_request(kind) };
        more(&mut request);
        request
    };
    let refuse = |case_id: &str, reasons: &[pb::RefusalReason], ground: &str| pb::RefuseCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: case_id.into(),
        reasons: reasons.iter().map(|reason| (*reason).into()).collect(),
        ground: ground.into(),
        channel: pb::RightsChannel::Post.into(),
        language: "kk".into(),
    };
    let erasure = admin.open_case(open(pb::RightKind::Erasure, &|_| ())).await.unwrap();
    let id = erasure.into_inner().case.unwrap().case_id;
    let no = pb::RefusalReason::NoAutomatedDecision;
    let law = pb::RefusalReason::LawBars;
    for (reasons, ground) in [(&[no][..], ""), (&[law], ""), (&[], ""), (&[law, law], "NK-2025/211")] {
        let status = admin.refuse_case(refuse(&id, reasons, ground)).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS", "{reasons:?}");
    }
    let refused = admin.refuse_case(refuse(&id, &[law], "NK-2025/211")).await.unwrap().into_inner();
    let case = refused.case.unwrap();
    assert_eq!(case.state(), pb::CaseState::Refused);
    let notice = case.ending.unwrap().notice;
    assert!(notice.contains("бас тартылды") && notice.contains("NK-2025/211"), "{notice}");

    // A representative shows a paper; nobody else has one. Whoever is not known is answered so.
    let paper =
        |request: &mut pb::OpenCaseRequest| request.requester = pb::CaseRequester::Representative.into();
    let status = admin.open_case(open(pb::RightKind::Access, &paper)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELDS");
    let both = |request: &mut pb::OpenCaseRequest| request.nobody_known = true;
    let status = admin.open_case(open(pb::RightKind::Access, &both)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELDS");
    let elsewhere = |request: &mut pb::OpenCaseRequest| request.site = "example.kz".into();
    let status = admin.open_case(open(pb::RightKind::Access, &elsewhere)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELDS");
    let unknown = |request: &mut pb::OpenCaseRequest| {
        (request.subject, request.nobody_known) = (None, true);
    };
    let opened = admin.open_case(open(pb::RightKind::Access, &unknown)).await.unwrap().into_inner();
    let case = opened.case.unwrap();
    assert_eq!(case.subject_id, "");
    let refused = admin.refuse_case(refuse(&case.case_id, &[pb::RefusalReason::NoData], "")).await.unwrap();
    assert_eq!(refused.into_inner().case.unwrap().state(), pb::CaseState::Refused);
    served.running.stop().await.unwrap();
}

async fn create(backend: &Backend, dir: &Path) -> OpenVault {
    let open = OpenVault::create(backend, dir, |store| store).await;
    open.enrol_auditor().await;
    open.store_iin(1).await;
    open
}

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

impl OpenVault {
    async fn open_case(&self, kind: RightKind) -> Result<CaseView, VaultError> {
        self.open_case_of(kind, 1).await
    }

    async fn open_case_of(&self, kind: RightKind, number: u32) -> Result<CaseView, VaultError> {
        let new = NewCase {
            subject: Some(SubjectName::Reference(format!("user-{number}"))),
            kind,
            channel: RightsChannel::Site,
            site: None,
            requester: CaseRequester::Subject,
            representation: None,
            reference: None,
            received_at: self.clock.now(),
        };
        self.vault.open_case(&self.caller("backend"), asker("backend"), "", new).await
    }

    async fn step(&self, id: CaseId, step: CaseStep) -> Result<CaseView, VaultError> {
        self.vault.advance_case(&self.admin(), as_admin(), "lerna", id, step).await
    }

    async fn end(&self, id: CaseId, reasons: &[RefusalReason]) -> Result<CaseView, VaultError> {
        let end = CaseEnd {
            reasons: reasons.to_vec(),
            ground: None,
            channel: RightsChannel::Site,
            language: Language::En,
            enclosure_sha256: None,
        };
        self.vault.end_case(&self.admin(), as_admin(), "lerna", id, end).await
    }

    async fn listed(&self, which: Listed) -> Vec<CaseView> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.vault.cases(&self.admin(), as_admin(), "lerna", which, after, 2).await.unwrap();
            all.extend(page.0);
            after = page.1;
            if after.is_none() {
                return all;
            }
        }
    }

    async fn case_of(&self, id: CaseId) -> Result<CaseView, VaultError> {
        self.vault.case(&self.admin(), as_admin(), "lerna", id).await
    }
}

fn checked(proof_at: Option<sandyq::domain::time::Timestamp>) -> CaseStep {
    let evidence = Reference::parse("LOGIN-1").unwrap();
    CaseStep::Identity { method: IdentityMethod::Login, evidence, proof_at }
}

on_both!(r12_r13_what_is_late_is_told);
async fn r12_r13_what_is_late_is_told(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let calendar = WorkingCalendar::kazakhstan();
    // The policy promises seven working days for a correction; the law's one binds.
    let correction = open.open_case(RightKind::Correction).await.unwrap();
    assert_eq!((correction.case.working_days, correction.case.clause.as_str()), (1, "94-V 25(2)(8)"));
    assert_eq!(correction.case.due_at, calendar.end_of(correction.case.received_at, 1));
    let access = open.open_case(RightKind::Access).await.unwrap().case;
    let withdrawal = open.open_case(RightKind::Withdrawal).await.unwrap().case;
    let ids = |views: &[CaseView]| views.iter().map(|view| view.case.id).collect::<Vec<_>>();
    assert_eq!(ids(&open.listed(Listed::Open).await), [correction.case.id, access.id, withdrawal.id]);
    assert_eq!(ids(&open.listed(Listed::Overdue).await), []);

    // Proof that came later gives the correction its days anew, and nothing else.
    let now = open.clock.now();
    open.clock.advance(access.due_at.as_micros() - now.as_micros() + 1);
    assert_eq!(ids(&open.listed(Listed::Overdue).await), [correction.case.id, access.id]);
    let came = open.clock.now();
    let proof = Some(came);
    let moved = open.step(correction.case.id, checked(proof)).await.unwrap();
    assert!(!moved.overdue && moved.case.due_at == calendar.end_of(came, 1));
    let refused = open.step(access.id, checked(proof)).await;
    assert!(matches!(refused, Err(VaultError::Invalid(_))), "{refused:?}");
    assert_eq!(ids(&open.listed(Listed::Overdue).await), [access.id]);

    open.vault.sample().await.unwrap();
    let counted = open.vault.meters().open_registers().cases;
    let of = |kind| {
        let found = counted.iter().find(|some| some.kind == kind).unwrap();
        (found.count, found.overdue)
    };
    assert_eq!((of(RightKind::Access), of(RightKind::Withdrawal)), ((1, 1), (1, 0)));

    // Answered late is answered.
    open.step(access.id, checked(None)).await.unwrap();
    open.step(access.id, CaseStep::Work).await.unwrap();
    let answered = open.end(access.id, &[]).await.unwrap();
    assert!(!answered.overdue && answered.case.state == CaseState::Answered);
    assert_eq!(ids(&open.listed(Listed::Overdue).await), []);
    assert_eq!(open.listed(Listed::All).await.len(), 3);
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "log and rows agree");
}

on_both!(a_register_edited_behind_the_vault_is_found);
async fn a_register_edited_behind_the_vault_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let (late, gone) =
        (open.open_case(RightKind::Access).await.unwrap(), open.open_case(RightKind::Erasure).await.unwrap());
    let edit = async |sql: &str| backend.sql(dir.path(), sql).await;
    assert_eq!(edit("UPDATE rights_cases SET due_at = due_at + 86400000000 WHERE kind = 'access'").await, 1);
    assert_eq!(open.case_of(late.case.id).await, Err(Denial::DataDamaged.into()), "time that nobody gave");
    let status = open.step(late.case.id, checked(None)).await;
    assert_eq!(status, Err(Denial::DataDamaged.into()), "and no step is taken on it");
    edit("UPDATE rights_cases SET due_at = due_at - 86400000000 WHERE kind = 'access'").await;
    assert_eq!(open.case_of(late.case.id).await.unwrap().case, late.case);

    // A request that was put back to its state before, and one that somebody made vanish.
    edit("CREATE TABLE saved AS SELECT * FROM rights_cases WHERE kind = 'access'").await;
    open.end(late.case.id, &[RefusalReason::IdentityNotProved]).await.unwrap();
    edit("DELETE FROM rights_cases").await;
    edit("INSERT INTO rights_cases SELECT * FROM saved").await;
    let result = reconcile(&open, "lerna").await;
    let mut problems = found(&result);
    problems.sort_by_key(|(table, problem)| (*table, problem.as_str()));
    assert_eq!(problems, [("rights_cases", Problem::Missing), ("rights_cases", Problem::Stale)]);
    assert!(result.findings.iter().any(|finding| finding.object == gone.case.id.as_bytes()));
}

on_both!(what_a_request_asks_is_done);
/// What the person asks is done once, in the commit that says so, and only then is the person told.
async fn what_a_request_asks_is_done(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let mut stored = Vec::new();
    for number in 2..7 {
        stored.push(open.store_iin(number).await);
    }
    let in_work = async |kind, number: u32| {
        let id = open.open_case_of(kind, number).await.unwrap().case.id;
        open.step(id, checked(None)).await.unwrap();
        open.step(id, CaseStep::Work).await.unwrap();
        id
    };
    let fulfil = async |id, act| {
        let done = open.vault.fulfil_case(&open.admin(), as_admin(), "lerna", id, act).await;
        done.map(|done| done.view)
    };
    let read = async |at: usize| open.detokenize(&stored[at].tokens[0].token).await.err();
    let denied = |denial: Denial| Some(VaultError::Denied(denial));

    let erasure = in_work(RightKind::Erasure, 2).await;
    assert_eq!(open.end(erasure, &[]).await, Err(Denial::CaseNotDone.into()), "nobody is told a lie");
    assert_eq!(read(0).await, None);
    let done = fulfil(erasure, CaseAct::default()).await.unwrap();
    assert!(done.case.done_at.is_some() && done.case.state == CaseState::InWork);
    assert_eq!(read(0).await, denied(Denial::SubjectErased));
    assert_eq!(fulfil(erasure, CaseAct::default()).await, Err(Denial::CaseStateUnsuitable.into()), "once");
    assert_eq!(open.end(erasure, &[]).await.unwrap().case.state, CaseState::Answered);

    let restriction = in_work(RightKind::Restriction, 3).await;
    let without = fulfil(restriction, CaseAct::default()).await;
    assert!(matches!(without, Err(VaultError::Invalid(_))), "a block is never an end state: {without:?}");
    assert_eq!(read(1).await, None, "what is refused changes nothing");
    let review_at = Some(open.clock.now().plus_micros(30 * DAY));
    fulfil(restriction, CaseAct { review_at, ..CaseAct::default() }).await.unwrap();
    assert_eq!(read(1).await, denied(Denial::SubjectRestricted));
    // What is blocked is not destroyed (rules R11, R49).
    let erasure = in_work(RightKind::Erasure, 3).await;
    assert_eq!(fulfil(erasure, CaseAct::default()).await, Err(Denial::SubjectRestricted.into()));

    let withdrawal = in_work(RightKind::Withdrawal, 4).await;
    let other = CaseAct { consents: vec![stored[3].consents[0]], ..CaseAct::default() };
    let refused = fulfil(withdrawal, other).await;
    assert!(matches!(refused, Err(VaultError::Invalid(_))), "another's consent: {refused:?}");
    fulfil(withdrawal, CaseAct { consents: stored[2].consents.clone(), ..CaseAct::default() }).await.unwrap();
    assert_eq!(read(2).await, denied(Denial::ConsentWithdrawn));
    assert_eq!(read(3).await, None);

    let anonymisation = in_work(RightKind::Anonymisation, 5).await;
    fulfil(anonymisation, CaseAct::default()).await.unwrap();
    assert_eq!(read(3).await, denied(Denial::TokenNotFound));
    let left = "UPDATE subjects SET state = state WHERE wrapped_key IS NULL AND state = 'erased'";
    assert_eq!(backend.sql(dir.path(), left).await, 1, "no key, and nothing brings it back");
    assert!(open.open_case_of(RightKind::Access, 5).await.is_err(), "no reference leads there any more");
    let end = open.end(anonymisation, &[]).await.unwrap();
    assert!(end.notice.unwrap().contains("cannot be attributed to you"));

    let objection = in_work(RightKind::Objection, 6).await;
    fulfil(objection, CaseAct::default()).await.unwrap();
    assert_eq!(read(4).await, None, "payments are no decision by machine");
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "log and rows agree");
}

on_both!(r35_nobody_is_told_of_a_correction_that_was_not_made);
/// A correction is made by the platform's service, with its evidence, after the request; then the register finds it.
async fn r35_nobody_is_told_of_a_correction_that_was_not_made(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let stored = open.store_iin(2).await;
    let correct = async |value: &str| {
        let correction = Correction {
            token: AnyToken::parse(&stored.tokens[0].token.reveal()).unwrap(),
            value: Plaintext::new(value.into()),
            source: ValueSource::Subject,
            evidence: Reference::parse("DOC-17").unwrap(),
        };
        open.vault.update_record(&open.caller("backend"), asker("backend"), correction).await.unwrap();
    };
    correct(&iin(3)).await;
    open.clock.advance(DAY);
    let id = open.open_case_of(RightKind::Correction, 2).await.unwrap().case.id;
    open.step(id, checked(None)).await.unwrap();
    open.step(id, CaseStep::Work).await.unwrap();
    let fulfil =
        async || open.vault.fulfil_case(&open.admin(), as_admin(), "lerna", id, CaseAct::default()).await;
    let refused = |outcome: Result<Fulfilled, VaultError>| outcome.err();
    let not_done = Some(VaultError::Denied(Denial::CaseNotDone));
    assert_eq!(refused(fulfil().await), not_done, "what was corrected before is no answer to it");
    correct(&iin(3)).await;
    assert_eq!(refused(fulfil().await), not_done, "the value that is held already corrects nothing");
    assert_eq!(open.end(id, &[]).await, Err(Denial::CaseNotDone.into()));
    correct(&iin(4)).await;
    let done = fulfil().await.unwrap();
    assert!(done.view.case.done_at.is_some() && done.former.is_empty(), "{done:?}");
    assert_eq!(open.end(id, &[]).await.unwrap().case.state, CaseState::Answered);
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "log and rows agree");
}

on_both!(r34_an_objection_stops_profiles_at_once);
/// An objection binds the next read of a profile, and a new consent opens it (Law 94-V, Article 19-1).
async fn r34_an_objection_stops_profiles_at_once(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (email, letters) = (["email"], grant_letters("marketing_mail", &["email"]));
    let mut person = tokenize_request(1);
    person.consents.extend([grant_letters("offers", &email), letters]);
    let stored = served.vault("backend").await.tokenize(person).await.unwrap().into_inner();
    let token = &stored.tokens.iter().find(|token| token.field == "email").unwrap().token;
    assert!(served.read_for_letters("mailing", "offers", token).await.is_ok());
    let mut admin = rights(&served, "admin").await;
    let open = pb::OpenCaseRequest { platform: "lerna".into(), ..open_request(pb::RightKind::Objection) };
    let id = admin.open_case(open).await.unwrap().into_inner().case.unwrap().case_id;
    admin.advance_case(identity(&id)).await.unwrap();
    admin.advance_case(work(&id)).await.unwrap();
    let fulfil = pb::FulfilCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: id,
        ..pb::FulfilCaseRequest::default()
    };
    let done = admin.fulfil_case(fulfil.clone()).await.unwrap().into_inner();
    assert_eq!(admin.fulfil_case(fulfil).await.unwrap().into_inner(), done, "replayed");
    assert_eq!(served.read_for_letters("mailing", "offers", token).await, Err("OBJECTED_TO".into()));
    assert!(
        served.read_for_letters("mailing", "marketing_mail", token).await.is_ok(),
        "no machine decides on letters"
    );

    let now = sandyq::domain::time::Clock::default().now().as_micros();
    let nanos = i32::try_from(now % 1_000_000 * 1_000).unwrap();
    let give_time = Some(prost_types::Timestamp { seconds: now / 1_000_000, nanos });
    let request = pb::GrantConsentRequest {
        request_id: request_id(),
        subject_reference: "user-1".into(),
        consent: Some(pb::ConsentGrant { give_time, ..grant_letters("offers", &email) }),
    };
    served.consents("backend").await.grant_consent(request).await.unwrap();
    let again = served.read_for_letters("mailing", "offers", token).await;
    assert!(again.is_ok(), "{again:?}");
    served.running.stop().await.unwrap();
}

fn sandyq(dir: &Path, line: &str, case: &str) -> Output {
    let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(dir).env("CASE", case);
    tokio::task::block_in_place(|| {
        shell.env("PATH", format!("{}:/usr/bin:/bin", path.display())).output().unwrap()
    })
}

/// Commands of `docs/rights.md`, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_handled_by_the_document() {
    let text = include_str!("../../docs/rights.md");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<_> =
        blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect();
    let served = Served::start().await;
    served.store(1).await;
    let dir = served.running.installation.dir().to_owned();
    let (mut case, mut said) = (String::new(), String::new());
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let ran = sandyq(&dir, command, &case);
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{errors}");
        if command.contains("rights open") {
            out.split_whitespace().find(|word| word.starts_with("cas_")).unwrap().clone_into(&mut case);
        }
        said = said + &out + &errors;
    }
    for expected in
        ["3 working days, 94-V 24", "identity_checked", "in_work", "answered", "no request", "refused"]
    {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    served.running.stop().await.unwrap();
}

/// The operator's own days change by when a request is answered, and their hash stands with it.
#[tokio::test(flavor = "multi_thread")]
async fn days_that_the_government_transfers_are_counted() {
    let days = "on 2026-11-28 worked for 4 January\noff 2026-11-30 free\noff 2026-12-01 free\n";
    let served = Served::start_files(&Backend::Sqlite, |files| {
        std::fs::write(files.join("days.txt"), days).unwrap();
        let path = files.join("sandyq.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{config}\n[rights]\ncalendar = \"days.txt\"\n")).unwrap();
    })
    .await;
    served.store(1).await;
    let mut service = rights(&served, "backend").await;
    let case =
        service.open_case(open_request(pb::RightKind::Access)).await.unwrap().into_inner().case.unwrap();
    assert_eq!(case.due_time.unwrap().seconds, FRIDAY.seconds + 6 * 86_400 + 15 * 3_600, "end of 3 December");
    let plain = WorkingCalendar::kazakhstan();
    let own = sandyq::crypto::digest::sha256(plain.clone().with(days).unwrap().text().as_bytes());
    assert_eq!(case.calendar_sha256, own);
    assert_ne!(case.calendar_sha256, sandyq::crypto::digest::sha256(plain.text().as_bytes()));
    served.running.stop().await.unwrap();
}
