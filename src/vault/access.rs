//! Who may call what: every call of the contract with the roles that it asks for. `docs/access.md` is held to this
//! table by a test, and another walks the contract and finds each call here.

use super::context::Context;
use crate::{
    domain::{
        caller::{Caller, CallerState, Role},
        code::coded,
        ids::PlatformId,
    },
    policy::decide::Denial,
};

coded!(
    /// A call of the contract, by its name in the log.
    Call, "call" {
        /// Values in, tokens out.
        Tokenize = "VaultService/Tokenize",
        /// The same for many subjects.
        BatchTokenize = "VaultService/BatchTokenize",
        /// A value for a token.
        Detokenize = "VaultService/Detokenize",
        /// Values for many tokens.
        BatchDetokenize = "VaultService/BatchDetokenize",
        /// Whether a token stands for a value.
        CompareValue = "VaultService/CompareValue",
        /// Tokens of subjects that have a value.
        LookupTokens = "VaultService/LookupTokens",
        /// What a token stands for.
        DescribeToken = "VaultService/DescribeToken",
        /// Ends a token.
        RevokeToken = "VaultService/RevokeToken",
        /// Corrects a value.
        UpdateRecord = "VaultService/UpdateRecord",
        /// Who the caller is.
        WhoAmI = "VaultService/WhoAmI",
        /// Records a consent.
        GrantConsent = "ConsentService/GrantConsent",
        /// Ends a consent.
        WithdrawConsent = "ConsentService/WithdrawConsent",
        /// Consents of a subject.
        ListConsents = "ConsentService/ListConsents",
        /// What is held of a subject.
        GetSubject = "SubjectService/GetSubject",
        /// Who saw a subject's values.
        ListDisclosures = "SubjectService/ListDisclosures",
        /// Something happened to a subject.
        RecordEvent = "SubjectService/RecordEvent",
        /// Blocks use of a subject's data.
        RestrictSubject = "SubjectService/RestrictSubject",
        /// Lifts the block.
        UnrestrictSubject = "SubjectService/UnrestrictSubject",
        /// Marks a value as confirmed or disputed.
        MarkAccuracy = "SubjectService/MarkAccuracy",
        /// Who is blocked, by the day of review.
        ListRestrictions = "SubjectService/ListRestrictions",
        /// Erases a subject.
        EraseSubject = "SubjectService/EraseSubject",
        /// Calls an erasure off before the destruction.
        CancelErasure = "SubjectService/CancelErasure",
        /// Receipts of a subject's last erasure.
        GetErasureReceipts = "SubjectService/GetErasureReceipts",
        /// Stores a side of a document.
        UploadDocument = "DocumentService/UploadDocument",
        /// How far an upload is.
        QueryUpload = "DocumentService/QueryUpload",
        /// The content of a side.
        DownloadDocument = "DocumentService/DownloadDocument",
        /// What is held of a document.
        DescribeDocument = "DocumentService/DescribeDocument",
        /// Documents of a subject.
        ListDocuments = "DocumentService/ListDocuments",
        /// Deletes a document.
        DeleteDocument = "DocumentService/DeleteDocument",
        /// Cleans the document store, and looks for what is missing there.
        CollectDocuments = "DocumentService/CollectDocuments",
        /// Checks a policy's text.
        ValidatePolicy = "PolicyService/ValidatePolicy",
        /// Applies a policy version.
        ApplyPolicy = "PolicyService/ApplyPolicy",
        /// A policy version.
        GetPolicy = "PolicyService/GetPolicy",
        /// Policy versions.
        ListPolicies = "PolicyService/ListPolicies",
        /// Why a decision is as it is.
        ExplainDecision = "PolicyService/ExplainDecision",
        /// Makes a platform.
        CreatePlatform = "PlatformService/CreatePlatform",
        /// Opens a platform that a restore closed.
        OpenPlatform = "PlatformService/OpenPlatform",
        /// Platforms.
        ListPlatforms = "PlatformService/ListPlatforms",
        /// Enrols a caller.
        EnrolCaller = "PlatformService/EnrolCaller",
        /// Changes a caller.
        UpdateCaller = "PlatformService/UpdateCaller",
        /// Refuses a caller from now on.
        DisableCaller = "PlatformService/DisableCaller",
        /// Lets a caller call again.
        EnableCaller = "PlatformService/EnableCaller",
        /// Callers.
        ListCallers = "PlatformService/ListCallers",
        /// Enrols a person.
        EnrolPerson = "PlatformService/EnrolPerson",
        /// Persons.
        ListPersons = "PlatformService/ListPersons",
        /// Refuses a person from now on.
        DisablePerson = "PlatformService/DisablePerson",
        /// Gives a person a role.
        GrantRole = "PlatformService/GrantRole",
        /// Takes it away.
        RevokeRole = "PlatformService/RevokeRole",
        /// Says that a person's key lives on hardware.
        EnrolStaffKey = "PlatformService/EnrolStaffKey",
        /// Lists hardware keys of staff.
        ListStaffKeys = "PlatformService/ListStaffKeys",
        /// Ends a hardware key of a person.
        WithdrawStaffKey = "PlatformService/WithdrawStaffKey",
        /// Registers a recipient.
        RegisterRecipient = "PlatformService/RegisterRecipient",
        /// Changes the key that releases are sealed to.
        UpdateRecipientKey = "PlatformService/UpdateRecipientKey",
        /// Answers the challenge of a recipient's key.
        ProveRecipientKey = "PlatformService/ProveRecipientKey",
        /// Ends releases to a recipient.
        EndRecipient = "PlatformService/EndRecipient",
        /// Recipients.
        ListRecipients = "PlatformService/ListRecipients",
        /// Limits what a caller may spend.
        SetBudget = "PlatformService/SetBudget",
        /// Limits, and what is spent.
        ListBudgets = "PlatformService/ListBudgets",
        /// Key versions.
        ListKeys = "KeyService/ListKeys",
        /// What key versions wrap.
        ListKeyUsage = "KeyService/ListKeyUsage",
        /// Asks the KMS how it stands.
        CheckKms = "KeyService/CheckKms",
        /// The signed record of a rotation that ended.
        GetKeyReport = "KeyService/GetKeyReport",
        /// Begins a rotation.
        RotateKey = "KeyService/RotateKey",
        /// Begins a rekey.
        RekeyPlatform = "KeyService/RekeyPlatform",
        /// Puts a key version out of use.
        DisableKey = "KeyService/DisableKey",
        /// Puts it into use again.
        EnableKey = "KeyService/EnableKey",
        /// Schedules a key version's destruction.
        ScheduleKeyDestruction = "KeyService/ScheduleKeyDestruction",
        /// Calls it off.
        CancelKeyDestruction = "KeyService/CancelKeyDestruction",
        /// Lets old versions be destroyed by the calendar.
        ScheduleHorizon = "KeyService/ScheduleHorizon",
        /// How that stands.
        GetHorizon = "KeyService/GetHorizon",
        /// Ends it.
        RevokeHorizon = "KeyService/RevokeHorizon",
        /// Acts that wait for a second person.
        ListProposals = "ProposalService/ListProposals",
        /// One of them, with its plan.
        GetProposal = "ProposalService/GetProposal",
        /// Does what another person proposed.
        ApproveProposal = "ProposalService/ApproveProposal",
        /// Ends a proposal.
        RejectProposal = "ProposalService/RejectProposal",
        /// Declared sites.
        GetSites = "ResidencyService/GetSites",
        /// Where everything is now.
        GetResidency = "ResidencyService/GetResidency",
        /// The same as a signed report.
        GetResidencyReport = "ResidencyService/GetResidencyReport",
        /// An operation.
        GetOperation = "OperationService/GetOperation",
        /// Operations.
        ListOperations = "OperationService/ListOperations",
        /// An operation, again and again until it ends.
        WatchOperation = "OperationService/WatchOperation",
        /// Stops an operation for a while.
        PauseOperation = "OperationService/PauseOperation",
        /// Lets it go on.
        ResumeOperation = "OperationService/ResumeOperation",
        /// Ends it before it is done.
        CancelOperation = "OperationService/CancelOperation",
        /// What ends when.
        PlanRetention = "RetentionService/PlanRetention",
        /// Destroys what has ended.
        SweepRetention = "RetentionService/SweepRetention",
        /// Registers a request of a person.
        OpenCase = "RightsService/OpenCase",
        /// Takes it a step ahead.
        AdvanceCase = "RightsService/AdvanceCase",
        /// Does what it asks.
        FulfilCase = "RightsService/FulfilCase",
        /// What is held of the person who asks.
        ExportCase = "RightsService/ExportCase",
        /// Ends it with an answer.
        AnswerCase = "RightsService/AnswerCase",
        /// Ends it with a refusal.
        RefuseCase = "RightsService/RefuseCase",
        /// A request of a person.
        GetCase = "RightsService/GetCase",
        /// Requests of people.
        ListCases = "RightsService/ListCases",
        /// Registers a breach.
        OpenBreach = "BreachService/OpenBreach",
        /// Replaces what is known of it.
        AmendBreach = "BreachService/AmendBreach",
        /// Finds in the log whom it reaches.
        AssessBreach = "BreachService/AssessBreach",
        /// Whom it reaches, one by one.
        ExportBreachSubjects = "BreachService/ExportBreachSubjects",
        /// What the authority or the people are told.
        GetBreachNotice = "BreachService/GetBreachNotice",
        /// Records that they were.
        ReportBreach = "BreachService/ReportBreach",
        /// Ends it.
        CloseBreach = "BreachService/CloseBreach",
        /// A breach.
        GetBreach = "BreachService/GetBreach",
        /// Breaches.
        ListBreaches = "BreachService/ListBreaches",
        /// Registers a copy of data outside the vault.
        RegisterCopy = "RegisterService/RegisterCopy",
        /// Records how it ended.
        EndCopy = "RegisterService/EndCopy",
        /// Copies.
        ListCopies = "RegisterService/ListCopies",
        /// Every register of a platform, signed.
        ExportRegisters = "RegisterService/ExportRegisters",
        /// Begins a backup.
        StartBackup = "BackupService/StartBackup",
        /// Backups.
        ListBackups = "BackupService/ListBackups",
        /// One of them.
        GetBackup = "BackupService/GetBackup",
        /// Entries of the log.
        ListEntries = "AuditService/ListEntries",
        /// The newest signed head.
        GetHead = "AuditService/GetHead",
        /// Proof that an entry is in the log.
        GetInclusionProof = "AuditService/GetInclusionProof",
        /// Proof that a log extends an older one.
        GetConsistencyProof = "AuditService/GetConsistencyProof",
        /// The whole log.
        ExportLog = "AuditService/ExportLog",
        /// Log and rows compared.
        ReconcileLog = "AuditService/ReconcileLog",
    }
);

