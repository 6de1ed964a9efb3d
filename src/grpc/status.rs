//! One table from the vault's errors to gRPC statuses (AIP-193). `docs/errors.md` is held to it by a test.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    policy::decide::Denial,
    vault::error::{MAX_VIOLATIONS, VaultError},
};

/// The domain of every reason.
pub const DOMAIN: &str = "sandyq.v1";

/// After how long an overloaded or unavailable vault may be asked again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Status code.
    pub code: Code,
    /// Stable reason.
    pub reason: &'static str,
    /// Text for developers.
    pub message: &'static str,
}

const fn row(code: Code, reason: &'static str, message: &'static str) -> Row {
    Row { code, reason, message }
}

/// The row of a denial.
#[must_use]
pub const fn denial_row(denial: Denial) -> Row {
    let reason = denial.as_str();
    match denial {
        Denial::CallerDisabled => row(Code::PermissionDenied, reason, "the caller's enrolment is disabled"),
        Denial::PurposeNotDeclared => {
            row(Code::PermissionDenied, reason, "the platform's policy does not declare this purpose")
        }
        Denial::CallerNotAllowed => {
            row(Code::PermissionDenied, reason, "the platform's policy does not name this caller for this")
        }
        Denial::ViewNotAllowed => row(Code::PermissionDenied, reason, "the purpose does not allow this view"),
        Denial::ChannelRequired => row(
            Code::FailedPrecondition,
            reason,
            "people are reached by this purpose: the question names channel and sender",
        ),
        Denial::ChannelNotAllowed => {
            row(Code::PermissionDenied, reason, "the purpose does not reach people by this channel")
        }
        Denial::SenderNotAllowed => {
            row(Code::PermissionDenied, reason, "the purpose does not reach people in this name")
        }
        Denial::TokenNotFound => row(Code::NotFound, reason, "no such token"),
        Denial::FieldNotAllowed => {
            row(Code::PermissionDenied, reason, "the purpose does not cover this field")
        }
        Denial::TokenSpent => row(Code::FailedPrecondition, reason, "the token was used up"),
        Denial::TokenRevoked => row(Code::FailedPrecondition, reason, "the token was revoked"),
        Denial::SubjectErased => row(Code::FailedPrecondition, reason, "the subject's data were erased"),
        Denial::SubjectRestricted => {
            row(Code::FailedPrecondition, reason, "use of the subject's data is blocked")
        }
        Denial::TokenExpired => row(Code::FailedPrecondition, reason, "the token's time has ended"),
        Denial::PurposeInert => row(
            Code::PermissionDenied,
            reason,
            "the policy declares this purpose without data; nobody reads by it",
        ),
        Denial::Quarantined => {
            row(Code::FailedPrecondition, reason, "the value came before any consent and waits for one")
        }
        Denial::RecipientUnknown => {
            row(Code::PermissionDenied, reason, "no such recipient for this purpose now")
        }
        Denial::CrossBorder => row(
            Code::FailedPrecondition,
            reason,
            "the purpose or the consent does not let the value go abroad",
        ),
        Denial::RecipientKeyMissing => row(
            Code::FailedPrecondition,
            reason,
            "the value leaves only sealed, and the recipient has no key",
        ),
        Denial::AdvertisingBarred => {
            row(Code::PermissionDenied, reason, "the policy gives nothing to this recipient for advertising")
        }
        Denial::LegalReferenceMissing => {
            row(Code::FailedPrecondition, reason, "the read needs a reference to the law or demand behind it")
        }
        Denial::TransferConsentMissing => {
            row(Code::FailedPrecondition, reason, "the consent does not allow transfer to third parties")
        }
        Denial::PublicationConsentMissing => {
            row(Code::FailedPrecondition, reason, "the consent does not allow publication")
        }
        Denial::ConsentIncomplete => {
            row(Code::FailedPrecondition, reason, "an event that completes the consent has not been recorded")
        }
        Denial::ConsentMissing => {
            row(Code::FailedPrecondition, reason, "no consent covers this purpose and field")
        }
        Denial::ChannelConsentMissing => {
            row(Code::FailedPrecondition, reason, "no consent to this purpose is for this channel")
        }
        Denial::SenderConsentMissing => row(
            Code::FailedPrecondition,
            reason,
            "no consent to this purpose by this channel is for this sender",
        ),
        Denial::ConsentWithdrawn => row(Code::FailedPrecondition, reason, "the consent was withdrawn"),
        Denial::ConsentExpired => row(Code::FailedPrecondition, reason, "the consent's term has ended"),
        Denial::RetentionEnded => {
            row(Code::FailedPrecondition, reason, "the purpose may not keep the value any longer")
        }
        Denial::ValueDiffers => {
            row(Code::AlreadyExists, reason, "the subject's record of this field holds another value")
        }
        Denial::SubjectNotFound => row(Code::NotFound, reason, "no such subject"),
        Denial::ConsentNotFound => row(Code::NotFound, reason, "no such consent"),
        Denial::TooManyConsents => {
            row(Code::ResourceExhausted, reason, "the subject has as many consents as a subject may have")
        }
        Denial::PlatformNotFound => row(Code::NotFound, reason, "no such platform"),
        Denial::CallerNotFound => row(Code::NotFound, reason, "no such caller"),
        Denial::PersonNotFound => row(Code::NotFound, reason, "no such person"),
        Denial::RecipientNotFound => row(Code::NotFound, reason, "no such recipient"),
        Denial::KeyNotOffered => {
            row(Code::FailedPrecondition, reason, "no key of this recipient waits for an answer")
        }
        Denial::PolicyNotFound => row(Code::NotFound, reason, "no such policy version"),
        Denial::NameTaken => row(Code::AlreadyExists, reason, "another has this name"),
        Denial::CertificateTaken => {
            row(Code::AlreadyExists, reason, "the certificate's URI is enrolled already")
        }
        Denial::PersonDisabled => row(Code::FailedPrecondition, reason, "the person was disabled, for good"),
        Denial::LastOfficer => row(
            Code::FailedPrecondition,
            reason,
            "nobody would be left who has security_officer for the installation",
        ),
        Denial::OwnAccount => row(Code::FailedPrecondition, reason, "nobody locks themselves out"),
        Denial::StaffKeyTaken => row(
            Code::AlreadyExists,
            reason,
            "the key is enrolled, or was withdrawn; a lost key never returns",
        ),
        Denial::StaffKeyNotFound => row(Code::NotFound, reason, "no such key of the staff"),
        Denial::HorizonNotFound => row(Code::NotFound, reason, "no plan of the horizon was approved yet"),
        Denial::OwnStaffKey => {
            row(Code::PermissionDenied, reason, "nobody attests their own key; two other people do")
        }
        Denial::RequestIdReused => {
            row(Code::AlreadyExists, reason, "the request id came before, with another call or body")
        }
        Denial::SourceNotAllowed => {
            row(Code::PermissionDenied, reason, "the policy does not take this field from this source")
        }
        Denial::SubjectKindNotAllowed => row(
            Code::PermissionDenied,
            reason,
            "the policy does not take subjects of this kind, or the subject is of another kind",
        ),
        Denial::ValueNotUnique => row(
            Code::AlreadyExists,
            reason,
            "another subject of the platform holds this value of a unique field",
        ),
        Denial::RequestIdRequired => {
            row(Code::FailedPrecondition, reason, "a token that answers once must be asked with a request_id")
        }
        Denial::SealRequired => row(
            Code::FailedPrecondition,
            reason,
            "the value may leave only sealed to the recipient's key: ask with BatchDetokenize",
        ),
        Denial::BatchIncomplete => row(
            Code::FailedPrecondition,
            reason,
            "another item of the batch was denied, and a sealed batch goes out whole or not at all",
        ),
        Denial::ViewUnavailable => {
            row(Code::FailedPrecondition, reason, "the value does not tell what the view asks")
        }
        Denial::EventNotDeclared => {
            row(Code::PermissionDenied, reason, "the platform's policy does not declare this event")
        }
        Denial::SubjectNotRestricted => {
            row(Code::FailedPrecondition, reason, "use of the subject's data is not blocked")
        }
        Denial::SubjectNotErased => row(Code::FailedPrecondition, reason, "the subject is not erased"),
        Denial::SubjectDestroyed => row(
            Code::FailedPrecondition,
            reason,
            "the subject's keys are destroyed, or their time has come; nothing can bring the data back",
        ),
        Denial::OperationNotFound => row(Code::NotFound, reason, "no such operation"),
        Denial::ProposalNotFound => row(Code::NotFound, reason, "no such proposal"),
        Denial::ProposalEnded => row(Code::FailedPrecondition, reason, "the proposal ended before"),
        Denial::ProposalExpired => row(Code::FailedPrecondition, reason, "the proposal's time has ended"),
        Denial::OwnProposal => {
            row(Code::PermissionDenied, reason, "another person than the proposer must approve this")
        }
        Denial::ApproverTooNew => row(
            Code::PermissionDenied,
            reason,
            "the approver's person, role or certificate is no older than the proposal",
        ),
        Denial::ProposerNotAllowed => {
            row(Code::FailedPrecondition, reason, "the proposer may not make this call any more")
        }
        Denial::PlanDiffers => {
            row(Code::FailedPrecondition, reason, "the approval names another plan than the proposal has")
        }
        Denial::PersonRequired => {
            row(Code::PermissionDenied, reason, "this needs two people, and the caller is no person")
        }
        Denial::BudgetExhausted => row(
            Code::ResourceExhausted,
            reason,
            "the caller asked too often in vain, or erased too much, in this window",
        ),
        Denial::OperationEnded => row(Code::FailedPrecondition, reason, "the operation has ended"),
        Denial::OperationUncontrolled => {
            row(Code::FailedPrecondition, reason, "the operation is ended by a call of its own")
        }
        Denial::KeyNotFound => row(Code::NotFound, reason, "no such key version"),
        Denial::KeyActive => {
            row(Code::FailedPrecondition, reason, "the version protects new data; rotate the key first")
        }
        Denial::KeyInUse => row(Code::FailedPrecondition, reason, "the version still wraps subject keys"),
        Denial::KeyDisabled => {
            row(Code::FailedPrecondition, reason, "the key version behind the value is disabled")
        }
        Denial::KeyStateUnsuitable => {
            row(Code::FailedPrecondition, reason, "the version's state does not allow this")
        }
        Denial::RotationRunning => {
            row(Code::FailedPrecondition, reason, "a rotation of this key is not done yet")
        }
        Denial::SweepRunning => row(Code::FailedPrecondition, reason, "a sweep of retention is not done yet"),
        Denial::CaseNotFound => row(Code::NotFound, reason, "the platform has no such request of a person"),
        Denial::ObjectedTo => row(
            Code::FailedPrecondition,
            reason,
            "the subject objects to decisions by machine, and the purpose makes them",
        ),
        Denial::CaseNotDone => row(Code::FailedPrecondition, reason, "what the request asks is not done yet"),
        Denial::CaseEnded => {
            row(Code::FailedPrecondition, reason, "the request was answered or refused before")
        }
        Denial::CaseStateUnsuitable => row(
            Code::FailedPrecondition,
            reason,
            "another step of the request comes first, or this one was taken already",
        ),
        Denial::BreachNotFound => row(Code::NotFound, reason, "the platform has no such breach"),
        Denial::BreachClosed => row(Code::FailedPrecondition, reason, "the breach has ended"),
        Denial::BreachNotAssessed => row(
            Code::FailedPrecondition,
            reason,
            "the log was not looked through yet for whom the breach reaches, as it is known now",
        ),
        Denial::BreachNotTold => {
            row(Code::FailedPrecondition, reason, "the authority, or the people, are to be told first")
        }
        Denial::BreachToldBefore => {
            row(Code::FailedPrecondition, reason, "they were told of the breach before")
        }
        Denial::CopyNotFound => row(Code::NotFound, reason, "the platform has no such copy"),
        Denial::CopyEnded => row(Code::FailedPrecondition, reason, "the copy has ended before"),
        Denial::BackupNotConfigured => {
            row(Code::FailedPrecondition, reason, "the vault's configuration names no place for backups")
        }
        Denial::BackupRunning => row(Code::FailedPrecondition, reason, "a backup is not done yet"),
        Denial::BackupNotFound => row(Code::NotFound, reason, "no such backup"),
        Denial::PlatformClosed => row(
            Code::FailedPrecondition,
            reason,
            "the platform was restored from a backup, and two people must open it first",
        ),
        Denial::PlatformNotClosed => row(Code::FailedPrecondition, reason, "the platform is open"),
        Denial::DocumentsNotConfigured => {
            row(Code::FailedPrecondition, reason, "the vault's configuration names no place for documents")
        }
        Denial::DocumentNotFound => row(Code::NotFound, reason, "no such document, or no such side of it"),
        Denial::DocumentExists => row(
            Code::AlreadyExists,
            reason,
            "the side is held in another version than the one that is to be replaced",
        ),
        Denial::TooManyDocuments => row(
            Code::ResourceExhausted,
            reason,
            "the side has as many versions, or the subject as many open uploads, as there may be",
        ),
        Denial::DocumentTooLarge => row(
            Code::InvalidArgument,
            reason,
            "the content is larger than the policy allows, or than declared",
        ),
        Denial::MediaTypeNotAllowed => {
            row(Code::InvalidArgument, reason, "the content is no JPEG, PNG, WebP, HEIF or PDF")
        }
        Denial::ContentDiffers => {
            row(Code::InvalidArgument, reason, "the content has another SHA-256 than was declared")
        }
        Denial::UploadIncomplete => row(
            Code::FailedPrecondition,
            reason,
            "the stream ended before all bytes were there; carry the upload on",
        ),
        Denial::UploadNotFound => row(Code::NotFound, reason, "no such upload that is not done"),
        Denial::UploadMoved => row(
            Code::Aborted,
            reason,
            "the upload does not stand where the stream begins, or another stream carries it on",
        ),
        Denial::StorageOutside => row(
            Code::FailedPrecondition,
            reason,
            "data lies outside the declared sites; nothing new is stored until the operator has mended it",
        ),
        Denial::CollectionRunning => row(
            Code::FailedPrecondition,
            reason,
            "a collection of the platform's documents is not done yet, or is held since a restore",
        ),
        Denial::DataDamaged => {
            row(Code::DataLoss, reason, "stored data fails its authentication; the operator has been told")
        }
    }
}

