//! What a commit changes of rows that a read by tokens may have brought before.

use std::collections::HashSet;

use super::{Many, Write};
use crate::domain::{
    ids::{RecordId, SubjectId},
    token::TokenHash,
};

/// A row that changed, or that something now stands beside which is read with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// A subject's row, consents, events, or all of it.
    Subject(SubjectId),
    /// A record's current version.
    Record(RecordId),
    /// A token.
    Token(TokenHash),
}

/// What a commit changes.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// These; often none.
    These(Vec<Touched>),
    /// It cannot be said what.
    Anything,
}

impl Changed {
    /// What these writes change. New rows of somebody new are no change: nobody can have read them.
    #[must_use]
    pub fn by(writes: &[Write]) -> Self {
        let new: HashSet<_> = writes
            .iter()
            .filter_map(|write| if let Write::InsertSubject(row) = write { Some(row.id) } else { None })
            .collect();
        let mut touched = Vec::new();
        for write in writes {
            if !add(write, &mut touched) {
                return Self::Anything;
            }
        }
        touched.retain(|one| !matches!(one, Touched::Subject(id) if new.contains(id)));
        Self::These(touched)
    }

    /// Whether anything changes.
    #[must_use]
    pub fn is_any(&self) -> bool {
        match self {
            Self::These(touched) => !touched.is_empty(),
            Self::Anything => true,
        }
    }
}

/// Adds what one write touches. False where that cannot be said.
fn add(write: &Write, touched: &mut Vec<Touched>) -> bool {
    match write {
        Write::UpdateSubject(row, _) | Write::DestroySubject(row) => touched.push(Touched::Subject(row.id)),
        // A record that is new is read by tokens that are new.
        Write::InsertRecord(row) if row.address.version == 1 => {}
        Write::InsertRecord(row) | Write::UpdateRecord(row, _) => {
            touched.push(Touched::Subject(row.address.subject));
        }
        Write::DestroyRecord(record) => touched.push(Touched::Record(*record)),
        Write::UpdateToken(row, _) => touched.push(Touched::Token(row.hash)),
        Write::InsertConsent(row) | Write::UpdateConsent(row, _) => {
            touched.push(Touched::Subject(row.consent.subject));
        }
        Write::InsertEvent(row) => touched.push(Touched::Subject(row.subject)),
        Write::Many(Many::MoveSubjects(rows)) => {
            touched.extend(rows.iter().map(|(row, _)| Touched::Subject(row.id)));
        }
        Write::Many(Many::Reseal(all)) => {
            touched.extend(all.iter().map(|one| Touched::Subject(one.key.id)));
        }
        // They were found by other hashes, which the rows no longer tell.
        Write::Many(Many::MoveTokens(_)) => return false,
        Write::InsertSubject(_)
        | Write::InsertToken(_)
        | Write::NoToken(_)
        | Write::InsertCase(_)
        | Write::UpdateCase(..)
        | Write::InsertBreach(_)
        | Write::UpdateBreach(..)
        | Write::PutCopy(..)
        | Write::InsertReceipt(_)
        | Write::InsertIndex(_)
        | Write::EndClaims(_)
        | Write::Claim(_)
        | Write::DeleteIndex(_)
        | Write::InsertRequest(_)
        | Write::ForgetRequests { .. }
        | Write::Spend { .. }
        | Write::InsertPolicy(_)
        | Write::PutCaller(..)
        | Write::PutPerson(..)
        | Write::PutRole(..)
        | Write::PutStaffKey(..)
        | Write::PutHorizon(..)
        | Write::PutRecipient(..)
        | Write::PutLimit(..)
        | Write::PutClosure(..)
        | Write::InsertKey(_)
        | Write::UpdateKey(..)
        | Write::Many(Many::FillIndex(..))
        | Write::DropIndex(..)
        | Write::InsertOperation(_)
        | Write::UpdateOperation(..)
        | Write::InsertProposal(_)
        | Write::EndProposal(..)
        | Write::InsertDocument(_)
        | Write::UpdateDocument(..)
        | Write::DeleteDocument(_)
        | Write::InsertUpload(_)
        | Write::TakeUpload(..)
        | Write::EndUpload(_)
        | Write::DropUpload(_)
        | Write::CreatePlatform(_) => {}
    }
    true
}
