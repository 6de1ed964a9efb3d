//! Staff over the contract: platforms, callers, persons and their roles, recipients, budgets. What they change binds
//! at once, and what would leave the installation to nobody is refused.

use sandyq::{
    audit::entry::Entry,
    cli::pki::Authority,
    domain::ids::PlatformId,
    grpc::pb::{self, platform_service_client::PlatformServiceClient},
};
use tonic::{Status, transport::Channel};

use crate::common::{
    backend::{Backend, on_both},
    served::{Served, reason, request_id},
};

type Platforms = PlatformServiceClient<Channel>;

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.unwrap_err())
}

fn new_caller(platform: &str, name: &str, role: pb::Role) -> pb::EnrolCallerRequest {
    let domain = if platform == "vault" { "vault" } else { "lerna" };
    pb::EnrolCallerRequest {
        request_id: request_id(),
        platform: platform.into(),
        name: name.into(),
        spiffe_id: format!("spiffe://{domain}.example.kz/{name}"),
        roles: vec![role.into()],
        ..pb::EnrolCallerRequest::default()
    }
}

async fn enrol(staff: &mut Platforms, request: pb::EnrolCallerRequest) -> Result<pb::Caller, Status> {
    use pb::enrol_caller_response::Outcome;
    match staff.enrol_caller(request).await?.into_inner().outcome.unwrap() {
        Outcome::Applied(caller) => Ok(caller),
        Outcome::Proposal(_) => panic!("one officer is enough here"),
    }
}

async fn callers(staff: &mut Platforms, platform: &str) -> Vec<pb::Caller> {
    let request = pb::ListCallersRequest { platform: platform.into(), ..pb::ListCallersRequest::default() };
    staff.list_callers(request).await.unwrap().into_inner().callers
}

async fn caller(staff: &mut Platforms, platform: &str, name: &str) -> pb::Caller {
    callers(staff, platform).await.into_iter().find(|caller| caller.name == name).unwrap()
}

async fn disable(staff: &mut Platforms, id: &str) -> Result<pb::Caller, Status> {
    let request = pb::DisableCallerRequest { request_id: request_id(), caller_id: id.into() };
    Ok(staff.disable_caller(request).await?.into_inner().caller.unwrap())
}

async fn enable(staff: &mut Platforms, id: &str) -> Result<(), Status> {
    let request = pb::EnableCallerRequest { request_id: request_id(), caller_id: id.into() };
    staff.enable_caller(request).await.map(drop)
}

fn update(caller: &pb::Caller) -> pb::UpdateCallerRequest {
    pb::UpdateCallerRequest {
        request_id: request_id(),
        caller_id: caller.caller_id.clone(),
        name: caller.name.clone(),
        roles: caller.roles.clone(),
        key_pins: caller.key_pins.clone(),
    }
}

/// Makes a person with a certificate and roles, written to the installation's files under the handle.
async fn person(
    served: &Served,
    staff_authority: &Authority,
    handle: &str,
    roles: &[(pb::Role, &str)],
) -> pb::Person {
    use pb::enrol_person_response::Outcome;
    let mut staff = served.platforms("admin").await;
    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: handle.into() };
    let made = staff.enrol_person(request).await.unwrap().into_inner().outcome.unwrap();
    let Outcome::Applied(mut person) = made else { panic!("one officer is enough here") };
    for (role, platform) in roles {
        person = grant(&mut staff, &person.person_id, *role, platform).await.unwrap();
    }
    let uri = format!("spiffe://vault.example.kz/{handle}");
    let request = pb::EnrolCallerRequest {
        roles: Vec::new(),
        person_id: person.person_id.clone(),
        ..new_caller("vault", handle, pb::Role::Auditor)
    };
    assert_eq!(enrol(&mut staff, request).await.unwrap().person_id, person.person_id);
    let certificate = staff_authority.client(&[&uri]).unwrap();
    certificate.write(served.running.installation.dir(), handle).unwrap();
    person
}