/// The row of any error.
#[must_use]
pub const fn error_row(error: &VaultError) -> Row {
    match error {
        VaultError::Invalid(_) => {
            row(Code::InvalidArgument, "INVALID_FIELDS", "the request has invalid fields")
        }
        VaultError::MistypedToken => {
            row(Code::InvalidArgument, "TOKEN_MALFORMED", "the text is not a token: it was mistyped or cut")
        }
        VaultError::Denied(denial) => denial_row(*denial),
        VaultError::Proposed(_) => SECOND_PERSON_REQUIRED,
        VaultError::UnknownCaller => {
            row(Code::Unauthenticated, "CALLER_UNKNOWN", "the client certificate names no enrolled caller")
        }
        VaultError::KeyNotPinned => row(
            Code::Unauthenticated,
            "KEY_NOT_PINNED",
            "the caller's certificate has another key than its pins",
        ),
        VaultError::StaffKeyNotEnrolled => row(
            Code::Unauthenticated,
            "STAFF_KEY_NOT_ENROLLED",
            "the certificate's key is not one that two people attested to live on the person's hardware",
        ),
        VaultError::CertificateBlocked => {
            row(Code::Unauthenticated, "CERTIFICATE_BLOCKED", "the client certificate is on the block list")
        }
        VaultError::CertificateNotTrusted => row(
            Code::Unauthenticated,
            "CERTIFICATE_NOT_TRUSTED",
            "the client certificate is not trusted any more",
        ),
        VaultError::Overloaded => {
            row(Code::ResourceExhausted, "OVERLOADED", "too many calls wait for this platform")
        }
        VaultError::Contended => row(Code::Aborted, "CONTENDED", "the data kept changing; try again"),
        VaultError::MirrorBehind => {
            row(Code::Unavailable, "MIRROR_BEHIND", "done, but not mirrored yet; repeat the same request")
        }
        VaultError::Unavailable => {
            row(Code::Unavailable, "UNAVAILABLE", "the vault cannot serve now; nothing was released")
        }
    }
}

