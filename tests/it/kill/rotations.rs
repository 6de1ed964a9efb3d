//! `kill -9` of the process in the middle of work on keys, at moments drawn from a printed seed. Whoever starts next takes the work
//! up: everything reads after each death, the version of before is there until the work is verified, and it ends.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use sandyq::{
    cli::{local::LocalInstallation, pki::Authority},
    grpc::pb::{
        self, document_service_client::DocumentServiceClient, key_service_client::KeyServiceClient,
        operation_service_client::OperationServiceClient, policy_service_client::PolicyServiceClient,
        proposal_service_client::ProposalServiceClient, vault_service_client::VaultServiceClient,
    },
};
use tonic::transport::Channel;

use super::{Server, log::Auditor};
use crate::common::{
    backend::{Backend, on_both},
    documents::{PART, ask, consent, content, messages, policy, start},
    house::{SECOND, approval, proposed},
    people::{iin, tokenize_request},
    random::{Choices, rounds},
    served::{detokenize_request, replace_authorities, request_id},
    uploads::objects,
};

const SEED: u64 = 20_261_129;
/// Several commits of each pass.
const PEOPLE: u32 = 40;
/// Subjects and parts of documents a second. The worker looks for work every five seconds, and without a limit it is done with these
/// people before anybody could kill it.
const RATE: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Rotate(pb::KeyKind),
    Rekey,
}

on_both!(
    /// Three deaths of each kind, fifty in a full run.
    a_rotation_of_the_platform_key_survives_its_process
);
async fn a_rotation_of_the_platform_key_survives_its_process(backend: Backend) {
    survives(backend, Work::Rotate(pb::KeyKind::Platform)).await;
}

on_both!(a_rotation_of_the_index_key_survives_its_process);
async fn a_rotation_of_the_index_key_survives_its_process(backend: Backend) {
    survives(backend, Work::Rotate(pb::KeyKind::Index)).await;
}

on_both!(a_rotation_of_the_audit_key_survives_its_process);
async fn a_rotation_of_the_audit_key_survives_its_process(backend: Backend) {
    survives(backend, Work::Rotate(pb::KeyKind::Audit)).await;
}

on_both!(a_rotation_of_the_root_key_survives_its_process);
async fn a_rotation_of_the_root_key_survives_its_process(backend: Backend) {
    survives(backend, Work::Rotate(pb::KeyKind::Root)).await;
}

on_both!(a_rekey_survives_its_process);
async fn a_rekey_survives_its_process(backend: Backend) {
    survives(backend, Work::Rekey).await;
}

async fn survives(backend: Backend, work: Work) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let mut auditor = Auditor::new(&files, dir.path(), initialised(&backend, &files).await);
    let mut life = Life::start(&files).await;
    let held = life.fill(work).await;
    let mut choices = Choices::from_seed(SEED);
    let (mut open, mut deaths, mut midway) = (None, BTreeMap::<String, u32>::new(), 0);
    let (most_steps, most_looks) = work.patience();
    for _ in 0..rounds(3, 50) {
        let id = match open.take() {
            Some(id) => id,
            None => life.begin(work, RATE).await,
        };
        let stepped = life.watch(&id, choices.below(most_steps)).await;
        for _ in 0..choices.below(most_looks) {
            life.look(&id).await;
        }
        let seen = life.look(&id).await;
        life.server.kill();
        // As if its minute were over.
        backend.sql(&files, "UPDATE operations SET lease_until = 1 WHERE lease_until IS NOT NULL").await;
        life = Life::start(&files).await;
        life.all_read(&held).await;
        if is_open(&seen) {
            midway += u32::from(stepped);
            *deaths.entry(format!("{} {}", seen.phase, seen.done)).or_default() += 1;
            open = Some(id);
        } else {
            assert_eq!(seen.state(), pb::OperationState::Done, "{seen:?}");
            *deaths.entry("ended".into()).or_default() += 1;
        }
    }
    println!("{midway} deaths in the middle of it; where they came: {deaths:?}");
    assert!(midway > 0 || !work.has_a_rate());
    if let Some(id) = open {
        life.end(&id).await;
    }
    life.all_read(&held).await;
    life.is_as_it_should_be(work).await;
    if work == Work::Rekey {
        life.collected(&backend, &files).await;
    }
    life.server.write_connections(&files);
    auditor.export();
    life.server.kill();
}

pub(super) fn is_open(operation: &pb::Operation) -> bool {
    operation.end_time.is_none()
}

