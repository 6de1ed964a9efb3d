//! The second factor of staff: a person's certificate counts where its key lives on hardware, as two others attested.
//! Each way around that has a test of its name.

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sandyq::{
    cli::local::LocalInstallation,
    grpc::{
        authn::peer_of,
        pb::{
            self, operation_service_client::OperationServiceClient,
            proposal_service_client::ProposalServiceClient,
        },
    },
};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::common::{
    backend::{Backend, on_both},
    house::{House, applied, approval, erase, new_caller, person_named, proposed, revoke, state},
    metrics::{health, samples, scrape},
    served::{Served, reason, request_id},
};

const REQUIRED: (&str, &str) = ("\"declared_absent\"", "\"required\"");
const REFUSED: &str = "STAFF_KEY_NOT_ENROLLED";

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.unwrap_err())
}

/// The hash of the key in a caller's certificate file.
pub fn key_of(served: &Served, name: &str) -> Vec<u8> {
    let pem = std::fs::read(served.file(&format!("{name}.pem"))).unwrap();
    peer_of(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap().mark.key.to_vec()
}

/// That the key of a certificate is a person's.
pub fn enrolment(served: &Served, certificate: &str, person: &str) -> pb::EnrolStaffKeyRequest {
    pb::EnrolStaffKeyRequest {
        request_id: request_id(),
        person_id: person.into(),
        key_sha256: key_of(served, certificate),
        serial: "12345678".into(),
        device: "a synthetic token".into(),
        attestation_chain: Vec::new(),
    }
}

/// Proposes as somebody that the key of a certificate is a person's.
async fn propose(house: &House, who: &str, certificate: &str, person: &str) -> pb::Proposal {
    let request = enrolment(&house.served, certificate, person);
    let mut client = house.served.platforms(who).await;
    proposed!(client, enrol_staff_key(request) in enrol_staff_key_response)
}

pub async fn me(served: &Served, who: &str) -> Result<(pb::StaffKeyRule, bool, String), String> {
    let answer = served.vault(who).await.who_am_i(pb::WhoAmIRequest {}).await;
    let answer = answer.map_err(|status| reason(&status))?.into_inner();
    Ok((answer.staff_key_rule(), answer.has_staff_key, answer.person_id))
}

async fn lists(served: &Served, who: &str) -> Result<(), String> {
    let request = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    let answer = served.platforms(who).await.list_callers(request).await;
    answer.map(drop).map_err(|status| reason(&status))
}

pub async fn keys(served: &Served) -> Vec<pb::StaffKey> {
    let request = pb::ListStaffKeysRequest::default();
    served.platforms("admin").await.list_staff_keys(request).await.unwrap().into_inner().staff_keys
}

pub async fn withdraw(served: &Served, who: &str, key: Vec<u8>) -> Result<pb::StaffKey, String> {
    let request = pb::WithdrawStaffKeyRequest { request_id: request_id(), key_sha256: key };
    let answer = served.platforms(who).await.withdraw_staff_key(request).await;
    answer.map(|answer| answer.into_inner().staff_key.unwrap()).map_err(|status| reason(&status))
}

/// A house in two-person mode whose staff needs keys, and the ids of `admin`, `second` and `local`.
async fn begun(backend: &Backend) -> (House, [String; 3]) {
    let house = House::new(backend).await;
    let mut admin = house.served.platforms("admin").await;
    let mut ids = Vec::new();
    for handle in ["admin", "second", "local"] {
        ids.push(person_named(&mut admin, handle).await.person_id);
    }
    // A third officer, so that two others can attest a key of either of the first two.
    let request = crate::common::house::grant(&ids[2], pb::Role::SecurityOfficer, "");
    let proposal = proposed!(admin, grant_role(request) in grant_role_response);
    house.approved(&proposal).await;
    (house.mode(REQUIRED.0, REQUIRED.1).await, ids.try_into().unwrap())
}

/// The same where the two first and `local` have a key, each that of the certificate of the name.
async fn enrolled(backend: &Backend) -> (House, [String; 3]) {
    let (house, ids) = begun(backend).await;
    for (who, by, person) in [("admin", "second", &ids[0]), ("second", "admin", &ids[1])] {
        let proposal = propose(&house, who, who, person).await;
        house.approve(by, &proposal).await.unwrap();
    }
    let proposal = propose(&house, "admin", "local", &ids[2]).await;
    house.approved(&proposal).await;
    (house, ids)
}

on_both!(the_first_two_attest_each_other_and_until_then_nothing_else_works);
async fn the_first_two_attest_each_other_and_until_then_nothing_else_works(backend: Backend) {
    let house = House::new(&backend).await;
    let stored = house.served.store(1).await;
    // Proposed before keys were required, and what it opens is not approved without one.
    let before = house.propose("extra").await;
    let mut admin = house.served.platforms("admin").await;
    let ids = [person_named(&mut admin, "admin").await, person_named(&mut admin, "second").await];
    let ids = ids.map(|person| person.person_id);
    assert_eq!(me(&house.served, "admin").await, Ok((pb::StaffKeyRule::Absent, false, ids[0].clone())));
    let house = house.mode(REQUIRED.0, REQUIRED.1).await;
    let served = &house.served;
    let watched = HealthCheckRequest { service: "sandyq.staff".into() };
    let address = served.running.health.unwrap();
    let mut said = health(address).await.watch(watched).await.unwrap().into_inner();
    while said.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert_eq!(samples(&scrape(address).await)["sandyq_staff_keys_begun"], "1");

    for who in ["admin", "admin2", "second"] {
        let (rule, has, _) = me(served, who).await.unwrap();
        assert_eq!((rule, has), (pb::StaffKeyRule::Begun, false));
        assert_eq!(lists(served, who).await, Err(REFUSED.into()));
    }
    let mut admin = served.platforms("admin").await;
    assert_eq!(refusal(admin.enrol_caller(new_caller("more")).await), REFUSED);
    assert_eq!(house.approve("second", &before).await, Err(REFUSED.into()));
    let shown = pb::GetProposalRequest { proposal_id: before.proposal_id.clone() };
    assert_eq!(refusal(house.proposals("second").await.get_proposal(shown).await), REFUSED);
    // Platforms go on.
    assert!(served.read("payments", "payments", stored.token("iin")).await.is_ok());

    let own = propose(&house, "admin", "admin", &ids[0]).await;
    assert_eq!(house.approve("admin", &own).await, Err("OWN_PROPOSAL".into()));
    assert_eq!(house.approve("admin2", &own).await, Err("OWN_PROPOSAL".into()));
    assert_eq!(state(&house.approve("second", &own).await.unwrap()), pb::ProposalState::Approved);
    let (rule, has, _) = me(served, "admin").await.unwrap();
    assert_eq!((rule, has), (pb::StaffKeyRule::Begun, true));
    assert_eq!(lists(served, "admin").await, Err(REFUSED.into()), "one of two is not enough");
    // Who has a key uses it, with whichever certificate; and a further one is attested by two others.
    assert_eq!(me(served, "admin2").await, Err(REFUSED.into()));
    let more = enrolment(served, "admin2", &ids[0]);
    assert_eq!(refusal(admin.enrol_staff_key(more).await), "OWN_STAFF_KEY");

    let own = propose(&house, "second", "second", &ids[1]).await;
    house.approve("admin", &own).await.unwrap();
    assert_eq!(me(served, "second").await, Ok((pb::StaffKeyRule::Required, true, ids[1].clone())));
    assert_eq!((lists(served, "admin").await, lists(served, "second").await), (Ok(()), Ok(())));
    assert_eq!(lists(served, "local").await, Err(REFUSED.into()));
    assert_eq!(me(served, "local").await, Err(REFUSED.into()));
    assert!(house.approve("second", &before).await.is_ok());
    while said.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert_eq!(samples(&scrape(address).await)["sandyq_staff_keys_begun"], "0");
    let found = keys(served).await;
    let attested = |key: &pb::StaffKey| (key.proposer_person_id.clone(), key.approver_person_id.clone());
    assert!(found.iter().all(|key| attested(key) == (key.person_id.clone(), other(&ids, &key.person_id))));
    assert_eq!(found.len(), 2);
    house.stop().await;
}

fn other(ids: &[String; 2], id: &str) -> String {
    ids.iter().find(|known| known.as_str() != id).unwrap().clone()
}

on_both!(nobody_attests_a_key_of_their_own);
async fn nobody_attests_a_key_of_their_own(backend: Backend) {
    let (house, ids) = enrolled(&backend).await;
    house.certify("spare");
    let mut admin = house.served.platforms("admin").await;
    let own = enrolment(&house.served, "spare", &ids[0]);
    assert_eq!(refusal(admin.enrol_staff_key(own).await), "OWN_STAFF_KEY");
    // Nor by approving what somebody else proposed; the proposal stays for a third.
    let proposal = propose(&house, "second", "spare", &ids[0]).await;
    assert_eq!(house.approve("admin", &proposal).await, Err("OWN_STAFF_KEY".into()));
    assert_eq!(house.state(&proposal).await, pb::ProposalState::Open);
    assert_eq!(keys(&house.served).await.len(), 3);
    house.approve("local", &proposal).await.unwrap();
    let found = keys(&house.served).await;
    let spare = key_of(&house.served, "spare");
    let spare = found.into_iter().find(|key| key.key_sha256 == spare).unwrap();
    let by = (spare.proposer_person_id, spare.approver_person_id);
    assert_eq!((spare.person_id, by), (ids[0].clone(), (ids[1].clone(), ids[2].clone())));
    house.stop().await;
}

on_both!(one_person_with_two_certificates_attests_nothing_alone);
async fn one_person_with_two_certificates_attests_nothing_alone(backend: Backend) {
    let (house, ids) = enrolled(&backend).await;
    // Both certificates of `admin` have a key that counts.
    let proposal = propose(&house, "second", "admin2", &ids[0]).await;
    house.approve("local", &proposal).await.unwrap();
    assert_eq!(lists(&house.served, "admin2").await, Ok(()));
    let mut admin = house.served.platforms("admin").await;
    let elsewhere = person_named(&mut admin, "elsewhere").await.person_id;
    let proposal = propose(&house, "admin", "elsewhere", &elsewhere).await;
    assert_eq!(house.approve("admin2", &proposal).await, Err("OWN_PROPOSAL".into()));
    assert_eq!(lists(&house.served, "elsewhere").await, Err(REFUSED.into()));
    house.stop().await;
}

on_both!(a_key_of_another_person_is_none_of_ones_own);
async fn a_key_of_another_person_is_none_of_ones_own(backend: Backend) {
    let (house, ids) = enrolled(&backend).await;
    // The key of `elsewhere` is enrolled, and as one of `local`'s.
    let proposal = propose(&house, "admin", "elsewhere", &ids[2]).await;
    house.approved(&proposal).await;
    assert_eq!(me(&house.served, "elsewhere").await, Err(REFUSED.into()));
    let mut admin = house.served.platforms("admin").await;
    let elsewhere = person_named(&mut admin, "elsewhere").await.person_id;
    let again = enrolment(&house.served, "elsewhere", &elsewhere);
    assert_eq!(refusal(admin.enrol_staff_key(again).await), "STAFF_KEY_TAKEN");
    house.stop().await;
}

/// Begins an erasure, which waits for hours; answers its operation.
async fn erasure(house: &House) -> String {
    let mut subjects = house.subjects("local").await;
    let erased = subjects.erase_subject(erase(1)).await.unwrap().into_inner().outcome.unwrap();
    let pb::erase_subject_response::Outcome::Applied(erasure) = erased else { panic!("{erased:?}") };
    erasure.operation_id
}

async fn watch(channel: Channel, operation: &str) -> Streaming<pb::WatchOperationResponse> {
    let watch = pb::WatchOperationRequest { operation_id: operation.to_owned() };
    let mut watched = OperationServiceClient::new(channel).watch_operation(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    watched
}

async fn ends(mut watched: Streaming<pb::WatchOperationResponse>) {
    let status = watched.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, REFUSED));
}