async fn grant(
    staff: &mut Platforms,
    person: &str,
    role: pb::Role,
    platform: &str,
) -> Result<pb::Person, Status> {
    use pb::grant_role_response::Outcome;
    let request = pb::GrantRoleRequest {
        request_id: request_id(),
        person_id: person.into(),
        role: role.into(),
        platform: platform.into(),
    };
    match staff.grant_role(request).await?.into_inner().outcome.unwrap() {
        Outcome::Applied(person) => Ok(person),
        Outcome::Proposal(_) => panic!("one officer is enough here"),
    }
}

fn revoke(person: &str, role: pb::Role) -> pb::RevokeRoleRequest {
    pb::RevokeRoleRequest {
        request_id: request_id(),
        person_id: person.into(),
        role: role.into(),
        platform: String::new(),
    }
}

/// A served installation whose staff authority the test holds.
async fn with_staff(backend: &Backend) -> (Served, Authority) {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(backend, &platform, &staff).await;
    (served, staff)
}

on_both!(callers_change_and_it_binds_at_once);
async fn callers_change_and_it_binds_at_once(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let iin = stored.token("iin");
    let mut staff = served.platforms("admin").await;
    let payments = caller(&mut staff, "lerna", "payments").await;
    assert_eq!(payments.state(), pb::CallerState::Enabled);
    assert_eq!(payments.enrol_time, payments.update_time);

    // An open connection gets nothing more.
    let mut open = served.vault("payments").await;
    let request = || crate::common::served::detokenize_request(iin, "payments");
    assert!(open.detokenize(request()).await.is_ok());
    let disabled = disable(&mut staff, &payments.caller_id).await.unwrap();
    assert_eq!(disabled.state(), pb::CallerState::Disabled);
    assert_eq!(refusal(open.detokenize(request()).await), "CALLER_DISABLED");
    assert_eq!(refusal(open.who_am_i(pb::WhoAmIRequest {}).await), "CALLER_DISABLED");
    // Its name is free meanwhile, and then it is not.
    let twin = enrol(
        &mut staff,
        pb::EnrolCallerRequest {
            spiffe_id: "spiffe://lerna.example.kz/payments2".into(),
            ..new_caller("lerna", "payments", pb::Role::Service)
        },
    );
    let twin = twin.await.unwrap();
    assert_eq!(refusal(enable(&mut staff, &payments.caller_id).await), "NAME_TAKEN");
    disable(&mut staff, &twin.caller_id).await.unwrap();
    enable(&mut staff, &payments.caller_id).await.unwrap();
    assert!(open.detokenize(request()).await.is_ok());

    // Two callers change their names, by way of a third.
    let support = caller(&mut staff, "lerna", "support").await;
    for (caller, name) in [(&payments, "x"), (&support, "payments"), (&payments, "support")] {
        let request = pb::UpdateCallerRequest { name: name.into(), ..update(caller) };
        staff.update_caller(request).await.unwrap();
    }
    assert!(served.read("support", "payments", iin).await.is_ok());
    assert_eq!(served.read("payments", "payments", iin).await, Err("CALLER_NOT_ALLOWED".into()));
    let taken = pb::UpdateCallerRequest { name: "backend".into(), ..update(&support) };
    assert_eq!(refusal(staff.update_caller(taken).await), "NAME_TAKEN");
    // What changed stays so.
    let served = served.restart().await;
    assert!(served.read("support", "payments", iin).await.is_ok());
    served.running.stop().await.unwrap();
}

