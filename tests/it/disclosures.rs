//! Budgets of values: how many may leave to a caller in an hour and in a day, for each purpose apart. Officers are told
//! before one ends; then values are refused, on the record, and neither budget pays for what was refused.

use std::sync::Arc;

use sandyq::{
    domain::{
        document::Side,
        operation::{BudgetKind, BudgetLimit},
    },
    grpc::pb,
    policy::decide::Denial,
    vault::{error::VaultError, page::PageAsk},
};
use tokio::task::JoinSet;

use crate::common::{
    backend::{Backend, on_both},
    documents::{PART, content},
    metrics::{samples, scrape},
    recipients::{Pair, register},
    served::{Served, reason, reason_of_item, request_id},
    uploads::Open,
    vault::{OpenVault, POLICY, as_admin, spiffe, staff},
};

const HOUR_MICROS: i64 = 3_600_000_000;

async fn set(
    served: &Served,
    kind: pb::BudgetKind,
    limit: u64,
    window_seconds: u32,
) -> Result<pb::Budget, String> {
    let mut staff = served.platforms("admin").await;
    let list = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    let callers = staff.list_callers(list).await.unwrap().into_inner().callers;
    let payments = callers.into_iter().find(|caller| caller.name == "payments").unwrap();
    let request = pb::SetBudgetRequest {
        request_id: request_id(),
        caller_id: payments.caller_id,
        kind: kind.into(),
        limit,
        window_seconds,
    };
    let answer = staff.set_budget(request).await.map_err(|status| reason(&status))?.into_inner();
    match answer.outcome.unwrap() {
        pb::set_budget_response::Outcome::Applied(budget) => Ok(budget),
        pb::set_budget_response::Outcome::Proposal(_) => panic!("one officer is enough here"),
    }
}

on_both!(values_are_paid_for_each_purpose_apart_told_before_the_end_and_then_refused);
async fn values_are_paid_for_each_purpose_apart_told_before_the_end_and_then_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    // Another purpose of the same caller.
    let policy = POLICY.replace("callers = [\"support\"]", "callers = [\"support\", \"payments\"]");
    let policy = policy.replacen("number = 1\n", "number = 2\n", 1).replace("2024-01-03", "2024-02-01");
    let apply = pb::ApplyPolicyRequest { request_id: request_id(), text: policy, validate_only: false };
    let applied = served.policies("admin").await.apply_policy(apply).await.unwrap().into_inner().outcome;
    assert!(matches!(applied, Some(pb::apply_policy_response::Outcome::Applied(_))), "{applied:?}");
    let stored = served.store(1).await;
    let iin = stored.token("iin");

    let hour = pb::BudgetKind::DisclosureHour;
    assert_eq!(
        set(&served, hour, 5, 86_400).await.unwrap_err(),
        "INVALID_FIELDS",
        "an hour has 3,600 seconds"
    );
    let budget = set(&served, hour, 5, 3_600).await.unwrap();
    assert_eq!((budget.limit, budget.spent, budget.purpose.as_str()), (5, 0, ""));
    let metrics = async || samples(&scrape(served.running.health.unwrap()).await);
    let told = "sandyq_budget_nearly_exhausted_total{kind=\"disclosure_hour\"}";
    let ended = "sandyq_budget_exhausted_total{kind=\"disclosure_hour\"}";
    for number in 1..=5 {
        served.read("payments", "payments", iin).await.unwrap();
        let expected = if number < 4 { "0" } else { "1" };
        assert_eq!(metrics().await[told], expected, "after {number} of 5");
    }
    assert_eq!(served.read("payments", "payments", iin).await, Err("BUDGET_EXHAUSTED".into()));
    assert_eq!(metrics().await[ended], "1");
    served
        .read("payments", "request_comms", stored.token("phone"))
        .await
        .expect("another purpose has its own");
    served.read("support", "request_comms", stored.token("phone")).await.expect("and another caller");

    // A batch is answered item by item.
    set(&served, hour, 7, 3_600).await.unwrap();
    let batch = pb::BatchDetokenizeRequest {
        tokens: vec![iin.to_owned(); 3],
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let answer = served.vault("payments").await.batch_detokenize(batch).await.unwrap().into_inner();
    let refusals = answer.results.iter().map(|result| match &result.outcome {
        Some(pb::detokenize_result::Outcome::Error(status)) => Some(reason_of_item(status)),
        Some(pb::detokenize_result::Outcome::Response(_)) | None => None,
    });
    let reasons: Vec<_> = refusals.collect();
    assert_eq!(reasons, [None, None, Some("BUDGET_EXHAUSTED".into())]);

    let list = pb::ListBudgetsRequest { platform: "lerna".into(), ..pb::ListBudgetsRequest::default() };
    let all = served.platforms("admin").await.list_budgets(list).await.unwrap().into_inner().budgets;
    let mut spent: Vec<_> = all
        .iter()
        .filter(|b| !b.purpose.is_empty())
        .map(|b| (b.purpose.as_str(), b.spent, b.limit))
        .collect();
    spent.sort_unstable();
    assert_eq!(spent, [("payments", 7, 7), ("request_comms", 1, 7)]);
    served.running.stop().await.unwrap();
}

async fn limit(open: &OpenVault, kind: BudgetKind, limit: u64) {
    let limit = BudgetLimit { limit, ..BudgetLimit::default_of(kind) };
    open.vault.set_budget(&open.admin(), as_admin(), open.caller("payments").id, limit).await.unwrap();
}