/// On PostgreSQL alone: SQLite has one process.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_refuses_a_withdrawn_key_at_its_next_call_and_ends_its_streams() {
    let backend = Backend::postgres().await;
    let (house, _) = enrolled(&backend).await;
    house.served.store(1).await;
    let erasure = erasure(&house).await;
    let files = LocalInstallation::open(house.served.running.installation.dir());
    let running = files.start(false).await.unwrap();
    let other = Served { running, dir: tempfile::tempdir().unwrap(), backend };
    assert_eq!(lists(&other, "local").await, Ok(()));
    let watched = watch(other.channel("local").await, &erasure).await;
    let quiet = watch(other.channel("second").await, &erasure).await;
    withdraw(&house.served, "admin", key_of(&house.served, "local")).await.unwrap();
    assert_eq!(lists(&other, "local").await, Err(REFUSED.into()));
    ends(watched).await;
    assert_eq!(me(&other, "local").await, Err(REFUSED.into()));
    // Where nobody calls the other, it looks by itself.
    withdraw(&house.served, "admin", key_of(&house.served, "second")).await.unwrap();
    ends(quiet).await;
    assert_eq!(me(&other, "second").await, Err(REFUSED.into()));
    other.running.stop().await.unwrap();
    house.stop().await;
}

on_both!(a_withdrawn_key_gets_nothing_more);
async fn a_withdrawn_key_gets_nothing_more(backend: Backend) {
    let (house, _) = enrolled(&backend).await;
    let served = &house.served;
    served.store(1).await;
    // Connections that are open, a stream that runs, and what was proposed with the key.
    let channel = served.channel("local").await;
    let mut proposals = ProposalServiceClient::new(channel.clone());
    let erasure = erasure(&house).await;
    let watched = watch(channel, &erasure).await;
    let mut local = served.platforms("local").await;
    let own = proposed!(local, enrol_caller(new_caller("stolen")) in enrol_caller_response);
    let other = house.propose("extra").await;

    let key = key_of(served, "local");
    assert_eq!(withdraw(served, "local", key.clone()).await, Err("OWN_ACCOUNT".into()));
    let gone = withdraw(served, "admin", key.clone()).await.unwrap();
    assert!(gone.withdraw_time.is_some());
    assert_eq!(withdraw(served, "admin", key.clone()).await.unwrap(), gone, "once is enough");
    let unknown = withdraw(served, "admin", vec![9; 32]).await;
    assert_eq!(unknown, Err("STAFF_KEY_NOT_FOUND".into()));

    assert_eq!(refusal(proposals.approve_proposal(approval(&other)).await), REFUSED);
    ends(watched).await;
    assert_eq!(me(served, "local").await, Err(REFUSED.into()));
    // What was proposed with it is proposed anew by somebody who has a key.
    assert_eq!(house.approve("second", &own).await, Err("PROPOSER_NOT_ALLOWED".into()));
    assert!(!house.is_enrolled("stolen").await);
    assert!(house.approve("second", &other).await.is_ok());
    let mut admin = served.platforms("admin").await;
    let person = person_named(&mut admin, "local").await.person_id;
    let again = enrolment(served, "local", &person);
    assert_eq!(refusal(admin.enrol_staff_key(again).await), "STAFF_KEY_TAKEN", "a lost key never returns");
    house.stop().await;
}