/// An installation with two officers; answers the audit key.
pub(super) async fn initialised(backend: &Backend, files: &Path) -> String {
    let local = LocalInstallation::create(files, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    replace_authorities(files, &platform, &staff);
    staff.client(&["spiffe://vault.example.kz/second"]).unwrap().write(files, "second").unwrap();
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    std::fs::write(local.config_path(), backend.configure(&config) + SECOND).unwrap();
    let running = local.start(false).await.unwrap();
    let key = running.verifier_key.clone();
    running.stop().await.unwrap();
    key
}

/// What must read after each death.
pub(super) struct Held {
    /// Tokens by the person's number.
    pub(super) tokens: Vec<(u32, String)>,
    pub(super) documents: Vec<(String, Vec<u8>)>,
}

/// One process, from its start to its death.
pub(super) struct Life {
    pub(super) server: Server,
    admin: Channel,
    second: Channel,
    pub(super) backend: Channel,
    pub(super) payments: Channel,
}

impl Work {
    /// The kill comes after fewer steps of the work than this were seen, and then fewer looks. Audit and root keys have a handful of
    /// commits that no rate holds back: they may be over between two looks, and are stopped at each commit in their own tests.
    const fn patience(self) -> (u64, u64) {
        if self.has_a_rate() { (6, 10) } else { (3, 2) }
    }

    const fn has_a_rate(self) -> bool {
        !matches!(self, Self::Rotate(pb::KeyKind::Audit | pb::KeyKind::Root))
    }
}

impl Life {
    async fn start(files: &Path) -> Self {
        Self::of(Server::start(files), files).await
    }

    pub(super) async fn of(server: Server, files: &Path) -> Self {
        let (admin, second) = (server.channel(files, "admin").await, server.channel(files, "second").await);
        let backend = server.channel(files, "backend").await;
        let payments = server.channel(files, "payments").await;
        Self { server, admin, second, backend, payments }
    }

    pub(super) async fn fill(&self, work: Work) -> Held {
        let with_documents = work == Work::Rekey;
        if with_documents {
            let mut policies = PolicyServiceClient::new(self.admin.clone());
            let request =
                pb::ApplyPolicyRequest { request_id: request_id(), text: policy(), validate_only: false };
            policies.apply_policy(request).await.unwrap();
        }
        let mut vault = VaultServiceClient::new(self.backend.clone());
        let mut held = Held { tokens: Vec::new(), documents: Vec::new() };
        for number in 1..=PEOPLE {
            let mut request = tokenize_request(number);
            if with_documents {
                request.consents = vec![consent()];
            }
            let stored = vault.tokenize(request).await.unwrap().into_inner();
            let iin = stored.tokens.into_iter().find(|token| token.field == "iin").unwrap();
            held.tokens.push((number, iin.token));
        }
        let mut documents = DocumentServiceClient::new(self.backend.clone());
        for number in (1..=3).filter(|_| with_documents) {
            let image = content(number.into(), PART + 77);
            let sent =
                messages(&request_id(), start(number, pb::DocumentSide::Front, &image), &image, 500_000);
            let stored = documents.upload_document(tokio_stream::iter(sent)).await.unwrap().into_inner();
            held.documents.push((stored.document_id, image));
        }
        held
    }

    pub(super) async fn all_read(&self, held: &Held) {
        let mut vault = VaultServiceClient::new(self.payments.clone());
        for (number, token) in &held.tokens {
            let answer = vault.detokenize(detokenize_request(token, "payments")).await.unwrap();
            assert_eq!(answer.into_inner().value, iin(*number), "person {number}");
        }
        let mut documents = DocumentServiceClient::new(self.payments.clone());
        for (document, image) in &held.documents {
            let asked = ask(document, pb::DocumentSide::Front);
            let (mut stream, mut bytes) =
                (documents.download_document(asked).await.unwrap().into_inner(), Vec::new());
            while let Some(message) = stream.message().await.unwrap() {
                bytes.extend(message.data);
            }
            assert!(bytes == *image, "a document");
        }
    }

    /// `rate` is how much is done in a second; 0 for as much as goes.
    pub(super) async fn begin(&self, work: Work, rate: u32) -> String {
        let mut keys = KeyServiceClient::new(self.admin.clone());
        let platform = match work {
            Work::Rotate(pb::KeyKind::Audit | pb::KeyKind::Root) => "vault".to_owned(),
            Work::Rotate(_) | Work::Rekey => "lerna".to_owned(),
        };
        if let Work::Rotate(kind) = work {
            let request = pb::RotateKeyRequest {
                request_id: request_id(),
                platform,
                kind: kind.into(),
                rate,
                ..pb::RotateKeyRequest::default()
            };
            let answer = keys.rotate_key(request).await.unwrap().into_inner().outcome.unwrap();
            let pb::rotate_key_response::Outcome::Operation(begun) = answer else { panic!("{answer:?}") };
            return begun.operation_id;
        }
        let request = pb::RekeyPlatformRequest {
            request_id: request_id(),
            platform,
            rate,
            ..pb::RekeyPlatformRequest::default()
        };
        let proposal = proposed!(keys, rekey_platform(request) in rekey_platform_response);
        let mut proposals = ProposalServiceClient::new(self.second.clone());
        proposals.approve_proposal(approval(&proposal)).await.unwrap();
        let mut operations = OperationServiceClient::new(self.admin.clone());
        let list = pb::ListOperationsRequest { platform: "lerna".into(), ..Default::default() };
        let all = operations.list_operations(list).await.unwrap().into_inner().operations;
        let begun = all.into_iter().find(|found| found.kind == "rekey_platform" && is_open(found));
        begun.unwrap().operation_id
    }

    pub(super) async fn look(&self, id: &str) -> pb::Operation {
        let mut operations = OperationServiceClient::new(self.admin.clone());
        let request = pb::GetOperationRequest { operation_id: id.to_owned() };
        operations.get_operation(request).await.unwrap().into_inner().operation.unwrap()
    }

    /// Looks until so many steps of the work were seen, or its end; answers whether a process was at it.
    async fn watch(&self, id: &str, mut steps: u64) -> bool {
        let (mut before, mut stepped) = (self.look(id).await, false);
        while steps > 0 && is_open(&before) {
            let now = self.look(id).await;
            if (&now.phase, now.done) != (&before.phase, before.done) {
                (steps, stepped) = (steps - 1, true);
            }
            before = now;
        }
        stepped
    }

    pub(super) async fn end(&self, id: &str) {
        loop {
            let seen = self.look(id).await;
            if !is_open(&seen) {
                assert_eq!(seen.state(), pb::OperationState::Done, "{seen:?}");
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// One version is active, nothing that was needed is destroyed, and nothing is left under another.
    pub(super) async fn is_as_it_should_be(&self, work: Work) {
        let mut keys = KeyServiceClient::new(self.admin.clone());
        let (platform, kind) = match work {
            Work::Rotate(kind @ (pb::KeyKind::Audit | pb::KeyKind::Root)) => ("vault", kind),
            Work::Rotate(kind) => ("lerna", kind),
            Work::Rekey => ("lerna", pb::KeyKind::Platform),
        };
        let list = pb::ListKeysRequest { platform: platform.into(), ..Default::default() };
        let versions = keys.list_keys(list).await.unwrap().into_inner().keys;
        let states: Vec<_> =
            versions.iter().filter(|key| key.kind() == kind).map(pb::KeyVersion::state).collect();
        if kind == pb::KeyKind::Root {
            let checked = keys.check_kms(pb::CheckKmsRequest {}).await.unwrap().into_inner();
            assert!(checked.problems.is_empty(), "{checked:?}");
            assert!(checked.versions.iter().all(|root| root.active == (root.keys > 0)), "{checked:?}");
            return;
        }
        let active = states.iter().filter(|state| **state == pb::KeyState::Active).count();
        assert!(active == 1 && states.len() > 1, "{versions:?}");
        assert!(!states.contains(&pb::KeyState::Destroyed), "{versions:?}");
        let usage = pb::ListKeyUsageRequest { platform: platform.into(), ..Default::default() };
        for used in keys.list_key_usage(usage).await.unwrap().into_inner().usages {
            let of_kind = used.kind() == kind;
            let uses = used.subject_keys + used.hashes;
            assert!(!of_kind || (used.state() == pb::KeyState::Active) == (uses > 0), "{used:?}");
        }
    }

    /// After one collection every object has its row, and every row its object.
    async fn collected(&self, backend: &Backend, files: &Path) {
        let mut documents = DocumentServiceClient::new(self.admin.clone());
        let collect = pb::CollectDocumentsRequest {
            request_id: request_id(),
            platform: "lerna".into(),
            ..pb::CollectDocumentsRequest::default()
        };
        let begun = documents.collect_documents(collect).await.unwrap().into_inner().operation.unwrap();
        self.end(&begun.operation_id).await;
        let rows = backend.sql(files, "UPDATE document_parts SET doomed = doomed").await;
        assert_eq!(rows, u64::try_from(objects(files)).unwrap());
        assert_eq!(rows, 6);
    }
}