async fn spent(open: &OpenVault, kind: BudgetKind) -> u64 {
    let page = PageAsk { size: 100, after: None };
    let all = open.vault.list_budgets(&open.admin(), as_admin(), "lerna", page).await.unwrap().rows;
    let of = all.iter().find(|b| b.limit.kind == kind && b.purpose.is_some());
    of.map(|budget| budget.spent).unwrap()
}

on_both!(the_day_outlasts_the_hour_and_neither_pays_for_what_the_other_refused);
async fn the_day_outlasts_the_hour_and_neither_pays_for_what_the_other_refused(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let token = open.store_iin(1).await.tokens.remove(0).token;
    // Early in a day, so that an hour later is the same day.
    let now = open.clock.now().as_micros();
    open.clock.advance(24 * HOUR_MICROS - now.rem_euclid(24 * HOUR_MICROS) + HOUR_MICROS);
    limit(&open, BudgetKind::DisclosureHour, 2).await;
    limit(&open, BudgetKind::DisclosureDay, 3).await;
    let exhausted = Some(VaultError::Denied(Denial::BudgetExhausted));
    for _ in 0..2 {
        assert!(open.detokenize(&token).await.is_ok());
    }
    assert_eq!(open.detokenize(&token).await.err(), exhausted, "the hour");
    assert_eq!(
        spent(&open, BudgetKind::DisclosureDay).await,
        2,
        "what the hour refused the day did not pay for"
    );
    open.clock.advance(HOUR_MICROS);
    assert!(open.detokenize(&token).await.is_ok());
    assert_eq!(open.detokenize(&token).await.err(), exhausted, "the day");
    assert_eq!(
        spent(&open, BudgetKind::DisclosureHour).await,
        1,
        "what the day refused the hour did not pay for"
    );
    open.clock.advance(24 * HOUR_MICROS);
    assert!(open.detokenize(&token).await.is_ok());
    limit(&open, BudgetKind::DisclosureHour, BudgetLimit::UNLIMITED).await;
    limit(&open, BudgetKind::DisclosureDay, BudgetLimit::UNLIMITED).await;
    for _ in 0..5 {
        assert!(open.detokenize(&token).await.is_ok());
    }
    open.vault.close().await;
}

on_both!(as_many_values_leave_as_the_budget_has_however_many_ask_at_once);
async fn as_many_values_leave_as_the_budget_has_however_many_ask_at_once(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Arc::new(OpenVault::create(&backend, dir.path(), |store| store).await);
    let token = Arc::new(open.store_iin(1).await.tokens.remove(0).token);
    limit(&open, BudgetKind::DisclosureDay, 7).await;
    let mut asking = JoinSet::new();
    for _ in 0..30 {
        let (open, token) = (Arc::clone(&open), Arc::clone(&token));
        asking.spawn(async move { open.detokenize(&token).await.is_ok() });
    }
    let permitted = asking.join_all().await.into_iter().filter(|permitted| *permitted).count();
    assert_eq!((permitted, spent(&open, BudgetKind::DisclosureDay).await), (7, 7));
    open.vault.close().await;
}

on_both!(an_image_is_one_value_however_many_parts_it_has);
async fn an_image_is_one_value_however_many_parts_it_has(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 1).await;
    let image = content(1, 2 * PART + 1);
    let stored = open.put(1, Side::Front, &image).await.unwrap();
    let (admin, payments) = (open.vault.caller(&staff("admin")), open.vault.caller(&spiffe("payments")));
    let limit = BudgetLimit { limit: 1, ..BudgetLimit::default_of(BudgetKind::DisclosureDay) };
    open.vault.set_budget(&admin.unwrap(), as_admin(), payments.unwrap().id, limit).await.unwrap();
    assert!(open.read(stored).await.unwrap() == image, "three parts, one value");
    assert_eq!(open.read(stored).await.err(), Some(Denial::BudgetExhausted.into()));
    open.vault.close().await;
}

on_both!(a_sealed_batch_is_paid_for_whole_or_not_at_all);
async fn a_sealed_batch_is_paid_for_whole_or_not_at_all(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let bank = pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: "bank".into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    register(&mut served.platforms("admin").await, bank, &Pair::of(1)).await;
    let stored = served.store(1).await;
    set(&served, pb::BudgetKind::DisclosureHour, 3, 3_600).await.unwrap();
    let release = async |fields: &[&str]| {
        let release = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens: fields.iter().map(|field| stored.token(field).to_owned()).collect(),
            purpose: "payments".into(),
            view: pb::View::Full.into(),
            recipient: "bank".into(),
            ..Default::default()
        };
        served.vault("payments").await.batch_detokenize(release).await.map_err(|status| reason(&status))
    };
    let two = ["surname", "first_name"];
    let four = [two, two].concat();
    for _ in 0..2 {
        assert_eq!(
            release(&four).await.err().as_deref(),
            Some("BUDGET_EXHAUSTED"),
            "why, not only that it is whole"
        );
    }
    assert!(release(&two).await.unwrap().into_inner().sealed.is_some(), "what was withheld cost nothing");
    assert_eq!(
        release(&two).await.err().as_deref(),
        Some("BUDGET_EXHAUSTED"),
        "one is left, and two are asked for"
    );
    assert!(release(&two[..1]).await.is_ok());
    served.running.stop().await.unwrap();
}
