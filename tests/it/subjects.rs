//! Subjects: what is held, who saw it, blocks, events, erasure that binds at once and destroys after cooling.

use std::time::Duration;

use sandyq::{
    audit::entry::Entry,
    domain::{
        consent::SubjectState,
        subject::{RestrictionRequester, RestrictionTrigger},
        time::Timestamp,
    },
    grpc::pb::{self, subject_service_client::SubjectServiceClient},
    policy::decide::Denial,
    vault::{
        error::VaultError,
        operations::Worked,
        restrictions::{ListedRestrictions, ReviewPlace},
        subjects::{Block, SubjectName},
    },
};

use crate::common::{
    backend::{Backend, on_both},
    served::{Served, reason, request_id},
    vault::{OpenVault, as_admin, asker, person},
};

fn by_reference(number: u32) -> pb::SubjectName {
    pb::SubjectName { subject: Some(pb::subject_name::Subject::SubjectReference(format!("user-{number}"))) }
}

fn in_a_month() -> prost_types::Timestamp {
    let seconds = sandyq::domain::time::Clock::default().now().second() + 30 * 86_400;
    prost_types::Timestamp { seconds, nanos: 0 }
}

on_both!(r11_a_block_binds_at_once_and_is_lifted);
async fn r11_a_block_binds_at_once_and_is_lifted(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let mut subjects = SubjectServiceClient::new(served.channel("backend").await);
    let restrict = pb::RestrictSubjectRequest {
        request_id: request_id(),
        subject: Some(by_reference(1)),
        trigger: pb::RestrictionTrigger::AccuracyDisputed.into(),
        requester: pb::RestrictionRequester::Subject.into(),
        review_time: Some(in_a_month()),
        reference: "CASE-1".into(),
        ..pb::RestrictSubjectRequest::default()
    };
    let blocked = subjects.restrict_subject(restrict.clone()).await.unwrap().into_inner();
    assert_eq!(subjects.restrict_subject(restrict.clone()).await.unwrap().into_inner(), blocked, "replayed");
    let refused = served.read("payments", "payments", stored.token("iin")).await;
    assert_eq!(refused, Err("SUBJECT_RESTRICTED".into()));
    // A block stops writes, consents and erasure too (Article 1(3), rules R11 and R49).
    let mut more = crate::common::people::tokenize_request(1);
    more.consents.clear();
    let status = served.vault("backend").await.tokenize(more).await.unwrap_err();
    assert_eq!(reason(&status), "SUBJECT_RESTRICTED");
    let erase = pb::EraseSubjectRequest {
        request_id: request_id(),
        subject: Some(by_reference(1)),
        ..pb::EraseSubjectRequest::default()
    };
    assert_eq!(reason(&subjects.erase_subject(erase).await.unwrap_err()), "SUBJECT_RESTRICTED");
    let view = pb::GetSubjectRequest { subject: Some(by_reference(1)), platform: String::new() };
    let held = subjects.get_subject(view.clone()).await.unwrap().into_inner().subject.unwrap();
    assert_eq!(held.state(), pb::SubjectState::Restricted);
    assert_eq!((held.fields.len(), held.token_count, held.consent_count), (5, 5, 2));
    assert_eq!(held.restriction, blocked.restriction);

    let lift = |reference: &str| pb::UnrestrictSubjectRequest {
        request_id: request_id(),
        subject: Some(by_reference(1)),
        reference: reference.into(),
        ..pb::UnrestrictSubjectRequest::default()
    };
    assert!(subjects.unrestrict_subject(lift("")).await.is_err(), "a reason is needed");
    subjects.unrestrict_subject(lift("CASE-1")).await.unwrap();
    assert!(served.read("payments", "payments", stored.token("iin")).await.is_ok());
    let status = subjects.unrestrict_subject(lift("CASE-1")).await.unwrap_err();
    assert_eq!(reason(&status), "SUBJECT_NOT_RESTRICTED");
    // Others may not; an end state may not be asked for.
    let mut never = restrict;
    never.request_id = request_id();
    never.review_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    assert_eq!(reason(&subjects.restrict_subject(never).await.unwrap_err()), "INVALID_FIELDS");
    let mut payments = SubjectServiceClient::new(served.channel("payments").await);
    assert_eq!(reason(&payments.get_subject(view).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    served.running.stop().await.unwrap();
}

on_both!(events_are_those_that_the_policy_declares);
async fn events_are_those_that_the_policy_declares(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    let mut subjects = SubjectServiceClient::new(served.channel("backend").await);
    let record = |event: &str, number: u32| pb::RecordEventRequest {
        request_id: request_id(),
        subject: Some(by_reference(number)),
        event: event.into(),
        event_time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        ..pb::RecordEventRequest::default()
    };
    let request = record("last_active_action", 1);
    let first = subjects.record_event(request.clone()).await.unwrap().into_inner();
    assert_eq!(subjects.record_event(request).await.unwrap().into_inner(), first, "replayed");
    let status = subjects.record_event(record("birthday", 1)).await.unwrap_err();
    assert_eq!(reason(&status), "EVENT_NOT_DECLARED");
    let status = subjects.record_event(record("last_active_action", 2)).await.unwrap_err();
    assert_eq!(reason(&status), "SUBJECT_NOT_FOUND");
    served.running.stop().await.unwrap();
}

async fn with_officer(backend: &Backend) -> (tempfile::TempDir, OpenVault) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(backend, dir.path(), |store| store).await;
    (dir, open)
}

impl OpenVault {
    async fn erase(&self, number: u32) -> Result<sandyq::vault::erasure::Erasure, VaultError> {
        let name = SubjectName::Reference(format!("user-{number}"));
        self.vault.erase_subject(&self.caller("backend"), asker("backend"), "", name, None).await
    }

    async fn cancel(&self, number: u32) -> Result<(), VaultError> {
        let name = SubjectName::Reference(format!("user-{number}"));
        self.vault.cancel_erasure(&self.admin(), as_admin(), "lerna", name, None).await.map(drop)
    }
}

on_both!(an_erased_subject_is_unreadable_at_once_and_destroyed_after_cooling);
async fn an_erased_subject_is_unreadable_at_once_and_destroyed_after_cooling(backend: Backend) {
    let (dir, open) = with_officer(&backend).await;
    let (gone, kept) = (open.store_iin(1).await, open.store_iin(2).await);
    let erasure = open.erase(1).await.unwrap();
    assert_eq!(erasure.erased_at.plus(Duration::from_hours(4)), erasure.destroy_at);
    let read = async |stored: &sandyq::vault::tokenize::Tokenized| {
        open.detokenize(&stored.tokens[0].token).await.map(drop)
    };
    assert_eq!(read(&gone).await, Err(Denial::SubjectErased.into()));
    assert!(read(&kept).await.is_ok());
    assert_eq!(open.erase(1).await.err(), Some(Denial::SubjectErased.into()));
    assert_eq!(open.vault.work().await.unwrap(), Worked::default(), "not before its time");

    // Called off, it is as it was; erased again, the time counts anew.
    open.cancel(1).await.unwrap();
    assert!(read(&gone).await.is_ok());
    assert_eq!(open.cancel(1).await, Err(Denial::SubjectNotErased.into()));
    open.clock.advance(5 * 60 * 60 * 1_000_000);
    assert_eq!(open.vault.work().await.unwrap(), Worked::default(), "the operation was called off");
    open.erase(1).await.unwrap();
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap(), Worked { done: 1, left: 0, ..Worked::default() });
    assert_eq!(open.vault.work().await.unwrap(), Worked::default());

    assert_eq!(read(&gone).await, Err(Denial::TokenNotFound.into()), "its tokens are gone");
    assert_eq!(open.cancel(1).await, Err(Denial::SubjectDestroyed.into()));
    assert!(read(&kept).await.is_ok());
    let left = |table: &str| format!("UPDATE {table} SET platform_id = platform_id WHERE platform_id = 1");
    for (table, rows) in [("tokens", 1), ("records", 1), ("index_entries", 1), ("consents", 2)] {
        assert_eq!(backend.sql(dir.path(), &left(table)).await, rows, "{table}");
    }
    let key = "UPDATE subjects SET state = state WHERE wrapped_key IS NULL AND state = 'erased'";
    assert_eq!(backend.sql(dir.path(), key).await, 1);
}