on_both!(an_edited_row_of_a_key_is_not_believed);
async fn an_edited_row_of_a_key_is_not_believed(backend: Backend) {
    let (house, ids) = enrolled(&backend).await;
    withdraw(&house.served, "admin", key_of(&house.served, "local")).await.unwrap();
    let changed = house.served.sql("UPDATE staff_keys SET state = 'active' WHERE state = 'withdrawn'").await;
    assert_eq!(changed, 1);
    // Who serves already goes by what it read; any change makes it read again, and then nobody is believed.
    assert_eq!(me(&house.served, "local").await, Err(REFUSED.into()));
    let reconcile = pb::ReconcileLogRequest { platform: "vault".into() };
    let mut found = house.served.audit("auditor").await.reconcile_log(reconcile).await.unwrap().into_inner();
    let mut problems = Vec::new();
    while let Some(step) = found.message().await.unwrap() {
        problems.push(format!("{step:?}"));
    }
    assert!(
        problems.iter().any(|step| step.contains("staff_keys") && step.contains("RowEdited")),
        "{problems:?}"
    );
    let House { served, .. } = house;
    let Served { running, dir, .. } = served;
    let installation = LocalInstallation::open(running.installation.dir());
    running.stop().await.unwrap();
    let refused = format!("{:?}", installation.start(false).await.err().unwrap());
    assert!(refused.contains("staff_keys") && refused.contains("changed behind the vault"), "{refused}");
    drop((dir, ids));
}

