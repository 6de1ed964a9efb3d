//! What a batch needs to see.

use std::collections::BTreeSet;

use super::{IndexKeyOfValue, ReferenceKey};
use crate::domain::{
    ids::{CallerId, ConsentId, DocumentId, ProposalId, RequestId, SubjectId, TokenRowId},
    operation::BudgetWindow,
    token::TokenHash,
};

/// What a batch needs to see. Sets, so that each key is looked up once.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says of one kind of rows whether it is wanted")]
pub struct ReadKeys {
    /// Tokens, with their records, subjects, and those subjects' consents and events.
    pub tokens: BTreeSet<TokenHash>,
    /// The same by row id, with the sealed token.
    pub token_rows: BTreeSet<TokenRowId>,
    /// Subjects by the platform's reference, with their current records, consents and events.
    pub references: BTreeSet<ReferenceKey>,
    /// The same by id.
    pub subjects: BTreeSet<SubjectId>,
    /// Records that hold a value, with their subjects, consents and events; at most [`super::MAX_INDEX_HITS`] in all.
    pub values: BTreeSet<IndexKeyOfValue>,
    /// Single consents.
    pub consents: BTreeSet<ConsentId>,
    /// Whether to bring the deterministic token of every record found.
    pub deterministic: bool,
    /// Requests that may have been done already.
    pub requests: BTreeSet<(CallerId, RequestId)>,
    /// Windows of budgets.
    pub budgets: BTreeSet<BudgetWindow>,
    /// Objects whose open operations are wanted.
    pub operations_on: BTreeSet<[u8; 16]>,
    /// Whether to bring the open operations on every subject found.
    pub operations_of_found: bool,
    /// Whether to say of every record found if another record claims its value as unique.
    pub rivals_of_found: bool,
    /// Proposals.
    pub proposals: BTreeSet<ProposalId>,
    /// Documents, with their subjects and those subjects' consents and events.
    pub documents: BTreeSet<DocumentId>,
    /// Uploads that are not done, with their subjects likewise.
    pub uploads: BTreeSet<(CallerId, RequestId)>,
    /// Whether to bring the documents and uploads of every subject found.
    pub documents_of_found: bool,
    /// Whether to say of every subject found if anybody ever demanded that it is destroyed.
    pub demands_of_found: bool,
}

impl ReadKeys {
    /// Whether nothing is wanted but tokens with what stands behind them, and what was asked and spent before.
    #[must_use]
    pub fn are_of_tokens(&self) -> bool {
        let Self {
            tokens: _,
            requests: _,
            budgets: _,
            token_rows,
            references,
            subjects,
            values,
            consents,
            deterministic,
            operations_on,
            operations_of_found,
            rivals_of_found,
            proposals,
            documents,
            uploads,
            documents_of_found,
            demands_of_found,
        } = self;
        token_rows.is_empty()
            && references.is_empty()
            && subjects.is_empty()
            && values.is_empty()
            && consents.is_empty()
            && operations_on.is_empty()
            && proposals.is_empty()
            && documents.is_empty()
            && uploads.is_empty()
            && !*documents_of_found
            && !*demands_of_found
            && !*deterministic
            && !*operations_of_found
            && !*rivals_of_found
    }

    /// Whether nothing is wanted but tokens with what stands behind them.
    #[must_use]
    pub fn are_tokens_alone(&self) -> bool {
        self.are_of_tokens() && self.requests.is_empty() && self.budgets.is_empty()
    }
}