on_both!(a_certificate_is_one_caller_of_one_place);
async fn a_certificate_is_one_caller_of_one_place(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    let other = pb::CreatePlatformRequest {
        request_id: request_id(),
        name: "second".into(),
        legal_name: "ТОО «Екінші»".into(),
        bin: "211140009394".into(),
    };
    staff.create_platform(other).await.unwrap();
    let service = pb::Role::Service;
    // Enrolled before, here or on another platform.
    for platform in ["lerna", "second"] {
        let request = new_caller(platform, "payments", service);
        assert_eq!(refusal(enrol(&mut staff, request).await), "CERTIFICATE_TAKEN", "{platform}");
    }
    // Nobody shares a trust domain with the staff, and one without an authority is nobody's.
    for (platform, uri, rule) in [
        ("second", "spiffe://vault.example.kz/x", "the staff's, which no platform shares"),
        ("vault", "spiffe://lerna.example.kz/x", "a platform's, which staff does not share"),
        ("second", "spiffe://elsewhere.kz/x", "no client authority is declared"),
    ] {
        let role = if platform == "vault" { pb::Role::Auditor } else { service };
        let request = pb::EnrolCallerRequest { spiffe_id: uri.into(), ..new_caller(platform, "x", role) };
        let status = enrol(&mut staff, request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS");
        assert!(format!("{status:?}").contains(rule), "{status:?}");
    }
    // Roles that a caller cannot have where it is to be.
    for (platform, roles, person) in [
        ("second", vec![], ""),
        ("second", vec![pb::Role::PlatformAdmin], ""),
        ("second", vec![service], "per_ygmd6epvdryaeunxg3j4fagntu"),
        ("vault", vec![service], ""),
        ("vault", vec![pb::Role::SecurityOfficer], ""),
        ("vault", vec![], ""),
        ("vault", vec![pb::Role::Auditor], "per_ygmd6epvdryaeunxg3j4fagntu"),
    ] {
        let request = pb::EnrolCallerRequest {
            roles: roles.iter().map(|role| (*role).into()).collect(),
            person_id: person.into(),
            ..new_caller(platform, "x", service)
        };
        assert_eq!(refusal(enrol(&mut staff, request).await), "INVALID_FIELDS", "{platform} {roles:?}");
    }
    // A retry is answered as the first time, and enrols nobody else.
    let request = new_caller("second", "fresh", service);
    let first = enrol(&mut staff, request.clone()).await.unwrap();
    assert_eq!(enrol(&mut staff, request).await.unwrap(), first);
    assert_eq!(callers(&mut staff, "second").await, [first]);
    let nowhere = new_caller("nowhere", "y", service);
    assert_eq!(refusal(enrol(&mut staff, nowhere).await), "PLATFORM_NOT_FOUND");
    served.running.stop().await.unwrap();
}

on_both!(platforms_are_made_once_and_listed_by_name);
async fn platforms_are_made_once_and_listed_by_name(backend: Backend) {
    use pb::create_platform_response::Outcome;
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    let request = |name: &str| pb::CreatePlatformRequest {
        request_id: request_id(),
        name: name.into(),
        legal_name: "ТОО «Екінші»".into(),
        bin: "211140009394".into(),
    };
    let second = request("second");
    let made = staff.create_platform(second.clone()).await.unwrap().into_inner();
    let Some(Outcome::Applied(platform)) = &made.outcome else { panic!("{made:?}") };
    assert_eq!((platform.name.as_str(), platform.policy_version), ("second", 0));
    assert_eq!(staff.create_platform(second).await.unwrap().into_inner(), made, "a retry");
    assert_eq!(refusal(staff.create_platform(request("second")).await), "NAME_TAKEN");
    assert_eq!(refusal(staff.create_platform(request("vault")).await), "NAME_TAKEN");
    let bad = pb::CreatePlatformRequest { bin: "211140009395".into(), ..request("third") };
    assert_eq!(refusal(staff.create_platform(bad).await), "INVALID_FIELDS");
    staff.create_platform(request("another")).await.unwrap();

    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListPlatformsRequest { page_size: 2, page_token };
        let page = staff.list_platforms(request).await.unwrap().into_inner();
        assert_eq!(page.governance_mode, "single-officer");
        names.extend(page.platforms.into_iter().map(|p| (p.name, p.policy_version)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = [("another", 0), ("lerna", 1), ("second", 0), ("vault", 0)];
    assert_eq!(names, expected.map(|(name, version)| (name.to_owned(), version)));

    // A platform without a policy allows nothing, and its callers see their own platform alone.
    let mut backend = served.platforms("backend").await;
    assert_eq!(refusal(backend.create_platform(request("fourth")).await), "CALLER_NOT_ALLOWED");
    assert_eq!(
        refusal(backend.list_platforms(pb::ListPlatformsRequest::default()).await),
        "CALLER_NOT_ALLOWED"
    );
    let request = pb::ListCallersRequest { platform: "second".into(), ..pb::ListCallersRequest::default() };
    assert_eq!(refusal(backend.list_callers(request).await), "CALLER_NOT_ALLOWED");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_officer_stays_and_nobody_locks_themselves_out() {
    let (served, authority) = with_staff(&Backend::Sqlite).await;
    let mut staff = served.platforms("admin").await;
    let list = pb::ListPersonsRequest::default();
    let admin = staff.list_persons(list).await.unwrap().into_inner().persons.remove(0);
    let own = caller(&mut staff, "vault", "admin").await;
    let off = |id: &str| pb::DisablePersonRequest { request_id: request_id(), person_id: id.into() };

    let officer = pb::Role::SecurityOfficer;
    assert_eq!(refusal(staff.revoke_role(revoke(&admin.person_id, officer)).await), "LAST_OFFICER");
    assert_eq!(refusal(staff.disable_person(off(&admin.person_id)).await), "OWN_ACCOUNT");
    assert_eq!(refusal(disable(&mut staff, &own.caller_id).await), "OWN_ACCOUNT");
    let other_key = pb::UpdateCallerRequest { key_pins: vec![vec![7; 32]], ..update(&own) };
    assert_eq!(refusal(staff.update_caller(other_key).await), "OWN_ACCOUNT");

    // A second officer of one platform is none of the installation; with a certificate and the office, one is.
    let second = person(&served, &authority, "second", &[(officer, "lerna")]).await;
    assert_eq!(refusal(staff.revoke_role(revoke(&admin.person_id, officer)).await), "LAST_OFFICER");
    grant(&mut staff, &second.person_id, officer, "").await.unwrap();
    let mut other = served.platforms("second").await;
    let theirs = caller(&mut other, "vault", "second").await;
    disable(&mut staff, &theirs.caller_id).await.unwrap();
    assert_eq!(refusal(staff.revoke_role(revoke(&admin.person_id, officer)).await), "LAST_OFFICER");
    enable(&mut staff, &theirs.caller_id).await.unwrap();

    // A disabled person is refused at every call, on open connections too, for good.
    let gone = other.disable_person(off(&admin.person_id)).await.unwrap().into_inner().person.unwrap();
    assert!(gone.roles.is_empty() && gone.disable_time.is_some());
    let list = pb::ListPersonsRequest::default();
    assert_eq!(refusal(staff.list_persons(list).await), "CALLER_DISABLED");
    assert_eq!(refusal(enable(&mut other, &own.caller_id).await), "PERSON_DISABLED");
    assert_eq!(refusal(grant(&mut other, &admin.person_id, officer, "").await), "PERSON_DISABLED");
    assert_eq!(refusal(other.revoke_role(revoke(&second.person_id, officer)).await), "LAST_OFFICER");
    served.running.stop().await.unwrap();
}

on_both!(r26_roles_hold_where_they_were_given);
async fn r26_roles_hold_where_they_were_given(backend: Backend) {
    let (served, authority) = with_staff(&backend).await;
    person(&served, &authority, "local", &[(pb::Role::PlatformAdmin, "lerna")]).await;
    person(&served, &authority, "wide", &[(pb::Role::PlatformAdmin, "")]).await;
    let auditor = person(&served, &authority, "reader", &[(pb::Role::Auditor, "")]).await;

    // On its own platform an administrator enrols; elsewhere it does not, and of other platforms it sees nothing.
    let mut local = served.platforms("local").await;
    enrol(&mut local, new_caller("lerna", "extra", pb::Role::Service)).await.unwrap();
    let seen = local.list_callers(pb::ListCallersRequest::default()).await.unwrap().into_inner().callers;
    assert!(seen.len() > 7 && seen.iter().all(|caller| caller.platform == "lerna"));
    let platforms = local.list_platforms(pb::ListPlatformsRequest::default()).await.unwrap().into_inner();
    assert_eq!(platforms.platforms.len(), 1);
    let machine = new_caller("vault", "machine", pb::Role::Auditor);
    assert_eq!(refusal(enrol(&mut local, machine.clone()).await), "CALLER_NOT_ALLOWED");

    // An administrator of the installation binds no certificate to a person: it could act as any officer then.
    let mut wide = served.platforms("wide").await;
    assert_eq!(refusal(enrol(&mut wide, machine).await), "CALLER_NOT_ALLOWED");
    let persons = wide.list_persons(pb::ListPersonsRequest::default()).await.unwrap().into_inner().persons;
    let admin = persons.iter().find(|person| person.handle == "admin").unwrap();
    let impostor = pb::EnrolCallerRequest {
        roles: Vec::new(),
        person_id: admin.person_id.clone(),
        ..new_caller("vault", "impostor", pb::Role::Auditor)
    };
    assert_eq!(refusal(enrol(&mut wide, impostor).await), "CALLER_NOT_ALLOWED");
    let officer = pb::Role::SecurityOfficer;
    assert_eq!(refusal(grant(&mut wide, &auditor.person_id, officer, "").await), "CALLER_NOT_ALLOWED");

    // An auditor reads and changes nothing. What is taken away is gone at once.
    let mut reader = served.platforms("reader").await;
    assert!(!callers(&mut reader, "lerna").await.is_empty());
    let request = new_caller("lerna", "more", pb::Role::Service);
    assert_eq!(refusal(enrol(&mut reader, request).await), "CALLER_NOT_ALLOWED");
    let mut staff = served.platforms("admin").await;
    staff.revoke_role(revoke(&auditor.person_id, pb::Role::Auditor)).await.unwrap();
    let request = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    assert_eq!(refusal(reader.list_callers(request).await), "CALLER_NOT_ALLOWED");
    served.running.stop().await.unwrap();
}

on_both!(recipients_are_registered_as_the_policy_allows);
async fn recipients_are_registered_as_the_policy_allows(backend: Backend) {
    use pb::{register_recipient_response::Outcome, update_recipient_key_response::Outcome as Keyed};
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    let until = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    let bank = |name: &str| pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: name.into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(until),
        ..pb::RegisterRecipientRequest::default()
    };
    for (what, request) in [
        (
            "a purpose that is not declared",
            pb::RegisterRecipientRequest { purposes: vec!["resale".into()], ..bank("b") },
        ),
        (
            "a purpose without banks",
            pb::RegisterRecipientRequest { purposes: vec!["request_comms".into()], ..bank("b") },
        ),
        (
            "abroad",
            pb::RegisterRecipientRequest {
                country: "DE".into(),
                safeguard: pb::Safeguard::SubjectConsent.into(),
                ..bank("b")
            },
        ),
        ("no such country", pb::RegisterRecipientRequest { country: "XX".into(), ..bank("b") }),
        ("no contract", pb::RegisterRecipientRequest { contract_reference: String::new(), ..bank("b") }),
        (
            "ended before it began",
            pb::RegisterRecipientRequest {
                valid_until_time: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 }),
                ..bank("b")
            },
        ),
        ("a short key", pb::RegisterRecipientRequest { public_key: vec![1; 31], ..bank("b") }),
    ] {
        assert_eq!(refusal(staff.register_recipient(request).await), "INVALID_FIELDS", "{what}");
    }
    let registered = staff.register_recipient(bank("bank")).await.unwrap().into_inner();
    let Some(Outcome::Applied(first)) = registered.outcome else { panic!("one officer is enough here") };
    assert!(first.key.is_none() && first.end_time.is_none());
    assert_eq!(refusal(staff.register_recipient(bank("bank")).await), "NAME_TAKEN");
    let key = |recipient: &str| pb::UpdateRecipientKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: recipient.into(),
        public_key: vec![9; 32],
    };
    let keyed = staff.update_recipient_key(key("bank")).await.unwrap().into_inner();
    let Some(Keyed::Applied(keyed)) = keyed.outcome else { panic!("one officer is enough here") };
    assert_eq!(keyed.offered_key.unwrap().public_key, [9; 32]);
    assert!(keyed.key.is_none(), "nobody has shown to hold it");
    assert_eq!(refusal(staff.update_recipient_key(key("other")).await), "RECIPIENT_NOT_FOUND");
    let end = |name: &str| pb::EndRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: name.into(),
    };
    let ended = staff.end_recipient(end("bank")).await.unwrap().into_inner().recipient.unwrap();
    assert!(ended.end_time.is_some());
    assert_eq!(staff.end_recipient(end("bank")).await.unwrap().into_inner().recipient.unwrap(), ended);
    assert_eq!(refusal(staff.update_recipient_key(key("bank")).await), "RECIPIENT_NOT_FOUND");
    // The name is free again, and the list keeps both.
    staff.register_recipient(bank("bank")).await.unwrap();
    let list = pb::ListRecipientsRequest { platform: "lerna".into(), ..pb::ListRecipientsRequest::default() };
    let all = staff.list_recipients(list).await.unwrap().into_inner().recipients;
    assert_eq!(all.iter().filter(|r| r.end_time.is_some()).count(), 1);
    assert_eq!(all.len(), 2);
    served.running.stop().await.unwrap();
}

