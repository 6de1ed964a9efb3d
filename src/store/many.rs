//! Many rows that are read or written together, by long work on keys.

use super::rows::{Mac, SubjectRow, TokenRow};
use crate::domain::{
    consent::RecordAddress,
    ids::{RecordId, SubjectId, TokenRowId},
    secret::Sealed,
};

/// Many rows that one statement writes.
#[derive(Debug)]
pub enum Many {
    /// Subject keys under another wrap. A row that changed meanwhile keeps what it has.
    Rewrap(Vec<Rewrapped>),
    /// Places of values in the index of another key version. A value that changed meanwhile is not put there.
    FillIndex(IndexMove, Vec<Place>),
    /// Subjects whose reference is hashed under another key version.
    MoveSubjects(Vec<(SubjectRow, Mac)>),
    /// Tokens that are hashed under another key version.
    MoveTokens(Vec<(TokenRow, Mac)>),
}

/// A subject key with its wrap before and now.
#[derive(Debug)]
pub struct Rewrapped {
    /// Whose.
    pub subject: SubjectId,
    /// As it was read.
    pub before: Sealed,
    /// As it is now.
    pub after: Sealed,
}

/// A value's place in the index under two versions of its key.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The record that holds it.
    pub record: RecordId,
    /// Its hash under the version that has it.
    pub from: [u8; 32],
    /// Its hash under the version that gets it.
    pub to: [u8; 32],
}

/// What of a subject is hashed under the index key, for a rotation.
#[derive(Debug)]
pub struct Hashed {
    /// Whose.
    pub subject: SubjectId,
    /// The subject's key.
    pub wrapped_key: Sealed,
    /// The platform's reference.
    pub sealed_reference: Sealed,
    /// Version of the index key under which the reference is.
    pub index_version: u32,
    /// Values that are in the index.
    pub values: Vec<HashedValue>,
    /// Tokens of 12 digits that are not under the new version.
    pub tokens: Vec<(TokenRowId, Sealed)>,
}

/// A current value that is in the index of one key version.
#[derive(Debug)]
pub struct HashedValue {
    /// Where it belongs.
    pub address: RecordAddress,
    /// The value.
    pub sealed_value: Sealed,
    /// Its hash there.
    pub hash: [u8; 32],
    /// Whether it is in the index of the other version too.
    pub filled: bool,
}

/// Versions of the index key between which a rotation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexMove {
    /// The version whose index is whole.
    pub from: u32,
    /// The version whose index is filled.
    pub to: u32,
}