on_both!(an_erasure_is_not_called_off_from_its_date_on);
async fn an_erasure_is_not_called_off_from_its_date_on(backend: Backend) {
    let (_dir, open) = with_officer(&backend).await;
    open.store_iin(1).await;
    let erasure = open.erase(1).await.unwrap();
    // No worker came by yet: what the receipt says holds all the same.
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert!(open.clock.now() > erasure.destroy_at);
    assert_eq!(open.cancel(1).await, Err(Denial::SubjectDestroyed.into()));
    assert_eq!(open.vault.work().await.unwrap(), Worked { done: 1, left: 0, ..Worked::default() });
}

on_both!(destruction_waits_where_time_jumped);
async fn destruction_waits_where_time_jumped(backend: Backend) {
    let (_dir, open) = with_officer(&backend).await;
    open.store_iin(1).await;
    open.erase(1).await.unwrap();
    open.clock.advance(30 * 60 * 60 * 1_000_000);
    assert_eq!(open.vault.work().await.unwrap(), Worked { done: 0, left: 1, ..Worked::default() });
    // Somebody who sees that the time is right is logged; then it goes on.
    let name = SubjectName::Reference("user-1".into());
    let view = open.vault.subject(&open.caller("backend"), asker("backend"), "", name).await.unwrap();
    assert_eq!(view.state, SubjectState::Erased);
    assert_eq!(open.vault.work().await.unwrap(), Worked { done: 1, left: 0, ..Worked::default() });
}

