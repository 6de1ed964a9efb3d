//! What a token stands for, without its value.

use super::{
    Vault,
    access::Call,
    act::Asker,
    context::Context,
    deed::{Deed, Deeded, Hand},
    detokenize::hashes_of,
    error::VaultError,
    replay::ItemOutcome,
    revise::own_token,
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        field::FieldType,
        ids::SubjectId,
        names::{FieldName, PurposeName},
        subject::ValueSource,
        time::Timestamp,
        token::{AnyToken, TokenMode, TokenState},
    },
    policy::decide::Denial,
    store::ReadKeys,
};

/// What a token stands for.
#[derive(Debug)]
pub struct TokenDescription {
    /// Field.
    pub field: FieldName,
    /// Type of the field.
    pub field_type: FieldType,
    /// Subject.
    pub subject: SubjectId,
    /// When the token was made.
    pub created_at: Timestamp,
    /// Mode.
    pub mode: TokenMode,
    /// State.
    pub state: TokenState,
    /// End of an expiring token.
    pub expires_at: Option<Timestamp>,
    /// Whether it has ended by time.
    pub expired: bool,
    /// Version of the record that it answers.
    pub record_version: u32,
    /// Where the value came from.
    pub source: ValueSource,
    /// Purposes of the caller that cover the field.
    pub purposes: Vec<PurposeName>,
}

impl Vault {
    /// Describes a token to a caller that stores its field or one of whose purposes covers it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn describe_token(
        &self,
        caller: &Caller,
        asker: Asker,
        token: AnyToken,
    ) -> Result<TokenDescription, VaultError> {
        self.run(caller.platform, caller, asker, Describe { token }).await
    }
}

struct Describe {
    token: AnyToken,
}

impl Deed for Describe {
    type Answer = TokenDescription;

    fn call(&self) -> Call {
        Call::DescribeToken
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.tokens.extend(hashes_of(context, &self.token));
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<TokenDescription>, VaultError> {
        let scene = hand.scene;
        let (found, policy) = own_token(scene, hand.caller, &self.token)?;
        let field = &found.record.address.field;
        let declared = policy.field(field).ok_or(Denial::FieldNotAllowed)?;
        let covering = policy.purposes_of(hand.caller).filter(|(_, purpose)| purpose.covers(field));
        let description = TokenDescription {
            field: field.clone(),
            field_type: declared.field_type,
            subject: found.subject.id,
            created_at: found.token.created_at,
            mode: found.token.mode,
            state: found.token.state,
            expires_at: found.token.expires_at,
            expired: found.token.expires_at.is_some_and(|end| end <= scene.now),
            record_version: found.record.address.version,
            source: found.record.source,
            purposes: covering.map(|(name, _)| name.clone()).collect(),
        };
        hand.log(|entry| Entry {
            field: Some(field.to_string()),
            subject: Some((*found.subject.id.as_bytes()).into()),
            record: Some((*found.record.address.record.as_bytes()).into()),
            token: Some((*found.token.id.as_bytes()).into()),
            ..entry
        })?;
        Ok(Deeded::answer(description))
    }
}