impl Call {
    /// Roles of which a caller needs one, on the platform that the call is about. None: every enrolled caller may.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        use Role::{Auditor, DataProtection, PlatformAdmin, SecurityOfficer, Service};
        match self {
            Self::WhoAmI => &[],
            Self::Tokenize
            | Self::BatchTokenize
            | Self::Detokenize
            | Self::BatchDetokenize
            | Self::CompareValue
            | Self::LookupTokens
            | Self::DescribeToken
            | Self::RevokeToken
            | Self::UpdateRecord
            | Self::GrantConsent
            | Self::RecordEvent
            | Self::UploadDocument
            | Self::QueryUpload
            | Self::DownloadDocument => &[Service],
            Self::DescribeDocument
            | Self::ListDocuments
            | Self::DeleteDocument
            | Self::WithdrawConsent
            | Self::ListConsents
            | Self::GetSubject
            | Self::GetErasureReceipts
            | Self::RestrictSubject
            | Self::UnrestrictSubject
            | Self::MarkAccuracy
            | Self::EraseSubject
            | Self::OpenCase
            | Self::ExportCase
            | Self::RegisterCopy
            | Self::EndCopy => &[Service, DataProtection],
            Self::CancelErasure
            | Self::AdvanceCase
            | Self::FulfilCase
            | Self::AnswerCase
            | Self::RefuseCase => &[DataProtection],
            Self::SweepRetention
            | Self::OpenBreach
            | Self::AmendBreach
            | Self::AssessBreach
            | Self::ReportBreach
            | Self::CloseBreach => &[DataProtection, SecurityOfficer],
            Self::PlanRetention
            | Self::ExportBreachSubjects
            | Self::GetBreachNotice
            | Self::GetBreach
            | Self::ListBreaches => &[DataProtection, SecurityOfficer, Auditor],
            Self::ListDisclosures
            | Self::ListRestrictions
            | Self::GetCase
            | Self::ListCases
            | Self::ListCopies
            | Self::ExportRegisters => &[DataProtection, Auditor],
            Self::ValidatePolicy => &[PlatformAdmin, DataProtection, SecurityOfficer, Auditor],
            Self::GetPolicy | Self::ListPolicies => {
                &[Service, PlatformAdmin, DataProtection, SecurityOfficer, Auditor]
            }
            Self::ExplainDecision => &[DataProtection, PlatformAdmin, Auditor],
            Self::ApplyPolicy
            | Self::CreatePlatform
            | Self::EnrolCaller
            | Self::UpdateCaller
            | Self::EnableCaller
            | Self::RegisterRecipient
            | Self::UpdateRecipientKey
            | Self::ProveRecipientKey
            | Self::SetBudget => &[PlatformAdmin],
            Self::DisableCaller | Self::EndRecipient => &[PlatformAdmin, SecurityOfficer],
            Self::ListPlatforms
            | Self::ListCallers
            | Self::ListPersons
            | Self::ListStaffKeys
            | Self::ListRecipients
            | Self::ListBudgets
            | Self::GetSites
            | Self::GetResidency
            | Self::GetResidencyReport => &[PlatformAdmin, SecurityOfficer, DataProtection, Auditor],
            Self::ListKeys
            | Self::ListKeyUsage
            | Self::GetKeyReport
            | Self::CheckKms
            | Self::GetHorizon
            | Self::ListBackups
            | Self::GetBackup => &[SecurityOfficer, Auditor],
            Self::EnrolPerson
            | Self::DisablePerson
            | Self::GrantRole
            | Self::RevokeRole
            | Self::EnrolStaffKey
            | Self::WithdrawStaffKey
            | Self::OpenPlatform
            | Self::RotateKey
            | Self::RekeyPlatform
            | Self::DisableKey
            | Self::EnableKey
            | Self::ScheduleKeyDestruction
            | Self::CancelKeyDestruction
            | Self::ScheduleHorizon
            | Self::RevokeHorizon
            | Self::StartBackup
            | Self::CollectDocuments
            | Self::PauseOperation
            | Self::ResumeOperation
            | Self::CancelOperation => &[SecurityOfficer],
            Self::GetOperation | Self::ListOperations | Self::WatchOperation => {
                &[SecurityOfficer, DataProtection, Auditor]
            }
            // And one of the roles of the call that is proposed.
            Self::ListProposals | Self::GetProposal | Self::ApproveProposal | Self::RejectProposal => {
                &[PlatformAdmin, SecurityOfficer, DataProtection]
            }
            Self::ListEntries
            | Self::GetHead
            | Self::GetInclusionProof
            | Self::GetConsistencyProof
            | Self::ExportLog
            | Self::ReconcileLog => &[Auditor],
        }
    }

    /// Whether the call opens something, so that in two-person mode one person proposes it and another approves. What it
    /// asks for is done then; what would change nothing needs nobody else.
    #[must_use]
    pub const fn needs_two(self) -> bool {
        matches!(
            self,
            Self::ApplyPolicy
                | Self::CreatePlatform
                | Self::EnrolCaller
                | Self::UpdateCaller
                | Self::EnableCaller
                | Self::EnrolPerson
                | Self::GrantRole
                | Self::RegisterRecipient
                | Self::UpdateRecipientKey
                | Self::SetBudget
                | Self::CancelErasure
                | Self::DisableKey
                | Self::EnableKey
                | Self::ScheduleKeyDestruction
                | Self::RekeyPlatform
                | Self::OpenPlatform
                | Self::EnrolStaffKey
                | Self::ScheduleHorizon
        )
    }

    /// Whether the call needs two people even where the configuration lets one officer do alone what should take two.
    #[must_use]
    pub const fn always_needs_two(self) -> bool {
        matches!(self, Self::OpenPlatform | Self::RekeyPlatform | Self::EnrolStaffKey)
    }

    /// Whether the call works for staff before two people have a hardware key where keys are required: what enrolling one
    /// needs, and nothing else. An approval asks again for the call that it approves.
    #[must_use]
    pub const fn works_before_keys(self) -> bool {
        matches!(
            self,
            Self::WhoAmI
                | Self::EnrolStaffKey
                | Self::ListStaffKeys
                | Self::ListPersons
                | Self::ListProposals
                | Self::GetProposal
                | Self::ApproveProposal
                | Self::RejectProposal
        )
    }

    /// Whether the call stores something new about people, or copies it to another place: refused while data lies outside
    /// the declared sites. What takes away or changes a state goes on.
    #[must_use]
    pub const fn brings_data(self) -> bool {
        matches!(
            self,
            Self::Tokenize
                | Self::BatchTokenize
                | Self::UpdateRecord
                | Self::GrantConsent
                | Self::RecordEvent
                | Self::UploadDocument
                | Self::CreatePlatform
                | Self::StartBackup
        )
    }

    /// Whether the call works on a platform that a restore closed: what tells how it stands, what takes away, and what
    /// two people need to open it again. The day in which a breach is told does not wait for them.
    #[must_use]
    pub const fn works_while_closed(self) -> bool {
        matches!(
            self,
            Self::WhoAmI
                | Self::OpenPlatform
                | Self::ValidatePolicy
                | Self::ApplyPolicy
                | Self::GetPolicy
                | Self::ListPolicies
                | Self::ListPlatforms
                | Self::ListCallers
                | Self::ListPersons
                | Self::ListRecipients
                | Self::ListBudgets
                | Self::DisableCaller
                | Self::DisablePerson
                | Self::EndRecipient
                | Self::RevokeRole
                | Self::EnrolPerson
                | Self::EnrolCaller
                | Self::GrantRole
                | Self::EnrolStaffKey
                | Self::ListStaffKeys
                | Self::WithdrawStaffKey
                | Self::ListKeys
                | Self::ListKeyUsage
                | Self::GetKeyReport
                | Self::CheckKms
                | Self::GetHorizon
                | Self::RevokeHorizon
                | Self::ListProposals
                | Self::GetProposal
                | Self::ApproveProposal
                | Self::RejectProposal
                | Self::GetOperation
                | Self::ListOperations
                | Self::WatchOperation
                | Self::ListBackups
                | Self::GetBackup
                | Self::GetSites
                | Self::GetResidency
                | Self::GetResidencyReport
                | Self::ListEntries
                | Self::GetHead
                | Self::GetInclusionProof
                | Self::GetConsistencyProof
                | Self::ExportLog
                | Self::ReconcileLog
                | Self::OpenBreach
                | Self::AmendBreach
                | Self::AssessBreach
                | Self::ExportBreachSubjects
                | Self::GetBreachNotice
                | Self::ReportBreach
                | Self::CloseBreach
                | Self::GetBreach
                | Self::ListBreaches
                | Self::EndCopy
                | Self::ListCopies
                | Self::ExportRegisters
        )
    }

    /// The same where the call is about the vault's own platform. Whoever binds a certificate to a person, or takes one
    /// away, decides who can act as that person: on staff that is the security officer's alone.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others ask for the same roles everywhere")]
    #[must_use]
    pub const fn roles_on_vault(self) -> &'static [Role] {
        match self {
            Self::EnrolCaller | Self::UpdateCaller | Self::EnableCaller | Self::DisableCaller => {
                &[Role::SecurityOfficer]
            }
            _ => self.roles(),
        }
    }

    /// Roles of which a caller needs one where the call is about this platform.
    pub(super) const fn roles_on(self, platform: PlatformId) -> &'static [Role] {
        if platform.get() == PlatformId::VAULT.get() { self.roles_on_vault() } else { self.roles() }
    }

    /// Whether a caller may make this call about a platform, as `staff` stands.
    ///
    /// # Errors
    /// [`Denial::CallerDisabled`] or [`Denial::CallerNotAllowed`].
    pub(super) fn allows(self, caller: &Caller, platform: PlatformId, staff: &Context) -> Result<(), Denial> {
        if caller.state == CallerState::Disabled {
            return Err(Denial::CallerDisabled);
        }
        let has = |role: &Role| match caller.person {
            Some(person) => staff.person_has(person, *role, platform),
            // The vault's own machines may ship every log, and do nothing else.
            None if caller.platform == PlatformId::VAULT => {
                *role == Role::Auditor && caller.roles.contains(role)
            }
            None => caller.platform == platform && caller.roles.contains(role),
        };
        let roles = self.roles_on(platform);
        if roles.is_empty() || roles.iter().any(has) { Ok(()) } else { Err(Denial::CallerNotAllowed) }
    }

    /// Why a call leaves no entry in the log, for the few that leave none.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a call that nobody excepted is logged")]
    #[must_use]
    pub const fn unlogged(self) -> Option<&'static str> {
        match self {
            Self::WhoAmI => Some("tells the caller what its own certificate says; no data of anybody"),
            Self::GetHead => {
                Some("public by nature: signatures and hashes, asked for every second by witnesses")
            }
            Self::GetInclusionProof | Self::GetConsistencyProof => Some("hashes and signatures only"),
            Self::ListPlatforms | Self::GetOperation | Self::ListOperations | Self::WatchOperation => {
                Some("names, dates and counts of the installation; no data of anybody")
            }
            _ => None,
        }
    }
}