on_both!(budgets_are_set_and_listed);
async fn budgets_are_set_and_listed(backend: Backend) {
    use pb::set_budget_response::Outcome;
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    let backend = caller(&mut staff, "lerna", "backend").await;
    let set = |limit, window_seconds| pb::SetBudgetRequest {
        request_id: request_id(),
        caller_id: backend.caller_id.clone(),
        kind: pb::BudgetKind::Enumeration.into(),
        limit,
        window_seconds,
    };
    assert_eq!(refusal(staff.set_budget(set(10, 59)).await), "INVALID_FIELDS");
    assert_eq!(refusal(staff.set_budget(set(u64::MAX, 60)).await), "INVALID_FIELDS");
    let unknown = pb::SetBudgetRequest { caller_id: "cal_ygmd6epvdryaeunxg3j4fagntu".into(), ..set(1, 60) };
    assert_eq!(refusal(staff.set_budget(unknown).await), "CALLER_NOT_FOUND");
    for limit in [10, 20] {
        let answer = staff.set_budget(set(limit, 3_600)).await.unwrap().into_inner();
        let Some(Outcome::Applied(budget)) = answer.outcome else { panic!("one officer is enough here") };
        assert_eq!((budget.limit, budget.spent), (limit, 0));
    }
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListBudgetsRequest { platform: "lerna".into(), page_size: 3, page_token };
        let page = staff.list_budgets(request).await.unwrap().into_inner();
        all.extend(page.budgets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(all.len(), 28, "seven callers, four kinds");
    let of_backend = |b: &&pb::Budget| b.caller_id == backend.caller_id;
    let limits: Vec<_> = all.iter().filter(of_backend).map(|b| (b.kind(), b.limit)).collect();
    let none = i64::MAX.unsigned_abs();
    assert_eq!(
        limits,
        [
            (pb::BudgetKind::DisclosureDay, none),
            (pb::BudgetKind::DisclosureHour, none),
            (pb::BudgetKind::Enumeration, 20),
            (pb::BudgetKind::Erasure, 100),
        ]
    );
    served.running.stop().await.unwrap();
}

on_both!(
    /// One entry for each change, with the object, the MAC of the row that it left, and the person who did it.
    every_change_leaves_one_entry
);
async fn every_change_leaves_one_entry(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    let support = caller(&mut staff, "lerna", "support").await;
    let renamed = pb::UpdateCallerRequest { name: "helpdesk".into(), ..update(&support) };
    staff.update_caller(renamed).await.unwrap();
    disable(&mut staff, &support.caller_id).await.unwrap();
    enable(&mut staff, &support.caller_id).await.unwrap();
    // Again: nothing changes, and it is said all the same.
    enable(&mut staff, &support.caller_id).await.unwrap();
    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: "k-17".into() };
    staff.enrol_person(request).await.unwrap();
    let list = pb::ListPersonsRequest::default();
    let persons = staff.list_persons(list).await.unwrap().into_inner().persons;
    let person = persons.iter().find(|person| person.handle == "k-17").unwrap();
    grant(&mut staff, &person.person_id, pb::Role::Auditor, "lerna").await.unwrap();
    let off = pb::DisablePersonRequest { request_id: request_id(), person_id: person.person_id.clone() };
    staff.disable_person(off).await.unwrap();
    let refused = grant(&mut staff, &person.person_id, pb::Role::Auditor, "").await;
    assert_eq!(refusal(refused), "PERSON_DISABLED");

    let dir = served.running.installation.dir().to_owned();
    served.running.stop().await.unwrap();
    let store = backend.store(&dir).await;
    let of = async |platform| {
        let rows = store.entries(PlatformId::new(platform), 0, 1_000).await.unwrap();
        let entries = rows.into_iter().map(|row| Entry::decode(&row.entry).unwrap());
        let changes = entries.filter(|e| e.row_mac.is_some() && e.call.starts_with("PlatformService/"));
        changes.map(|e| (e.call.clone(), e.object_kind.clone().unwrap(), e)).collect::<Vec<_>>()
    };
    let names = |entries: &[(String, String, Entry)]| {
        let name = |call: &str| call.trim_start_matches("PlatformService/").to_owned();
        entries.iter().map(|(call, kind, _)| format!("{} {kind}", name(call))).collect::<Vec<_>>()
    };
    let (platform, vault) = (of(1).await, of(0).await);
    let expected = ["UpdateCaller", "DisableCaller", "EnableCaller", "EnableCaller"];
    let enrolled = vec!["EnrolCaller caller".to_owned(); 7];
    let changed = expected.map(|call| format!("{call} caller"));
    assert_eq!(names(&platform), [enrolled, changed.to_vec()].concat());
    let mac_of = |n: usize| platform[platform.len() - n].2.row_mac;
    assert_eq!(mac_of(1), mac_of(2), "the row stayed");
    assert_ne!(mac_of(2), mac_of(3));
    let persons = ["EnrolPerson person", "GrantRole role", "DisablePerson person", "DisablePerson role"];
    assert_eq!(names(&vault), [vec!["EnrolCaller caller"], persons.to_vec()].concat());
    for (_, _, entry) in platform.iter().chain(&vault) {
        assert!(entry.person.is_some() && entry.object.is_some() && entry.detail_sha256.is_some());
        assert!(entry.request.is_some() && entry.verdict == "done");
    }
    // The rows are the ones that the log speaks of.
    let stored = store.config(PlatformId::new(1)).await.unwrap().callers;
    let row = stored.iter().find(|row| row.caller.name.as_str() == "helpdesk").unwrap();
    assert_eq!(mac_of(1).map(|mac| *mac), Some(row.mac));
}