/// A vendor: a root, an authority of its devices, and what a device says of a key.
struct Vendor {
    root: String,
    device: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Vendor {
    fn new() -> Self {
        let ca = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let (root_key, device_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("a synthetic vendor");
        let pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let device = ca("a synthetic device");
        let der = device.signed_by(&device_key, &root).unwrap().der().to_vec();
        Self { root: pem, device: der, issuer: Issuer::new(device, device_key) }
    }

    /// What the device with this number says of the key in a file.
    fn attests(&self, served: &Served, name: &str, serial: u8) -> Vec<Vec<u8>> {
        let pem = std::fs::read_to_string(served.file(&format!("{name}.key"))).unwrap();
        let key = KeyPair::from_pem(&pem).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let number = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 41482, 3, 7], vec![2, 1, serial]);
        params.custom_extensions = vec![number];
        vec![params.signed_by(&key, &self.issuer).unwrap().der().to_vec(), self.device.clone()]
    }
}

on_both!(an_attestation_stands_for_no_other_key);
/// Neither that of the two people nor that of the vendor.
async fn an_attestation_stands_for_no_other_key(backend: Backend) {
    let (house, ids) = enrolled(&backend).await;
    let (vendor, stranger) = (Vendor::new(), Vendor::new());
    std::fs::write(house.served.file("vendors.pem"), &vendor.root).unwrap();
    let with_roots = "hardware_keys = \"required\"\nattestation_roots = \"vendors.pem\"";
    let house = house.mode("hardware_keys = \"required\"", with_roots).await;
    let served = &house.served;
    house.certify("spare");
    house.certify("other");
    let mut second = served.platforms("second").await;
    let mut attested = enrolment(served, "spare", &ids[0]);
    attested.attestation_chain = vendor.attests(served, "spare", 77);
    attested.serial = String::new();
    let with = |change: &dyn Fn(&mut pb::EnrolStaffKeyRequest)| {
        let mut request = pb::EnrolStaffKeyRequest { request_id: request_id(), ..attested.clone() };
        change(&mut request);
        request
    };
    let unproved: [&dyn Fn(&mut pb::EnrolStaffKeyRequest); 4] = [
        &|request| request.key_sha256 = key_of(served, "other"),
        &|request| request.attestation_chain = stranger.attests(served, "spare", 77),
        &|request| drop(request.attestation_chain.pop()),
        &|request| request.attestation_chain[0] = vec![0; 12],
    ];
    let mut wrong = vec![
        with(&|request| request.serial = "78".into()),
        with(&|request| request.attestation_chain = Vec::new()),
        with(&|request| request.device = "two\nlines".into()),
    ];
    for change in unproved {
        wrong.push(with(change));
        // A serial number that people state does not stand in for the vendor's proof.
        wrong.push(with(&|request| {
            change(request);
            request.serial = "77".into();
        }));
    }
    for request in wrong {
        let answer = second.enrol_staff_key(request.clone()).await;
        assert_eq!(refusal(answer), "INVALID_FIELDS", "{request:?}");
    }
    let proposal = proposed!(second, enrol_staff_key(attested.clone()) in enrol_staff_key_response);
    let same_id = pb::EnrolStaffKeyRequest { key_sha256: key_of(served, "other"), ..attested.clone() };
    assert_eq!(refusal(second.enrol_staff_key(same_id).await), "REQUEST_ID_REUSED");
    house.approve("local", &proposal).await.unwrap();
    assert_eq!(house.approve("local", &proposal).await, Err("PROPOSAL_ENDED".into()));
    let found = keys(served).await;
    let key = found.iter().find(|key| key.key_sha256 == attested.key_sha256).unwrap();
    assert_eq!((key.serial.as_str(), key.attestation_sha256.len()), ("77", 32));
    assert!(found.iter().all(|key| key.key_sha256 != key_of(served, "other")));
    house.stop().await;
}