on_both!(burning_many_subjects_is_stopped);
async fn burning_many_subjects_is_stopped(backend: Backend) {
    let (_dir, open) = with_officer(&backend).await;
    for number in 0..101 {
        open.tokenize(person(number, None)).await.unwrap();
    }
    for number in 0..100 {
        open.erase(number).await.unwrap();
    }
    assert_eq!(open.erase(100).await.err(), Some(Denial::BudgetExhausted.into()));
    open.clock.advance(24 * 60 * 60 * 1_000_000);
    assert!(open.erase(100).await.is_ok(), "the next day has its own budget");
}

on_both!(disclosures_are_told_from_the_log);
async fn disclosures_are_told_from_the_log(backend: Backend) {
    let (_dir, open) = with_officer(&backend).await;
    let (one, two) = (open.store_iin(1).await, open.store_iin(2).await);
    for _ in 0..3 {
        open.detokenize(&one.tokens[0].token).await.unwrap();
    }
    open.detokenize(&two.tokens[0].token).await.unwrap();
    let name = || SubjectName::Id(one.subject);
    let block = Block {
        subject: name(),
        trigger: RestrictionTrigger::LegalHold,
        requester: RestrictionRequester::Authority,
        review_at: open.clock.now().plus(Duration::from_hours(1)),
        reference: None,
    };
    open.vault.restrict_subject(&open.caller("backend"), asker("backend"), "", block).await.unwrap();
    assert!(open.detokenize(&one.tokens[0].token).await.is_err());
    let page = async |from, size| {
        open.vault.disclosures(&open.admin(), as_admin(), "lerna", name(), from, size).await.unwrap()
    };
    let (first, next) = page(0, 2).await;
    let (rest, end) = page(next.unwrap(), 2).await;
    assert_eq!((first.len(), rest.len(), end), (2, 1, None), "permits only, of this subject alone");
    let says = |entry: &Entry| (entry.purpose.clone().unwrap(), entry.field.clone().unwrap());
    assert!(first.iter().chain(&rest).all(|d| says(&d.says) == ("payments".into(), "iin".into())));
    assert!(first.iter().all(|d| d.caller == Some(open.caller("payments").id)));
}

impl OpenVault {
    async fn block_until(&self, number: u32, review_at: Timestamp) {
        let block = Block {
            subject: SubjectName::Reference(format!("user-{number}")),
            trigger: RestrictionTrigger::LegalHold,
            requester: RestrictionRequester::Authority,
            review_at,
            reference: None,
        };
        self.vault.restrict_subject(&self.caller("backend"), asker("backend"), "", block).await.unwrap();
    }
}

/// Microseconds.
const DAY: i64 = 86_400_000_000;

on_both!(r11_blocks_whose_review_is_over_are_counted_and_listed_page_by_page);
async fn r11_blocks_whose_review_is_over_are_counted_and_listed_page_by_page(backend: Backend) {
    let (dir, open) = with_officer(&backend).await;
    let counted = async || {
        open.vault.sample().await.unwrap();
        let blocks = open.vault.meters().open_registers().restrictions;
        blocks.iter().map(|open| (open.count, open.overdue)).collect::<Vec<_>>()
    };
    let list = async |which, after: Option<ReviewPlace>, size| {
        open.vault.restrictions(&open.admin(), as_admin(), "lerna", which, after, size).await
    };
    assert_eq!(counted().await, []);
    assert_eq!(list(ListedRestrictions::All, None, 10).await.unwrap(), (vec![], None));
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(open.store_iin(number).await.subject);
    }
    // Two of the same day: their ids part them.
    let now = open.clock.now();
    for (number, days) in [(1, 3), (2, 1), (3, 1)] {
        open.block_until(number, now.plus_micros(days * DAY)).await;
    }
    assert_eq!(counted().await, [(3, 0)]);
    assert_eq!(list(ListedRestrictions::Overdue, None, 10).await.unwrap().0, []);
    open.clock.advance(DAY + 1_000_000);
    assert_eq!(counted().await, [(3, 2)]);
    let mut expected = [ids[1], ids[2]];
    expected.sort();
    let mut found = Vec::new();
    for which in [ListedRestrictions::All, ListedRestrictions::Overdue] {
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let (page, next) = list(which, after, 1).await.unwrap();
            pages.extend(page.iter().map(|blocked| (blocked.id, blocked.overdue)));
            after = next;
            if after.is_none() {
                break;
            }
        }
        found.push(pages);
    }
    let two = expected.map(|id| (id, true)).to_vec();
    assert_eq!(found[1], two, "the fourth is not blocked");
    assert_eq!(found[0], [two, vec![(ids[0], false)]].concat());
    // An auditor's list is of rows that the vault wrote.
    let edit = "UPDATE subjects SET review_at = 1 WHERE platform_id = 1 AND state = 'restricted'";
    assert_eq!(backend.sql(dir.path(), edit).await, 3);
    let damaged = list(ListedRestrictions::Overdue, None, 10).await;
    assert_eq!(damaged.err(), Some(Denial::DataDamaged.into()));
}
