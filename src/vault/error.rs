//! Why a call was not done. One table maps these to gRPC statuses (`grpc::status`).

use super::proposals::ProposalView;
use crate::policy::decide::Denial;

/// Violations told at once: they travel in trailers, which clients bound to some 8 KiB.
pub const MAX_VIOLATIONS: usize = 16;

/// A field of a request that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `fields[2].value`.
    pub field: String,
    /// The rule it breaks. Never its content.
    pub rule: String,
}

impl Violation {
    /// A violation.
    #[must_use]
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// Why a call was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The request breaks rules of form.
    #[error("the request has invalid fields")]
    Invalid(Vec<Violation>),
    /// The text is not a token: refused before any look-up.
    #[error("not a token")]
    MistypedToken,
    /// Policy, consent or the state of the data does not allow it.
    #[error("denied: {}", .0.as_str())]
    Denied(Denial),
    /// Nothing is done yet: the act waits for a second person. Services answer it as their `proposal`.
    #[error("nothing is done yet: proposal {} waits for a second person", .0.id)]
    Proposed(Box<ProposalView>),
    /// The certificate names no enrolled caller.
    #[error("the caller is not enrolled")]
    UnknownCaller,
    /// The caller pins keys, and its certificate has another.
    #[error("the certificate's key is not pinned")]
    KeyNotPinned,
    /// The certificate's key is not one that two people attested to live on the person's hardware.
    #[error("the certificate's key is no enrolled staff key of the person")]
    StaffKeyNotEnrolled,
    /// The certificate is on the block list.
    #[error("the certificate is blocked")]
    CertificateBlocked,
    /// The certificate's authority is not trusted any more, or its time has ended.
    #[error("the certificate is not trusted any more")]
    CertificateNotTrusted,
    /// The lane is full.
    #[error("too many calls wait for this platform")]
    Overloaded,
    /// Others kept changing the same data.
    #[error("the data kept changing; try again")]
    Contended,
    /// Done and binding, but not in the mirror yet: the same request later gets the acknowledgement.
    #[error("the mirror is behind; ask again with the same request id")]
    MirrorBehind,
    /// The database or the log cannot be used now. Nothing was released.
    #[error("the vault cannot serve now")]
    Unavailable,
}

impl VaultError {
    /// A single invalid field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, rule)])
    }
}

impl From<Denial> for VaultError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// Tells the operator why the database could not be read, and the caller that the vault cannot serve now.
pub(super) fn unreadable<E: std::error::Error + 'static>(error: E) -> VaultError {
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "the database could not be read");
    VaultError::Unavailable
}