/// Every row, for the documentation and its test.
#[must_use]
pub fn table() -> Vec<Row> {
    let errors = [
        VaultError::Invalid(Vec::new()),
        VaultError::MistypedToken,
        VaultError::UnknownCaller,
        VaultError::KeyNotPinned,
        VaultError::StaffKeyNotEnrolled,
        VaultError::CertificateBlocked,
        VaultError::CertificateNotTrusted,
        VaultError::Overloaded,
        VaultError::Contended,
        VaultError::MirrorBehind,
        VaultError::Unavailable,
    ];
    errors
        .iter()
        .map(error_row)
        .chain(Denial::ALL.iter().copied().map(denial_row))
        .chain([
            SECOND_PERSON_REQUIRED,
            DEADLINE_EXCEEDED,
            CALLER_LIMITED,
            MESSAGE_MALFORMED,
            MESSAGE_TOO_LARGE,
        ])
        .collect()
}

/// A client's limit on a call, or the vault's own.
pub const DEADLINE_EXCEEDED: Row = row(
    Code::DeadlineExceeded,
    "DEADLINE_EXCEEDED",
    "the call took longer than its client waits, or than the vault allows",
);
/// More calls of one caller than a process takes.
pub const CALLER_LIMITED: Row =
    row(Code::ResourceExhausted, "CALLER_LIMITED", "the caller has too many calls at once, or in a second");
