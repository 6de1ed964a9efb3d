//! Why a value is not answered, or an act not done.

use crate::{domain::code::coded, policy::model::NoOutreach};

coded!(
    /// Why a value is not answered. The codes are stable: clients and auditors rely on them (`docs/errors.md`).
    Denial, "denial" {
        /// The caller's enrolment is disabled.
        CallerDisabled = "CALLER_DISABLED",
        /// The policy does not declare the purpose.
        PurposeNotDeclared = "PURPOSE_NOT_DECLARED",
        /// The policy declares the purpose, and nobody reads by it.
        PurposeInert = "PURPOSE_INERT",
        /// The policy does not name the caller for this.
        CallerNotAllowed = "CALLER_NOT_ALLOWED",
        /// The purpose does not allow this view.
        ViewNotAllowed = "VIEW_NOT_ALLOWED",
        /// People are reached by the purpose, and the question names no channel (rule R5).
        ChannelRequired = "CHANNEL_REQUIRED",
        /// The purpose does not reach people by this channel, or this field does not serve it.
        ChannelNotAllowed = "CHANNEL_NOT_ALLOWED",
        /// The purpose does not reach people in this name.
        SenderNotAllowed = "SENDER_NOT_ALLOWED",
        /// No such token on this platform.
        TokenNotFound = "TOKEN_NOT_FOUND",
        /// The purpose does not cover the field.
        FieldNotAllowed = "FIELD_NOT_ALLOWED",
        /// The token was used up.
        TokenSpent = "TOKEN_SPENT",
        /// The token was revoked.
        TokenRevoked = "TOKEN_REVOKED",
        /// The token's time has ended.
        TokenExpired = "TOKEN_EXPIRED",
        /// The subject was erased.
        SubjectErased = "SUBJECT_ERASED",
        /// Use of the subject's data is blocked.
        SubjectRestricted = "SUBJECT_RESTRICTED",
        /// The subject objects to decisions by machine, and the purpose makes them (rule R34).
        ObjectedTo = "OBJECTED_TO",
        /// The value came before any consent, and waits for one (rule R38).
        Quarantined = "QUARANTINED",
        /// The recipient is not registered, or not for this purpose, or not now, or of a kind that it does not name.
        RecipientUnknown = "RECIPIENT_UNKNOWN",
        /// The recipient is abroad; the purpose or the consent does not let the value go there.
        CrossBorder = "CROSS_BORDER",
        /// The value may leave only sealed, and the recipient has no key.
        RecipientKeyMissing = "RECIPIENT_KEY_MISSING",
        /// The policy gives nothing to this recipient for advertising.
        AdvertisingBarred = "ADVERTISING_BARRED",
        /// The read names neither the law nor the demand behind it.
        LegalReferenceMissing = "LEGAL_REFERENCE_MISSING",
        /// The consent does not allow transfer to third parties.
        TransferConsentMissing = "TRANSFER_CONSENT_MISSING",
        /// The consent does not allow publication.
        PublicationConsentMissing = "PUBLICATION_CONSENT_MISSING",
        /// An event without which the consent is not complete has not happened yet.
        ConsentIncomplete = "CONSENT_INCOMPLETE",
        /// No consent covers the purpose and field.
        ConsentMissing = "CONSENT_MISSING",
        /// The subject consented to the purpose by other channels, or before it named any.
        ChannelConsentMissing = "CHANNEL_CONSENT_MISSING",
        /// The subject consented to the channel in other names.
        SenderConsentMissing = "SENDER_CONSENT_MISSING",
        /// The consent that covered them was withdrawn.
        ConsentWithdrawn = "CONSENT_WITHDRAWN",
        /// The consent that covered them has ended.
        ConsentExpired = "CONSENT_EXPIRED",
        /// The purpose may not keep the value any longer.
        RetentionEnded = "RETENTION_ENDED",
        /// The subject's record of the field holds another value.
        ValueDiffers = "VALUE_DIFFERS",
        /// The platform knows no such subject.
        SubjectNotFound = "SUBJECT_NOT_FOUND",
        /// The platform knows no such consent.
        ConsentNotFound = "CONSENT_NOT_FOUND",
        /// The subject has as many consents as a subject may have.
        TooManyConsents = "TOO_MANY_CONSENTS",
        /// No such platform, or none that this caller may see.
        PlatformNotFound = "PLATFORM_NOT_FOUND",
        /// No such caller, or none that this caller may see.
        CallerNotFound = "CALLER_NOT_FOUND",
        /// No such person of the staff.
        PersonNotFound = "PERSON_NOT_FOUND",
        /// The platform has no such recipient.
        RecipientNotFound = "RECIPIENT_NOT_FOUND",
        /// No key of the recipient waits for an answer.
        KeyNotOffered = "KEY_NOT_OFFERED",
        /// The platform has no such version of its policy, or none in force.
        PolicyNotFound = "POLICY_NOT_FOUND",
        /// Another has the name.
        NameTaken = "NAME_TAKEN",
        /// The certificate's URI is a caller's already, here or on another platform.
        CertificateTaken = "CERTIFICATE_TAKEN",
        /// The person was disabled, for good.
        PersonDisabled = "PERSON_DISABLED",
        /// Nobody would be left who has the security officer's role for the installation.
        LastOfficer = "LAST_OFFICER",
        /// Nobody locks themselves out.
        OwnAccount = "OWN_ACCOUNT",
        /// The key is or was enrolled as a staff key.
        StaffKeyTaken = "STAFF_KEY_TAKEN",
        /// No such staff key.
        StaffKeyNotFound = "STAFF_KEY_NOT_FOUND",
        /// No standing plan of the horizon was ever approved.
        HorizonNotFound = "HORIZON_NOT_FOUND",
        /// Nobody attests their own staff key.
        OwnStaffKey = "OWN_STAFF_KEY",
        /// The request id came before, with another call or body.
        RequestIdReused = "REQUEST_ID_REUSED",
        /// The policy does not take the field from this source.
        SourceNotAllowed = "SOURCE_NOT_ALLOWED",
        /// The policy does not take subjects of this kind, or the subject is of another.
        SubjectKindNotAllowed = "SUBJECT_KIND_NOT_ALLOWED",
        /// Another subject holds the value of a unique field.
        ValueNotUnique = "VALUE_NOT_UNIQUE",
        /// A token that answers once is asked without a request id.
        RequestIdRequired = "REQUEST_ID_REQUIRED",
        /// The value may leave only sealed to the recipient's key.
        SealRequired = "SEAL_REQUIRED",
        /// Another item of a sealed batch was denied, and it goes out whole or not at all.
        BatchIncomplete = "BATCH_INCOMPLETE",
        /// The value does not tell what the view asks.
        ViewUnavailable = "VIEW_UNAVAILABLE",
        /// The policy does not declare the event.
        EventNotDeclared = "EVENT_NOT_DECLARED",
        /// There is no block to lift.
        SubjectNotRestricted = "SUBJECT_NOT_RESTRICTED",
        /// There is no erasure to call off.
        SubjectNotErased = "SUBJECT_NOT_ERASED",
        /// The subject's keys are destroyed: nothing can bring the data back.
        SubjectDestroyed = "SUBJECT_DESTROYED",
        /// No such operation, or none that this caller may see.
        OperationNotFound = "OPERATION_NOT_FOUND",
        /// No such proposal, or none that this caller may see.
        ProposalNotFound = "PROPOSAL_NOT_FOUND",
        /// The proposal was approved, rejected, or failed before.
        ProposalEnded = "PROPOSAL_ENDED",
        /// Its time ended.
        ProposalExpired = "PROPOSAL_EXPIRED",
        /// Nobody approves what they proposed, with whichever certificate.
        OwnProposal = "OWN_PROPOSAL",
        /// The approver's person, role or certificate is no older than the proposal.
        ApproverTooNew = "APPROVER_TOO_NEW",
        /// The proposer may not make the call any more.
        ProposerNotAllowed = "PROPOSER_NOT_ALLOWED",
        /// The approval names another plan than the proposal has.
        PlanDiffers = "PLAN_DIFFERS",
        /// What needs two people needs persons, and the caller is none.
        PersonRequired = "PERSON_REQUIRED",
        /// The caller spent what it may in this window.
        BudgetExhausted = "BUDGET_EXHAUSTED",
        /// The operation has ended.
        OperationEnded = "OPERATION_ENDED",
        /// The operation is ended by a call of its own, not by this one.
        OperationUncontrolled = "OPERATION_UNCONTROLLED",
        /// The platform has no such key version.
        KeyNotFound = "KEY_NOT_FOUND",
        /// The version protects new data; a rotation must end that first.
        KeyActive = "KEY_ACTIVE",
        /// The version still wraps something.
        KeyInUse = "KEY_IN_USE",
        /// The version that the subject's key is wrapped under is disabled.
        KeyDisabled = "KEY_DISABLED",
        /// The version is in a state from which this cannot be done.
        KeyStateUnsuitable = "KEY_STATE_UNSUITABLE",
        /// A rotation of this key is not done yet.
        RotationRunning = "ROTATION_RUNNING",
        /// A sweep of retention is not done yet.
        SweepRunning = "SWEEP_RUNNING",
        /// The configuration names no place for backups.
        BackupNotConfigured = "BACKUP_NOT_CONFIGURED",
        /// A backup is not done yet.
        BackupRunning = "BACKUP_RUNNING",
        /// No such backup.
        BackupNotFound = "BACKUP_NOT_FOUND",
        /// The platform was restored, and two people have not opened it yet.
        PlatformClosed = "PLATFORM_CLOSED",
        /// The platform is open.
        PlatformNotClosed = "PLATFORM_NOT_CLOSED",
        /// The configuration names no place for documents.
        DocumentsNotConfigured = "DOCUMENTS_NOT_CONFIGURED",
        /// No such document or side, or none that this caller may see.
        DocumentNotFound = "DOCUMENT_NOT_FOUND",
        /// The side is held, in another version than the one that is to be replaced.
        DocumentExists = "DOCUMENT_EXISTS",
        /// The side has as many versions, or the subject as many open uploads, as there may be.
        TooManyDocuments = "TOO_MANY_DOCUMENTS",
        /// The content is larger than the policy allows, or than was declared.
        DocumentTooLarge = "DOCUMENT_TOO_LARGE",
        /// The content is of no type that the vault takes.
        MediaTypeNotAllowed = "MEDIA_TYPE_NOT_ALLOWED",
        /// The content has another hash than was declared.
        ContentDiffers = "CONTENT_DIFFERS",
        /// The stream ended before all bytes were there.
        UploadIncomplete = "UPLOAD_INCOMPLETE",
        /// The caller has no such upload that is not done.
        UploadNotFound = "UPLOAD_NOT_FOUND",
        /// The upload does not stand where the stream begins, or another stream carries it on.
        UploadMoved = "UPLOAD_MOVED",
        /// Data lies outside the declared sites, and nothing new is stored until it does not.
        StorageOutside = "STORAGE_OUTSIDE",
        /// A collection of the platform's documents is not done yet, or is held since a restore.
        CollectionRunning = "COLLECTION_RUNNING",
        /// The platform has no such request of a person.
        CaseNotFound = "CASE_NOT_FOUND",
        /// The request was answered or refused before.
        CaseEnded = "CASE_ENDED",
        /// What the request asks is not done yet.
        CaseNotDone = "CASE_NOT_DONE",
        /// Another step of the request comes first, or this one was taken already.
        CaseStateUnsuitable = "CASE_STATE_UNSUITABLE",
        /// The platform has no such breach.
        BreachNotFound = "BREACH_NOT_FOUND",
        /// The breach has ended.
        BreachClosed = "BREACH_CLOSED",
        /// The log was not looked through yet for whom the breach reaches, as it is known now.
        BreachNotAssessed = "BREACH_NOT_ASSESSED",
        /// Somebody is to be told of the breach first.
        BreachNotTold = "BREACH_NOT_TOLD",
        /// They were told of the breach before.
        BreachToldBefore = "BREACH_TOLD_BEFORE",
        /// The platform has no such copy of data outside the vault.
        CopyNotFound = "COPY_NOT_FOUND",
        /// The copy has ended before.
        CopyEnded = "COPY_ENDED",
        /// A stored row or value fails its authentication.
        DataDamaged = "DATA_DAMAGED",
    }
);

impl From<NoOutreach> for Denial {
    fn from(none: NoOutreach) -> Self {
        match none {
            NoOutreach::Unnamed => Self::ChannelRequired,
            NoOutreach::Channel => Self::ChannelNotAllowed,
            NoOutreach::Sender => Self::SenderNotAllowed,
        }
    }
}