on_both!(with_many_subjects_keys_are_required_whatever_is_declared);
async fn with_many_subjects_keys_are_required_whatever_is_declared(backend: Backend) {
    let up_to_two = "\"declared_absent\"\nabsent_up_to_subjects = 2";
    let house = House::new(&backend).await.mode("\"declared_absent\"", up_to_two).await;
    house.served.store(1).await;
    let stored = house.served.store(2).await;
    let house = House { served: house.served.restart().await, staff: house.staff };
    assert_eq!(lists(&house.served, "admin").await, Ok(()));
    house.served.store(3).await;
    let served = house.served.restart().await;
    let (rule, has, _) = me(&served, "admin").await.unwrap();
    assert_eq!((rule, has), (pb::StaffKeyRule::Begun, false));
    assert_eq!(lists(&served, "admin").await, Err(REFUSED.into()));
    assert!(served.read("payments", "payments", stored.token("iin")).await.is_ok());
    served.running.stop().await.unwrap();
}

on_both!(a_single_officer_enrols_no_key_alone);
async fn a_single_officer_enrols_no_key_alone(backend: Backend) {
    let house = House::new(&backend).await.mode("two-person", "single-officer").await;
    let mut admin = house.served.platforms("admin").await;
    let id = person_named(&mut admin, "admin").await.person_id;
    let proposal = propose(&house, "admin", "admin", &id).await;
    assert_eq!(house.approve("admin2", &proposal).await, Err("OWN_PROPOSAL".into()));
    assert!(keys(&house.served).await.is_empty());
    house.approved(&proposal).await;
    assert_eq!(keys(&house.served).await.len(), 1);
    // A role that was taken since counts as everywhere.
    let second = person_named(&mut admin, "second").await.person_id;
    let proposal = propose(&house, "second", "second", &second).await;
    admin.revoke_role(revoke(&second, pb::Role::SecurityOfficer, "")).await.unwrap();
    assert_eq!(house.approve("admin", &proposal).await, Err("PROPOSER_NOT_ALLOWED".into()));
    let request = new_caller("extra");
    applied!(admin, enrol_caller(request) in enrol_caller_response);
    house.stop().await;
}
