//! What a token stands for, without its value; and who a caller is.

use super::{
    Vault,
    act::{Act, Asker, Flow, Found, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::digest::token_hash,
    domain::{
        caller::{Caller, Role},
        field::FieldType,
        ids::SubjectId,
        names::{FieldName, PurposeName},
        time::Timestamp,
        token::{Token, TokenHash},
    },
    policy::decide::{Denial, disclosed, require_role},
    store::ReadKeys,
};

const CALL: &str = "VaultService/DescribeToken";

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
    /// Purposes of the caller that cover the field.
    pub purposes: Vec<PurposeName>,
}

impl Vault {
    /// Describes a token to a caller one of whose purposes covers its field.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn describe_token(
        &self,
        caller: &Caller,
        asker: Asker,
        token: &Token,
    ) -> Result<TokenDescription, VaultError> {
        let (reply, waiting) = reply();
        let act = DescribeAct { asker, hash: token_hash(token), answer: Err(VaultError::Unavailable), reply };
        self.submit(caller, act)?;
        waiting.answer().await
    }
}

struct DescribeAct {
    asker: Asker,
    hash: TokenHash,
    answer: Result<TokenDescription, VaultError>,
    reply: Reply<TokenDescription>,
}

impl Act for DescribeAct {
    fn writes(&self) -> bool {
        false
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, _context: &Context, keys: &mut ReadKeys) {
        keys.tokens.insert(self.hash);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        let looked_up = scene.token(&self.hash);
        let found = looked_up.unwrap_or(None);
        let described = looked_up.and_then(|found| describe(scene, &caller, found));
        let entry = match &described {
            Ok(_) => scene.entry(CALL, &self.asker, &caller, Verdict::Done)?,
            Err(reason) => scene.denial(CALL, &self.asker, &caller, *reason)?,
        };
        plan.entries.push(Entry {
            field: found.map(|f| f.record.address.field.to_string()),
            subject: found.map(|f| (*f.subject.id.as_bytes()).into()),
            record: found.map(|f| (*f.record.address.record.as_bytes()).into()),
            token: found.map(|f| (*f.token.id.as_bytes()).into()),
            ..entry
        });
        self.answer = described.map_err(|reason| {
            let address = found.map(|f| &f.record.address);
            scene.policy().map_or(reason, |policy| disclosed(reason, policy, &caller, address)).into()
        });
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.and(answer));
    }
}

fn describe(
    scene: &Scene<'_>,
    caller: &Caller,
    found: Option<Found<'_>>,
) -> Result<TokenDescription, Denial> {
    require_role(caller, Role::Service)?;
    let policy = scene.policy()?;
    let found = found.ok_or(Denial::TokenNotFound)?;
    let field = &found.record.address.field;
    let purposes: Vec<_> =
        policy.purposes_of(caller).filter(|(_, p)| p.covers(field)).map(|(name, _)| name.clone()).collect();
    let declared = policy.field(field).ok_or(Denial::FieldNotAllowed)?;
    if purposes.is_empty() {
        return Err(Denial::FieldNotAllowed);
    }
    Ok(TokenDescription {
        field: field.clone(),
        field_type: declared.field_type,
        subject: found.subject.id,
        created_at: found.token.created_at,
        purposes,
    })
}
