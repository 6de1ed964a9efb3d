//! The proof without which nothing decrypts.

use super::consent::RecordAddress;

/// Proof that policy permitted the release of one record. `crypto` opens a value only against one.
///
/// `policy::decide::Permit` is the only implementation (a test of the architecture holds it to that), and only
/// `policy::decide::decide` can make a `Permit`. The trait exists so that `crypto` need not know `policy`.
pub trait ReleaseAuthority {
    /// The record that may be opened.
    fn address(&self) -> &RecordAddress;
}