/// A proposal, of a call that cannot answer it as such.
pub const SECOND_PERSON_REQUIRED: Row = row(
    Code::FailedPrecondition,
    "SECOND_PERSON_REQUIRED",
    "nothing is done yet: another person must approve this",
);
/// A message that does not decode.
pub const MESSAGE_MALFORMED: Row =
    row(Code::InvalidArgument, "MESSAGE_MALFORMED", "the message is not one of this call's type");
/// A message beyond the transport's limit.
pub const MESSAGE_TOO_LARGE: Row =
    row(Code::InvalidArgument, "MESSAGE_TOO_LARGE", "the message is larger than the vault takes");

fn details(error: &VaultError, reason: &'static str) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    match error {
        VaultError::Invalid(violations) => {
            let violations: Vec<_> = violations
                .iter()
                .take(MAX_VIOLATIONS)
                .map(|v| FieldViolation::new(&*v.field, &*v.rule))
                .collect();
            details.set_bad_request(violations);
        }
        VaultError::Overloaded
        | VaultError::Unavailable
        | VaultError::Contended
        | VaultError::MirrorBehind => {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        VaultError::MistypedToken
        | VaultError::Denied(_)
        | VaultError::Proposed(_)
        | VaultError::UnknownCaller
        | VaultError::KeyNotPinned
        | VaultError::StaffKeyNotEnrolled
        | VaultError::CertificateBlocked
        | VaultError::CertificateNotTrusted => {}
    }
    details
}

