//! A served installation in two-person mode, with the people that tests need.

use sandyq::{
    cli::pki::Authority,
    grpc::pb::{
        self, proposal_service_client::ProposalServiceClient, subject_service_client::SubjectServiceClient,
    },
};
use tonic::transport::Channel;

use super::{
    backend::Backend,
    people::bin,
    served::{Served, reason, replace_authorities, request_id},
};

/// A second officer, in a configuration.
pub const SECOND: &str = r#"
[[officer]]
handle = "second"
spiffe_id = "spiffe://vault.example.kz/second"
roles = ["platform_admin", "security_officer", "data_protection"]
"#;

const OFFICE: [pb::Role; 3] = [pb::Role::PlatformAdmin, pb::Role::SecurityOfficer, pb::Role::DataProtection];

/// The answer of a call that must have become a proposal.
macro_rules! proposed {
    ($client:expr, $call:ident($request:expr) in $module:ident) => {
        match $client.$call($request).await.unwrap().into_inner().outcome.unwrap() {
            sandyq::grpc::pb::$module::Outcome::Proposal(proposal) => proposal,
            other => panic!("not proposed: {other:?}"),
        }
    };
}
pub(crate) use proposed;

/// The answer of a call that must be done at once.
macro_rules! applied {
    ($client:expr, $call:ident($request:expr) in $module:ident) => {
        match $client.$call($request).await.unwrap().into_inner().outcome.unwrap() {
            sandyq::grpc::pb::$module::Outcome::Applied(done) => done,
            other => panic!("not done: {other:?}"),
        }
    };
}
pub(crate) use applied;

/// An installation in two-person mode. Officers `admin` and `second`; `admin2` is another certificate of the person
/// `admin`; `local` has every role on `lerna` alone, `elsewhere` on `other` alone.
pub struct House {
    pub served: Served,
    pub staff: Authority,
}

impl House {
    pub async fn new(backend: &Backend) -> Self {
        let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
        let served = Served::start_files(backend, |files| {
            replace_authorities(files, &platform, &staff);
            let config = std::fs::read_to_string(files.join("sandyq.toml")).unwrap();
            std::fs::write(files.join("sandyq.toml"), config + SECOND).unwrap();
        })
        .await;
        let mut house = Self { served, staff };
        house.certify("second");
        let mut admin = house.served.platforms("admin").await;
        let other = pb::CreatePlatformRequest {
            request_id: request_id(),
            name: "other".into(),
            legal_name: "ТОО «Басқа»".into(),
            bin: bin(1),
        };
        applied!(admin, create_platform(other) in create_platform_response);
        let own = person_named(&mut admin, "admin").await.person_id;
        house.enrol_certificate("admin2", &own).await;
        for (handle, platform) in [("local", "lerna"), ("elsewhere", "other")] {
            let request = pb::EnrolPersonRequest { request_id: request_id(), handle: handle.into() };
            let person = applied!(admin, enrol_person(request) in enrol_person_response);
            for role in OFFICE {
                let request = grant(&person.person_id, role, platform);
                applied!(admin, grant_role(request) in grant_role_response);
            }
            house.enrol_certificate(handle, &person.person_id).await;
        }
        house.mode("single-officer", "two-person").await
    }