/// The status of a whole call.
#[must_use]
pub fn status(error: &VaultError) -> Status {
    let row = error_row(error);
    Status::with_error_details(row.code, row.message, details(error, row.reason))
}

/// The status of a call that ran into its client's limit, or the vault's own.
#[must_use]
pub fn deadline_exceeded() -> Status {
    plain(DEADLINE_EXCEEDED)
}

/// The status of a call that its caller may not begin yet.
#[must_use]
pub fn caller_limited(retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(CALLER_LIMITED.reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(CALLER_LIMITED.code, CALLER_LIMITED.message, details)
}

/// The status of what still ran when the server ended.
#[must_use]
pub fn shutting_down() -> Status {
    status(&VaultError::Unavailable)
}

/// What the transport refused before a service saw it, as this contract says it. None for every other status: those of
/// the services carry details already.
#[must_use]
pub fn of_transport(status: &Status) -> Option<Status> {
    let rows = [(Code::Internal, MESSAGE_MALFORMED), (Code::OutOfRange, MESSAGE_TOO_LARGE)];
    let row = rows.into_iter().find(|(code, _)| status.details().is_empty() && status.code() == *code);
    row.map(|(_, row)| plain(row))
}

fn plain(row: Row) -> Status {
    let details = ErrorDetails::with_error_info(row.reason, DOMAIN, HashMap::new());
    Status::with_error_details(row.code, row.message, details)
}

/// The status of one item of a batch.
#[must_use]
pub fn item_status(error: &VaultError) -> tonic_types::Status {
    let status = status(error);
    // The details travel encoded in the status itself; one that cannot be read back loses only its details.
    <tonic_types::Status as prost::Message>::decode(status.details()).unwrap_or_else(|_| {
        tonic_types::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        }
    })
}