    /// Serves the same installation in another mode.
    pub async fn mode(self, from: &str, to: &str) -> Self {
        let path = self.served.file("sandyq.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        assert!(config.contains(from));
        std::fs::write(&path, config.replace(from, to)).unwrap();
        Self { served: self.served.restart().await, staff: self.staff }
    }

    /// Issues a certificate.
    pub fn certify(&self, name: &str) {
        let issued = self.staff.client(&[&format!("spiffe://vault.example.kz/{name}")]).unwrap();
        issued.write(self.served.running.installation.dir(), name).unwrap();
    }

    /// Enrols a certificate of a person, alone: only in single-officer mode.
    pub async fn enrol_certificate(&mut self, name: &str, person: &str) {
        self.certify(name);
        let request = certificate_of(name, person);
        applied!(self.served.platforms("admin").await, enrol_caller(request) in enrol_caller_response);
    }

    pub async fn proposals(&self, who: &str) -> ProposalServiceClient<Channel> {
        ProposalServiceClient::new(self.served.channel(who).await)
    }

    pub async fn subjects(&self, who: &str) -> SubjectServiceClient<Channel> {
        SubjectServiceClient::new(self.served.channel(who).await)
    }

    /// Approves as this caller; the proposal as it stands then, or the reason of the refusal.
    pub async fn approve(&self, who: &str, proposal: &pb::Proposal) -> Result<pb::ProposalRecord, String> {
        self.send(who, approval(proposal)).await
    }

    pub async fn send(
        &self,
        who: &str,
        request: pb::ApproveProposalRequest,
    ) -> Result<pb::ProposalRecord, String> {
        let answer = self.proposals(who).await.approve_proposal(request).await;
        answer.map(|answer| answer.into_inner().proposal.unwrap()).map_err(|status| reason(&status))
    }

    /// Approves as `second`; it must be done then.
    pub async fn approved(&self, proposal: &pb::Proposal) {
        let record = self.approve("second", proposal).await.unwrap();
        assert_eq!(state(&record), pb::ProposalState::Approved, "{record:?}");
    }

    /// Proposes as `admin` that a certificate be a caller of `lerna`.
    pub async fn propose(&self, name: &str) -> pb::Proposal {
        let mut admin = self.served.platforms("admin").await;
        proposed!(admin, enrol_caller(new_caller(name)) in enrol_caller_response)
    }

    pub async fn callers(&self, platform: &str) -> Vec<pb::Caller> {
        let request =
            pb::ListCallersRequest { platform: platform.into(), ..pb::ListCallersRequest::default() };
        self.served.platforms("admin").await.list_callers(request).await.unwrap().into_inner().callers
    }

    pub async fn is_enrolled(&self, name: &str) -> bool {
        self.callers("lerna").await.iter().any(|caller| caller.name == name)
    }

    pub async fn state(&self, proposal: &pb::Proposal) -> pb::ProposalState {
        let request = pb::GetProposalRequest { proposal_id: proposal.proposal_id.clone() };
        let found = self.proposals("admin").await.get_proposal(request).await.unwrap().into_inner();
        state(&found.proposal.unwrap())
    }

    /// What the log of a platform says, newest last: call, verdict, kind of object.
    pub async fn log(&self, platform: &str) -> Vec<pb::AuditEntry> {
        let request = pb::ListEntriesRequest {
            platform: platform.into(),
            page_size: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        self.served.audit("auditor").await.list_entries(request).await.unwrap().into_inner().entries
    }

    pub async fn stop(self) {
        self.served.running.stop().await.unwrap();
    }
}

pub fn state(record: &pb::ProposalRecord) -> pb::ProposalState {
    record.proposal.as_ref().unwrap().state()
}

pub fn approval(proposal: &pb::Proposal) -> pb::ApproveProposalRequest {
    pb::ApproveProposalRequest {
        request_id: request_id(),
        proposal_id: proposal.proposal_id.clone(),
        plan_sha256: proposal.plan_sha256.clone(),
    }
}

pub fn rejection(proposal: &pb::Proposal) -> pb::RejectProposalRequest {
    pb::RejectProposalRequest { request_id: request_id(), proposal_id: proposal.proposal_id.clone() }
}

pub fn new_caller(name: &str) -> pb::EnrolCallerRequest {
    pb::EnrolCallerRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: name.into(),
        spiffe_id: format!("spiffe://lerna.example.kz/{name}"),
        roles: vec![pb::Role::Service.into()],
        ..pb::EnrolCallerRequest::default()
    }
}

pub fn certificate_of(name: &str, person: &str) -> pb::EnrolCallerRequest {
    pb::EnrolCallerRequest {
        platform: "vault".into(),
        spiffe_id: format!("spiffe://vault.example.kz/{name}"),
        roles: Vec::new(),
        person_id: person.into(),
        ..new_caller(name)
    }
}

pub fn grant(person: &str, role: pb::Role, platform: &str) -> pb::GrantRoleRequest {
    pb::GrantRoleRequest {
        request_id: request_id(),
        person_id: person.into(),
        role: role.into(),
        platform: platform.into(),
    }
}

pub fn revoke(person: &str, role: pb::Role, platform: &str) -> pb::RevokeRoleRequest {
    pb::RevokeRoleRequest {
        request_id: request_id(),
        person_id: person.into(),
        role: role.into(),
        platform: platform.into(),
    }
}

pub fn budget(caller: &str, limit: u64) -> pb::SetBudgetRequest {
    pb::SetBudgetRequest {
        request_id: request_id(),
        caller_id: caller.into(),
        kind: pb::BudgetKind::Erasure.into(),
        limit,
        window_seconds: 86_400,
    }
}

pub fn by_reference(number: u32) -> pb::SubjectName {
    let subject = pb::subject_name::Subject::SubjectReference(format!("user-{number}"));
    pb::SubjectName { subject: Some(subject) }
}

pub fn erase(number: u32) -> pb::EraseSubjectRequest {
    pb::EraseSubjectRequest {
        request_id: request_id(),
        subject: Some(by_reference(number)),
        platform: "lerna".into(),
        ..pb::EraseSubjectRequest::default()
    }
}

pub async fn person_named(
    staff: &mut pb::platform_service_client::PlatformServiceClient<Channel>,
    handle: &str,
) -> pb::Person {
    let all = staff.list_persons(pb::ListPersonsRequest::default()).await.unwrap().into_inner().persons;
    all.into_iter().find(|person| person.handle == handle).unwrap()
}
